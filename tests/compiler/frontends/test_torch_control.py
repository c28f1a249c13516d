"""Control flow, complex numbers and NKI kernels within PyTorch modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emuron import nki
from emuron.compiler.compile import compile_model
from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph
from emuron.errors import UnsupportedOpError
from emuron.nki import isa as nisa
from emuron.nki import language as nl

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from emuron.compiler.frontends.torch import to_graph  # noqa: E402

FLOAT32_ERROR = 2e-6
"""A few float32 operations on values up to 8."""


def _check(module: Any, *inputs: Any) -> Graph:
    graph = to_graph(module, inputs)
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(module(*inputs))
    named = {v.name: t.numpy() for v, t in zip(graph.inputs, inputs, strict=True)}
    found = Evaluator(graph).run(named)
    for ours, theirs in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=FLOAT32_ERROR, rtol=FLOAT32_ERROR)
    return graph


class Branch(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Any) -> Any:
        return torch.cond(
            x.sum() > 0, lambda x: x * self.weight + torch.arange(3), lambda x: x - 1, (x,)
        )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_branch_is_taken_by_the_data(sign):
    graph = _check(Branch(), torch.full((3,), sign))
    assert {"cond", "select"} & {n.op.name for n in graph.nodes}


class Decay(torch.nn.Module):
    def forward(self, x: Any, rate: Any) -> Any:
        from torch._higher_order_ops.scan import scan

        def step(state: Any, row: Any) -> Any:
            state = state * rate + row
            return state, state.sin()

        return scan(step, torch.zeros(3), x, dim=0)


def test_a_scan_carries_its_state():
    _check(Decay(), torch.linspace(-1, 1, 12).reshape(4, 3), torch.tensor(0.5))


class Doubled(torch.nn.Module):
    def forward(self, x: Any, most: Any) -> Any:
        from torch._higher_order_ops.while_loop import while_loop

        return while_loop(
            lambda i, x: (i < 5) & (x.sum() < most),
            lambda i, x: (i + 1, x * 2),
            (torch.tensor(0), x),
        )


@pytest.mark.parametrize("most", [3.0, 1e9])
def test_a_loop_ends_by_the_data(most):
    _check(Doubled(), torch.full((2,), 0.25), torch.tensor(most))


class Rotary(torch.nn.Module):
    """Rotary embedding by complex numbers, as the first Llama wrote it."""

    def __init__(self) -> None:
        super().__init__()
        angles = torch.linspace(0, 2, 8).reshape(4, 2)
        self.register_buffer("turns", torch.polar(torch.ones(4, 2), angles))

    def forward(self, x: Any) -> Any:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.turns[None, :, None]).flatten(3)


def test_complex_turns_become_pairs_of_real_numbers():
    graph = _check(Rotary(), torch.linspace(-2, 2, 48).reshape(1, 4, 3, 4))
    assert {str(v.type.dtype) for n in graph.nodes for v in n.outputs} == {"float32"}


class ComplexResult(torch.nn.Module):
    def forward(self, x: Any) -> Any:
        return torch.view_as_complex(x)


def test_complex_numbers_do_not_leave_or_enter_a_graph():
    with pytest.raises(UnsupportedOpError, match="returns complex numbers"):
        to_graph(ComplexResult(), torch.ones(3, 2))
    with pytest.raises(UnsupportedOpError, match="'input' is complex"):
        to_graph(torch.nn.Identity(), {"input": torch.ones(3, dtype=torch.complex64)})


@nki.jit
def scaled_sum(x: Any, y: Any, scale: float) -> Any:
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tiles = [nl.ndarray(x.shape, x.dtype, buffer=nl.sbuf) for _ in range(2)]
    for tile, source in zip(tiles, (x, y), strict=True):
        nisa.dma_copy(tile, source)
    nisa.tensor_scalar(tiles[1], tiles[1], nl.multiply, scale)
    nisa.tensor_tensor(tiles[0], tiles[0], tiles[1], nl.add)
    nisa.dma_copy(out, tiles[0])
    return out


@torch.library.custom_op("emuron_tests::scaled_sum", mutates_args=())
def _scaled_sum(x: torch.Tensor, y: torch.Tensor, scale: float) -> torch.Tensor:
    return nki.simulate(scaled_sum)(x, y, scale=scale)


@_scaled_sum.register_fake
def _(x: Any, y: Any, scale: float) -> Any:
    return torch.empty_like(x)


@torch.library.custom_op("emuron_tests::more", mutates_args=())
def _more(x: torch.Tensor) -> torch.Tensor:
    return nki.simulate(scaled_sum)(x, x, scale=1.0) + 1


@_more.register_fake
def _(x: Any) -> Any:
    return torch.empty_like(x)


class WithKernel(torch.nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(6, 6)
        self.function = function

    def forward(self, x: Any) -> Any:
        return torch.relu(self.function(self.layer(x), x))


def test_a_kernel_within_a_module_is_an_operator_of_the_graph():
    torch.manual_seed(0)
    module = WithKernel(lambda x, y: torch.ops.emuron_tests.scaled_sum(x, y, 0.5))
    x = torch.linspace(-1, 1, 24).reshape(4, 6)
    graph = _check(module, x)
    assert [n.op.name for n in graph.nodes] == ["linear", "kernel_call", "relu"]
    compiled = compile_model(graph, on="inf2.xlarge")
    (by_op,), (by_instruction,) = (
        compiled.run({"x": x.numpy()}, fidelity=f).values() for f in ("operator", "instruction")
    )
    np.testing.assert_array_equal(by_op, by_instruction)


def test_an_operator_that_computes_around_its_kernel_is_refused():
    module = WithKernel(lambda x, y: torch.ops.emuron_tests.more(x))
    with pytest.raises(UnsupportedOpError, match="emuron_tests::more is no single NKI kernel"):
        to_graph(module, torch.ones(4, 6))

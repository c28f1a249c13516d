"""Operators without a kernel run on the host between programs: same values, more time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from emuron.compiler.compile import compile_model
from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import Array, Graph, Node, Op, TensorType, verify
from emuron.compiler.ops import Autocast, EvalContext, GraphBuilder
from emuron.compiler.ops.shaping import Permute
from emuron.compiler.passes.partition import partition
from emuron.compiler.pipeline import CompileOptions, compile_graph, optimize
from emuron.errors import UnsupportedOpError
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import float32
from emuron.numerics.matmul import sums_in_order
from emuron.runtime.device import Device
from emuron.runtime.executable import DevicePart, HostPart

INF2 = instance("inf2.xlarge")
ordered = pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")


@dataclass(frozen=True, slots=True)
class Unplaceable(Op):
    """tanh that the compiler has no kernel for."""

    name: ClassVar[str] = "tanh"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return types

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        return (ev.backend.tanh(arrays[0]),)

    def lower(self, k: Any, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        raise UnsupportedOpError("this test forbids it")


def without_kernels(graph: Graph, name: str) -> Graph:
    """Return the graph with the ops called `name` replaced by one without a kernel."""

    def changed(node: Node) -> Node:
        return replace(node, op=Unplaceable()) if node.op.name == name else node

    return replace(graph, nodes=tuple(changed(node) for node in graph.nodes))


def chain(layers: int) -> Graph:
    """Return layers of a product, a tanh without a kernel and a view that it alone reads."""
    b = GraphBuilder("chain")
    x = b.input("x", TensorType((4, 16), float32))
    random = np.random.default_rng(0)
    for layer in range(layers):
        with b.scope(f"layer.{layer}"), b.at(f"model.py:{10 + layer}"):
            w = random.normal(size=(16, 16)).astype(np.float32)
            weight = b.parameter(f"w{layer}", TensorType((16, 16), float32), lambda w=w: w)
            x = b.one(Unplaceable(), b.one(Permute((0, 1)), b.linear(x, weight)))
    b.output("y", x)
    return b.finish()


@ordered
@pytest.mark.parametrize("mode", ["none", "matmult", "all"])
def test_a_graph_in_parts_gives_the_bits_of_evaluate(mode: str) -> None:
    graph, cast = chain(3), Autocast(mode)
    inputs = {"x": np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)}
    executable = compile_graph(graph, INF2.chip.core, CompileOptions(cast))
    kinds = [type(part) for part in executable.parts]
    assert kinds == [DevicePart, HostPart] * 3
    executed = Device(INF2).run(executable, inputs)["y"]
    evaluated = Evaluator(optimize(graph), "numpy", cast).run(inputs)["y"]
    np.testing.assert_array_equal(executed, evaluated)


@ordered
def test_a_model_whose_activation_has_no_kernel_gives_the_bits_of_evaluate(
    bert: Callable[..., HFModel], inputs_of: Callable[..., dict[str, np.ndarray]]
) -> None:
    graph = without_kernels(bert(num_hidden_layers=3).encoder_graph(1, 12), "gelu")
    model = compile_model(graph)
    inputs = inputs_of(graph)
    operator, executed = model.run(inputs), model.run(inputs, fidelity="instruction")
    assert [op.name for op in model.executable.host_ops] == ["tanh"] * 3
    for name, array in operator.items():
        np.testing.assert_array_equal(array, executed[name])


def test_layers_that_are_alike_share_one_program() -> None:
    executable = compile_graph(chain(5), INF2.chip.core, CompileOptions())
    programs = {part.program for part in executable.programs}
    assert len(executable.programs) == 5
    assert len(programs) == 1
    loaded = [part.parameters[0].load() for part in executable.programs]
    assert not np.array_equal(loaded[0], loaded[1])


def test_each_trip_costs_a_launch_copies_and_the_operator() -> None:
    model = compile_model(chain(3))
    latency, host = model.latency, INF2.host
    assert latency.launch_us == 3 * host.framework_launch_us
    crossing = 4 * 16 * 4  # bytes of the values that enter and leave each program
    per_us = INF2.chip.host_dma_gb_per_s * 1000
    assert latency.copy_in_us == pytest.approx(3 * crossing / per_us)
    assert latency.copy_out_us == pytest.approx(3 * crossing / per_us)
    moved = 2 * crossing / host.op_gb_per_s / 1000  # more than its 64 operations take
    assert latency.host_us == pytest.approx(3 * (host.op_launch_us + moved))
    around_us = latency.total_us - latency.device_us
    assert model.timing.busy_ps["host"] / 1e6 == pytest.approx(around_us, rel=1e-6)
    assert model.timing.total_ps / 1e6 == pytest.approx(latency.total_us, rel=1e-6)


def test_the_report_names_the_operators_and_the_share_on_the_device() -> None:
    model = compile_model(chain(4))
    summary = model.summary()
    assert summary["ops_on_device"] == pytest.approx(8 / 12)
    assert summary["flops_on_device"] == pytest.approx(32 / 33)  # 2·16 of a product against 1
    assert [op["place"] for op in summary["host_ops"]] == [f"model.py:{10 + i}" for i in range(4)]
    (warning,) = model.report().warnings
    assert "tanh runs on the host, 4 times (model.py:10, model.py:11, model.py:12 …)" in warning
    assert "this test forbids it" in warning


def test_strict_refuses_what_would_run_on_the_host() -> None:
    with pytest.raises(UnsupportedOpError, match=r"tanh at model\.py:10.*forbids it"):
        _ = compile_model(chain(2), strict=True).executable


def test_a_view_between_two_operators_of_the_host_goes_with_them() -> None:
    b = GraphBuilder("pair")
    x = b.input("x", TensorType((4, 6), float32))
    first = b.one(Unplaceable(), b.add(x, 1.0))
    b.output("y", b.add(b.one(Unplaceable(), b.reshape(first, 6, 4)), 2.0))
    graph = b.finish()
    on_host = {node for node in graph.nodes if isinstance(node.op, Unplaceable)}
    parts = partition(graph, on_host)
    assert [part.on_host for part in parts] == [False, True, False]
    assert [node.op.name for node in parts[1].graph.nodes] == ["tanh", "reshape", "tanh"]
    for part in parts:
        verify(part.graph)


def test_outputs_that_nothing_computes_leave_a_graph_in_parts() -> None:
    b = GraphBuilder("idle")
    x = b.input("x", TensorType((2, 3), float32))
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    weight = b.parameter("w", TensorType((2, 3), float32), lambda: array)
    b.output("y", b.one(Unplaceable(), x))
    b.output("same", x)
    b.output("weight", weight)
    given = {"x": array + 1}
    model = compile_model(b.finish())
    for name, expected in model.run(given).items():
        found = model.run(given, fidelity="instruction")[name]
        np.testing.assert_array_equal(found, expected)


def test_a_graph_wholly_on_the_host_is_timed_and_reported() -> None:
    b = GraphBuilder("host")
    b.output("y", b.one(Unplaceable(), b.input("x", TensorType((4, 16), float32))))
    model = compile_model(b.finish())
    assert model.summary()["ops_on_device"] == 0
    (warning,) = model.report().warnings
    assert "tanh runs on the host, once" in warning

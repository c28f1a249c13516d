"""Products whose weights are too tall for one tile in SBUF."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import bfloat16
from emuron.numerics.matmul import sums_in_order
from emuron.numerics.rounding import round_to
from emuron.runtime.device import Device

INF2 = instance("inf2.xlarge")


def product(rows: int, inputs: int, outputs: int) -> Graph:
    """Return tanh(x · wᵀ + b) + y in bfloat16."""
    b = GraphBuilder("tall")
    x = b.input("x", TensorType((rows, inputs), bfloat16))
    y = b.input("y", TensorType((rows, outputs), bfloat16))
    weight, bias = (
        b.parameter(name, TensorType(shape, bfloat16), lambda shape=shape: normal(shape, 1))
        for name, shape in (("w", (outputs, inputs)), ("b", (outputs,)))
    )
    b.output("z", b.add(b.tanh(b.linear(x, weight, bias)), y))
    return b.finish()


def normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return round_to(random.normal(size=shape).astype(np.float32) / 16, bfloat16)


@pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(3, 3300, 70), (130, 3300, 1100), (1100, 3200, 512)]
)
def test_a_streamed_weight_gives_the_bits_of_evaluate(rows: int, inputs: int, outputs: int) -> None:
    graph = product(rows, inputs, outputs)
    given = {"x": normal((rows, inputs), 2), "y": normal((rows, outputs), 3)}
    executable = compile_graph(graph, INF2.chip.core, CompileOptions(Autocast()))
    executed = Device(INF2).run(executable, given)["z"]
    expected = Evaluator(graph, "numpy", Autocast()).run(given)["z"]
    np.testing.assert_array_equal(executed.astype(np.float32), expected.astype(np.float32))

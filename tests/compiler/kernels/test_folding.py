"""Few wide rows, as a decoder's tokens are, give the bits of evaluate and keep the engines busy."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.kernels.folding import folds
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.numerics.matmul import sums_in_order
from emuron.runtime.device import Device

INF2 = instance("inf2.xlarge")
ordered = pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")


@pytest.mark.parametrize(
    ("rows", "columns", "found"),
    [
        *((1, 4096, True), (1, 12288, True), (8, 4096, True), (2, 8192, True), (16, 256, True)),
        *((2, 12288, False), (17, 4096, False), (1, 128, False), (1, 4100, False), (0, 256, False)),
    ],
)
def test_few_wide_rows_fold_if_tiles_do_not_cut_them(rows: int, columns: int, found: bool) -> None:
    assert folds(rows, columns) == found


def block(rows: int, columns: int, dtype: str) -> tuple[Graph, dict[str, np.ndarray]]:
    """Return norm, two linear layers and a sum, as a decoder's MLP has them."""
    b, random = GraphBuilder("block"), np.random.default_rng(0)
    x = b.input("x", TensorType((rows, 1, columns), dtype))

    def weight(name: str, *shape: int):
        array = random.standard_normal(shape, np.float32) * np.float32(0.1)
        return b.parameter(name, TensorType(shape, dtype), lambda: array)

    normed = b.rms_norm(x, weight("norm", columns), epsilon=1e-5)
    hidden = b.linear(normed, weight("up", 96, columns))
    summed = b.add(x, b.linear(hidden, weight("down", columns, 96)))
    b.output("sum", summed)
    b.output("normed", b.rms_norm(b.add(summed, x), epsilon=1e-5))
    array = random.standard_normal((rows, 1, columns), np.float32)
    return b.finish(), {"x": array.astype(x.type.dtype.np)}


@ordered
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 384), (3, 256), (4, 4096), (9, 2048)])
def test_folded_rows_give_the_bits_of_evaluate(rows: int, columns: int, dtype: str) -> None:
    graph, inputs = block(rows, columns, dtype)
    cast = Autocast("matmult")
    executed = Device(INF2).run(compile_graph(graph, INF2.chip.core, CompileOptions(cast)), inputs)
    for name, expected in Evaluator(graph, autocast=cast).run(inputs).items():
        np.testing.assert_array_equal(executed[name], expected, name)


def test_a_token_is_normalised_much_faster_than_element_by_element() -> None:
    b = GraphBuilder("norm")
    x = b.input("x", TensorType((1, 8192), "float32"))
    b.output("y", b.rms_norm(x, epsilon=1e-5))
    program = compile_graph(b.finish(), INF2.chip.core, CompileOptions())
    # One pass over 8192 elements on one partition takes as many cycles of the Vector engine.
    one_pass_ps = 8192 / INF2.chip.core.engine("vector").clock_ghz * 1000
    assert Device(INF2).time(program).busy_ps["vector"] < one_pass_ps / 4

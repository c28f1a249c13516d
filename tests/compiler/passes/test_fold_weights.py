"""Products with weights: what the pass makes of convolutions whose windows lie side by side."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.passes.fold_weights import fold_weights
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import float32
from emuron.runtime.device import Device

RNG = np.random.default_rng(3)
IMAGE = RNG.standard_normal((2, 3, 96, 64), np.float32)
WEIGHT = RNG.standard_normal((40, 3, 8, 8), np.float32)
BIAS = RNG.standard_normal(40, np.float32)


def _embedding(stride: int = 8, padding: int = 0) -> Graph:
    """Return the graph of an image's patches as tokens."""
    b = GraphBuilder("patches")
    x = b.input("x", TensorType(IMAGE.shape, float32))
    weight = b.parameter("weight", TensorType(WEIGHT.shape, float32), lambda: WEIGHT)
    bias = b.parameter("bias", TensorType(BIAS.shape, float32), lambda: BIAS)
    y = b.conv(x, weight, bias, stride=(stride, stride), padding=((padding, padding),) * 2)
    b.output("y", b.permute(b.reshape(y, 2, 40, y.shape[2] * y.shape[3]), 0, 2, 1))
    return b.finish()


def test_patches_side_by_side_are_rows_of_a_product():
    graph = fold_weights(_embedding())
    assert [n.op.name for n in graph.nodes if n.op.name in ("conv", "linear")] == ["linear"]
    found = Evaluator(graph).run({"x": IMAGE})["y"]
    expected = np.zeros((2, 12 * 8, 40))
    for row in range(12):
        for column in range(8):
            patch = IMAGE[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            expected[:, 8 * row + column] = np.einsum("ncij,ocij->no", patch, WEIGHT) + BIAS
    # 192 products of size about 1 are added in float32.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("cast", [Autocast(), Autocast("matmult")])
def test_a_program_of_patches_gives_the_bits_of_the_operators(cast: Autocast):
    """Rows of 8 patches are cut by tiles of 128: 96 patches of each of two images."""
    graph, target = fold_weights(_embedding()), instance("inf2.xlarge")
    executable = compile_graph(graph, target.chip.core, CompileOptions(cast, strict=True))
    found = Device(target).run(executable, {"x": IMAGE})["y"]
    np.testing.assert_array_equal(found, Evaluator(graph, autocast=cast).run({"x": IMAGE})["y"])


@pytest.mark.parametrize("form", [{"stride": 4}, {"padding": 4}])
def test_windows_that_overlap_or_reach_beyond_the_image_stay_a_convolution(form: dict[str, int]):
    graph = fold_weights(_embedding(**form))
    assert [n.op.name for n in graph.nodes if n.op.name in ("conv", "linear")] == ["conv"]

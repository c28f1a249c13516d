"""Convolutions in layers: in bands, in batches, with what joins them, over values kept on chip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emuron.compiler import pipeline
from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.kernels import conv
from emuron.compiler.kernels.conv_weights import ConvPacking
from emuron.compiler.kernels.windows import Window, contraction_chunks
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.passes.lower import lower
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.numerics.dtypes import float32
from emuron.numerics.matmul import sums_in_order
from emuron.runtime.device import Device

Build = Callable[[GraphBuilder, Value], Value]


def _weight(b: GraphBuilder, name: str, *shape: int) -> Value:
    values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    return b.parameter(name, TensorType(shape, float32), lambda: values)


def _plain(b: GraphBuilder, x: Value) -> Value:
    return b.conv(x, _weight(b, "w", 20, x.shape[1], 3, 3), _weight(b, "b", 20), padding=1)


def _strided(b: GraphBuilder, x: Value) -> Value:
    return b.conv(x, _weight(b, "w", 150, x.shape[1], 3, 3), stride=2, padding=1)


def _residual(b: GraphBuilder, x: Value) -> Value:
    """A block of a residual network: two layers, the sum with a projection, an activation."""
    n = x.shape[1]
    y = b.apply("relu", b.conv(x, _weight(b, "w1", n, n, 3, 3), _weight(b, "b1", n), padding=1))
    y = b.conv(y, _weight(b, "weight2", n, n, 3, 3), padding=1)
    return b.apply("relu", b.add(y, b.conv(x, _weight(b, "w", n, n, 1, 1))))


def _depthwise(b: GraphBuilder, x: Value) -> Value:
    n = x.shape[1]
    y = b.silu(b.conv(x, _weight(b, "w", n, 1, 3, 3), padding=1, groups=n))
    return b.conv(y, _weight(b, "wide", 24, n, 1, 1))


def _up(b: GraphBuilder, x: Value) -> Value:
    return b.conv_transpose(x, _weight(b, "w", x.shape[1], 9, 4, 4), stride=2, padding=1)


def _tokens(b: GraphBuilder, x: Value) -> Value:
    """An image seen as rows of channels: normed, multiplied, added and seen as an image again."""
    n, c, h, w = x.shape
    image = b.conv(x, _weight(b, "w", c, c, 1, 1))
    rows = b.reshape(b.permute(image, 0, 2, 3, 1), n, h * w, c)
    normed = b.layer_norm(rows, _weight(b, "scale", c), _weight(b, "b", c), epsilon=1e-5)
    rows = b.add(b.linear(normed, _weight(b, "square", c, c)), rows)
    back = b.permute(b.reshape(rows, n, h, w, c), 0, 3, 1, 2)
    return b.add(b.conv(back, _weight(b, "last", c, c, 1, 1)), image)


def _shifted(b: GraphBuilder, x: Value) -> Value:
    """A shift of each channel of each image, as time embeddings are added."""
    y = b.conv(x, _weight(b, "w", x.shape[1], x.shape[1], 3, 3), padding=1)
    shift = b.reduce("mean", x, (2, 3), keepdims=True)
    normed = b.group_norm(b.add(y, shift), groups=2, epsilon=1e-5)
    return b.mul(b.silu(normed), shift)


def _graph(build: Build, shape: tuple[int, ...]) -> Graph:
    b = GraphBuilder("layers")
    b.output("y", build(b, b.input("x", TensorType(shape, float32))))
    return b.finish()


def _both(graph: Graph, cast: Autocast) -> tuple[np.ndarray, np.ndarray]:
    if not sums_in_order():
        pytest.skip("this host's BLAS adds small products in another order: low bits differ")
    shape = graph.inputs[0].shape
    x = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    target = instance("inf2.xlarge")
    executable = compile_graph(graph, target.chip.core, CompileOptions(cast, strict=True))
    return Device(target).run(executable, x)["y"], Evaluator(graph, "numpy", cast).run(x)["y"]


CASES = [
    pytest.param(_plain, (1, 3, 9, 8), id="few-channels"),
    pytest.param(_plain, (5, 130, 6, 7), id="two-blocks-and-images"),
    pytest.param(_strided, (2, 70, 9, 9), id="strided"),
    pytest.param(_residual, (1, 64, 8, 8), id="residual"),
    pytest.param(_residual, (6, 40, 5, 5), id="residual-in-a-batch"),
    pytest.param(_depthwise, (1, 136, 7, 6), id="depthwise"),
    pytest.param(_tokens, (1, 40, 6, 8), id="rows-of-channels"),
    pytest.param(_tokens, (2, 136, 3, 5), id="rows-of-channels-in-a-batch"),
    pytest.param(_shifted, (2, 136, 6, 5), id="shifted-channels"),
    pytest.param(_up, (1, 12, 5, 4), id="transposed"),
]


@pytest.mark.parametrize("resident", [0.55, 0.0])
@pytest.mark.parametrize(("build", "shape"), CASES)
def test_layers_give_the_bits_of_evaluate_on_chip_and_in_memory(
    build: Build, shape: tuple[int, ...], resident: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "RESIDENT_SHARES", (resident,))
    executed, evaluated = _both(_graph(build, shape), Autocast("matmult"))
    np.testing.assert_array_equal(executed, evaluated)


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_bands_of_images_that_do_not_fit_give_the_same_bits(
    build: Build, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "RESIDENT_SHARES", (0.0,))
    for name in ("_WHOLE_BYTES", "_BAND_BYTES", "_WEIGHT_BYTES"):
        monkeypatch.setattr(conv, name, 64)
    executed, evaluated = _both(_graph(build, shape), Autocast("matmult"))
    np.testing.assert_array_equal(executed, evaluated)


def test_a_sum_and_an_activation_join_the_eviction_of_a_convolution() -> None:
    core = instance("inf2.xlarge").chip.core
    figures = lower(_graph(_residual, (1, 64, 8, 8)), core, Autocast("matmult"), 0).record.figures
    assert figures["conv with add in its eviction"] == 1
    assert figures["conv with relu in its eviction"] == 2


def test_every_product_of_a_group_stands_once_in_the_packed_weight() -> None:
    """Groups of 48 channels lie across blocks of 128: their matrices hold zeros beside them."""
    windows = (Window(6, 3, 1, 1, 1),) * 2
    weight = np.arange(1, 1 + 150 * 48 * 9, dtype=np.float32).reshape(150, 48, 3, 3)
    packed = ConvPacking(weight.shape, 3, False, windows, 4).pack(weight)
    found = packed[packed != 0]
    np.testing.assert_array_equal(np.sort(found), np.sort(weight.ravel()))


@pytest.mark.parametrize(
    ("channels", "kernel", "counts"),
    [(3, (7, 7), [28, 21]), (64, (3, 3), [2, 1, 2, 1, 2, 1]), (65, (1, 2), [1, 1])],
)
def test_few_channels_share_a_pass_by_whole_rows_or_within_one(channels, kernel, counts) -> None:
    windows = tuple(Window(20, n) for n in kernel)
    chunks = contraction_chunks(channels, 1, 0, windows)
    assert [len(chunk.positions) for chunk in chunks] == counts

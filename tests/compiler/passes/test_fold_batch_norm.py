"""Batch norms go into the convolution before them, and only where nothing else reads it."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.passes.fold_batch_norm import fold_batch_norm
from emuron.numerics.dtypes import float32


def _parameter(b: GraphBuilder, name: str, *shape: int) -> Value:
    values = np.random.default_rng(len(name)).uniform(0.5, 1.5, shape).astype(np.float32)
    return b.parameter(name, TensorType(shape, float32), lambda: values)


def _norm(b: GraphBuilder, x: Value) -> Value:
    names = ("gamma", "beta", "mean", "variances")
    operands = [_parameter(b, name, x.shape[1]) for name in names]
    return b.batch_norm(x, *operands, epsilon=1e-3)


def _graph(*, transposed: bool = False, bias: bool = True, read_twice: bool = False) -> Graph:
    b = GraphBuilder("layers")
    x = b.input("x", TensorType((2, 4, 5, 6), float32))
    shift = _parameter(b, "bias", 6) if bias else None
    if transposed:
        y = b.conv_transpose(x, _parameter(b, "w", 4, 3, 3, 3), shift, stride=2, groups=2)
    else:
        y = b.conv(x, _parameter(b, "w", 6, 2, 3, 3), shift, groups=2)
    b.output("y", _norm(b, y))
    if read_twice:
        b.output("before", y)
    return b.finish()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_folded_convolution_gives_what_both_gave(transposed, bias):
    graph = _graph(transposed=transposed, bias=bias)
    folded = fold_batch_norm(graph)
    assert [node.op.name for node in folded.nodes] == ["conv"]
    x = {"x": np.random.default_rng(0).standard_normal((2, 4, 5, 6)).astype(np.float32)}
    found, expected = (Evaluator(g).run(x)["y"] for g in (folded, graph))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_a_convolution_that_something_else_reads_keeps_its_norm():
    graph = _graph(read_twice=True)
    assert fold_batch_norm(graph) is graph


def test_shapes_alone_are_folded_without_data():
    b = GraphBuilder("shapes")
    x = b.input("x", TensorType((1, 4, 5, 5), float32))
    y = b.conv(x, b.parameter("w", TensorType((8, 4, 1, 1), float32)))
    moments = [b.parameter(n, TensorType((8,), float32)) for n in ("g", "b", "m", "v")]
    b.output("y", b.batch_norm(y, *moments, epsilon=1e-5))
    folded = fold_batch_norm(b.finish())
    assert [node.op.name for node in folded.nodes] == ["conv"]
    assert all(p.loader is None for p in folded.parameters)

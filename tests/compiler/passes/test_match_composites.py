"""Composites found in their pieces: the meaning stays, only the pieces go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder, find_op
from emuron.compiler.passes.clean import drop_dead_nodes
from emuron.compiler.passes.match_composites import match_composites
from emuron.numerics.dtypes import bool_, float32

X = TensorType((2, 3, 5, 8), float32)
Build = Callable[[GraphBuilder, Value], Value]


def _graphs(build: Build) -> tuple[Graph, Graph]:
    b = GraphBuilder("g")
    b.output("y", build(b, b.input("x", X)))
    graph = b.finish()
    return graph, drop_dead_nodes(match_composites(graph))


def _names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def _same_meaning(before: Graph, after: Graph) -> None:
    """Equal but for the order of additions in a mean: 4 units in the last place."""
    x = np.random.default_rng(0).standard_normal(X.shape, np.float32)
    found, expected = (Evaluator(g).run({"x": x})["y"] for g in (after, before))
    np.testing.assert_allclose(found, expected, rtol=2**-21, atol=2**-21)


def _weight(b: GraphBuilder, name: str, array: np.ndarray) -> Value:
    kind = "bool_" if array.dtype == bool else "float32"
    return b.parameter(name, TensorType(array.shape, float32).with_dtype(kind), lambda: array)


def _rms(b: GraphBuilder, x: Value, kind: str = "mean") -> Value:
    total = b.reduce(kind, b.mul(x, x), (3,), keepdims=True)
    return b.mul(x, b.apply("rsqrt", b.add(total, 1e-6)))


def test_rms_norm_with_and_without_weight():
    def weighted(b: GraphBuilder, x: Value) -> Value:
        return b.mul(_weight(b, "w", np.linspace(1, 2, 8, dtype=np.float32)), _rms(b, x))

    for build in (_rms, weighted):
        before, after = _graphs(build)
        assert _names(after) == ["rms_norm"]
        _same_meaning(before, after)


def test_a_norm_of_another_kind_stays():
    _, after = _graphs(lambda b, x: _rms(b, x, "sum"))
    assert "rms_norm" not in _names(after)


def _turned(b: GraphBuilder, x: Value, first: int = 4) -> Value:
    angles = np.random.default_rng(1).standard_normal((2, 1, 5, 4), np.float32)
    cos, sin = (_weight(b, n, a) for n, a in (("cos", np.cos(angles)), ("sin", np.sin(angles))))
    halves = [b.apply("neg", b.slice(x, 3, first, first + 4)), b.slice(x, 3, 0, 4)]
    whole = [b.concat([a, a], 3) for a in (cos, sin)]
    return b.add(b.mul(x, whole[0]), b.mul(b.concat(halves, 3), whole[1]))


def test_rope_of_rotated_halves():
    before, after = _graphs(_turned)
    assert _names(after)[-1] == "rope"
    assert not {"neg", "add", "mul", "concat"} & set(_names(after))
    _same_meaning(before, after)


def test_a_sum_of_other_halves_is_no_rope():
    _, after = _graphs(lambda b, x: _turned(b, x, first=0))
    assert "rope" not in _names(after)


@pytest.mark.parametrize("kind", ["all", "causal", "banded"])
def test_constant_masks_become_attributes(kind):
    def build(b: GraphBuilder, x: Value) -> Value:
        band = np.tri(5, dtype=bool) & ~np.tri(5, k=-3, dtype=bool)
        array = {"all": np.ones((5, 5), bool), "causal": np.tri(5, dtype=bool), "banded": band}
        mask = b.reshape(_weight(b, "mask", array[kind]), 1, 1, 5, 5)
        return b.attention(x, x, x, b.broadcast(mask, (2, 1, 5, 5)), scale=0.5)

    before, after = _graphs(build)
    op = after.nodes[-1].op
    assert (op.attributes()["causal"], op.attributes()["masked"]) == (
        kind == "causal",
        kind == "banded",
    )
    _same_meaning(before, after)


def test_a_causal_mask_leaves_a_conjunction():
    def build(b: GraphBuilder, x: Value) -> Value:
        keys = b.compare("gt", b.iota((1, 1, 1, 5), 3), 0)
        assert keys.type.dtype == bool_
        causal = b.reshape(_weight(b, "mask", np.tri(5, dtype=bool)), 1, 1, 5, 5)
        both = [b.broadcast(m, (2, 1, 5, 5)) for m in (causal, keys)]
        return b.attention(x, x, x, b.binary(find_op("min")(), *both), scale=0.5)

    before, after = _graphs(build)
    node = after.nodes[-1]
    assert node.op.attributes()["causal"]
    assert node.inputs[3].shape == (1, 1, 1, 5)
    _same_meaning(before, after)


def test_heads_copied_for_their_group_are_shared():
    def build(b: GraphBuilder, x: Value) -> Value:
        k = b.slice(x, 1, 0, 1)
        wide = b.broadcast(b.reshape(k, 2, 1, 1, 5, 8), (2, 1, 3, 5, 8))
        k = b.reshape(wide, 2, 3, 5, 8)
        return b.attention(x, k, k, scale=0.5)

    before, after = _graphs(build)
    assert _names(after) == ["slice", "attention"]
    _same_meaning(before, after)


def test_attention_as_an_exporter_of_onnx_spells_it():
    """Scale on both operands, keys turned as one batch, a mask of scores, a guard against NaN."""

    def build(b: GraphBuilder, x: Value) -> Value:
        turned = b.permute(b.reshape(x, 6, 5, 8), 0, 2, 1)
        keys = b.mul(b.reshape(turned, 2, 3, 8, 5), 0.5)
        hidden = np.where(np.tri(5, dtype=bool), 0, -np.inf).astype(np.float32)
        mask = _weight(b, "mask", hidden.reshape(1, 1, 5, 5))
        weights = b.softmax(b.add(b.matmul(b.mul(x, 0.5), keys), mask))
        return b.matmul(b.select(b.apply("isnan", weights), 0, weights), x)

    before, after = _graphs(build)
    assert _names(after) == ["attention"]
    assert str(after.nodes[0].op).startswith("Attention(scale=0.25, causal=True, masked=False")
    _same_meaning(before, after)

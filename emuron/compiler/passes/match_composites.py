"""Finds composites that a front end delivers in pieces: rms_norm, rope, masks, shared heads.

What a match saves are roundings between the pieces (in float32 there are none but those of the
operators' own order of additions) and work; the function is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from emuron.compiler.graph import Graph, Node, Op, Parameter, Value
from emuron.compiler.ops.attention import Attention
from emuron.compiler.ops.creation import Full
from emuron.compiler.ops.normalize import RmsNorm
from emuron.compiler.ops.reduction import Reduce
from emuron.compiler.ops.rope import Rope
from emuron.compiler.ops.shaping import Broadcast, Concat, Reshape, Slice
from emuron.numerics.dtypes import bool_


def match_composites(graph: Graph) -> Graph:
    """Return the graph with composites in place of their pieces (dead pieces stay behind)."""
    match = _Matching(graph)
    for node in graph.nodes:
        match.visit(node)
    outputs = tuple(match.stands_for.get(v, v) for v in graph.outputs)
    return replace(graph, nodes=tuple(match.nodes), outputs=outputs)


@dataclass(slots=True, eq=False)
class _Matching:
    """The rewritten nodes so far, who made each value and what replaces which value."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    made: dict[Value, Node] = field(default_factory=dict)
    stands_for: dict[Value, Value] = field(default_factory=dict)
    parameters: dict[Value, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parameters = {p.value: p for p in self.graph.parameters}

    def visit(self, node: Node) -> None:
        """Keep a node, or put what the patterns make of it in its place."""
        node = replace(node, inputs=tuple(self.stands_for.get(v, v) for v in node.inputs))
        kind, original = node.op.name, node.outputs[0]
        for pattern in _PATTERNS.get(kind, ()):
            found = pattern(self, node) if node.op.name == kind else None
            if found is not None and found.type == original.type:
                node = self.nodes.pop()
        if node.outputs[0] is not original:
            self.stands_for[original] = node.outputs[0]
        self.nodes.append(node)
        self.made.update(dict.fromkeys(node.outputs, node))

    def emit(self, like: Node, op: Op, *inputs: Value) -> Value:
        """Append a node in the place of `like`."""
        (type,) = op.infer(*(v.type for v in inputs))
        name = f"{like.name.partition('.')[0]}.{op.name}_{len(self.nodes)}"
        value = Value(name, type)
        node = Node(op, inputs, (value,), name, like.scope, like.source)
        self.nodes.append(node)
        self.made[value] = node
        return value

    def maker(self, value: Value, *names: str) -> Node | None:
        """Return the node that made a value if its operator is one of `names`."""
        node = self.made.get(value)
        return node if node is not None and node.op.name in names else None

    def through(self, value: Value, *names: str) -> Value:
        """Return what a value is made of, behind operators of one operand called `names`."""
        while (node := self.maker(value, *names)) is not None:
            value = node.inputs[0]
        return value

    def number(self, value: Value) -> float | None:
        """Return the number that a value is everywhere."""
        node = self.maker(self.through(value, "broadcast", "reshape"), "full")
        return node.op.value if node is not None and isinstance(node.op, Full) else None


# RMS normalisation


def _rms_norm(match: _Matching, node: Node) -> Value | None:
    """Match x * rsqrt(mean(x * x) + epsilon), over the last dimension."""
    for x, scale in (node.inputs, node.inputs[::-1]):
        root = match.maker(match.through(scale, "broadcast"), "rsqrt")
        total = match.maker(root.inputs[0], "add") if root else None
        if total is None:
            continue
        for mean, shift in (total.inputs, total.inputs[::-1]):
            epsilon = match.number(shift)
            if epsilon is not None and _is_mean_square(match, mean, x):
                return match.emit(node, RmsNorm(epsilon), x)
    return None


def _is_mean_square(match: _Matching, mean: Value, x: Value) -> bool:
    reduced = match.maker(mean, "reduce")
    if reduced is None or reduced.op != Reduce("mean", (x.type.rank - 1,), True):
        return False
    square = match.maker(reduced.inputs[0], "mul", "pow")
    if square is None or square.inputs[0] is not x:
        return False
    if square.op.name == "mul":
        return square.inputs[1] is x
    return match.number(square.inputs[1]) == 2


def _weighted_rms_norm(match: _Matching, node: Node) -> Value | None:
    """Match rms_norm(x) * weight, the narrow x in place of its float32 copy."""
    for normal, stretched in (node.inputs, node.inputs[::-1]):
        found = match.maker(match.through(normal, "cast"), "rms_norm")
        spread = match.maker(stretched, "broadcast")
        if found is None or spread is None or len(found.inputs) > 1:
            continue
        weight, x = spread.inputs[0], found.inputs[0]
        if not (isinstance(spread.op, Broadcast) and spread.op.dims == (x.type.rank - 1,)):
            continue
        narrow = match.maker(x, "cast")
        if x.type != node.outputs[0].type and narrow is not None:
            x = narrow.inputs[0]
        if x.type == node.outputs[0].type and weight.shape == x.shape[-1:]:
            return match.emit(node, found.op, x, weight)
    return None


# Rotary embedding


def _rope(match: _Matching, node: Node) -> Value | None:
    """Match x * cos + concat(-x[half:], x[:half]) * sin; cos and sin are two equal halves."""
    for left, right in (node.inputs, node.inputs[::-1]):
        plain, turned = match.maker(left, "mul"), match.maker(right, "mul")
        if plain is None or turned is None or node.outputs[0].type.rank != 4:
            continue
        for x, cos in (plain.inputs, plain.inputs[::-1]):
            for other, sin in (turned.inputs, turned.inputs[::-1]):
                if _is_turned(match, other, x):
                    return _rotated(match, node, x, cos, sin)
    return None


def _is_turned(match: _Matching, turned: Value, x: Value) -> bool:
    """Tell whether `turned` is concat(-x[half:], x[:half]) along the last dimension."""
    joined = match.maker(turned, "concat")
    if joined is None or joined.op != Concat(3) or len(joined.inputs) != 2:
        return False
    size = x.shape[-1]
    negated = match.maker(joined.inputs[0], "neg")
    return (
        negated is not None
        and _is_part(match, negated.inputs[0], x, size // 2, size)
        and _is_part(match, joined.inputs[1], x, 0, size // 2)
    )


def _is_part(match: _Matching, part: Value, x: Value, start: int, stop: int) -> bool:
    node = match.maker(part, "slice")
    if node is None or node.inputs[0] is not x:
        return False
    expected = Slice((0, 0, 0, start), (*x.shape[:3], stop), (1, 1, 1, 1))
    return node.op == expected


def _rotated(match: _Matching, node: Node, x: Value, cos: Value, sin: Value) -> Value | None:
    halves = [_half(match, angles) for angles in (cos, sin)]
    batch, _, length, size = x.shape
    angles = []
    for half in halves:
        rows = half is not None and half.type.elements // (length * size // 2)
        if half is None or rows not in (1, batch) or half.shape[-1] != size // 2:
            return None
        if half.type.elements != rows * length * size // 2:
            return None
        shape = (batch, length, size // 2)
        if half.shape != (rows, *shape[1:]):
            half = match.emit(node, Reshape((rows, *shape[1:])), half)
        if rows != batch:
            half = match.emit(node, Broadcast(shape, (0, 1, 2)), half)
        angles.append(half)
    return match.emit(node, Rope(), x, *angles)


def _half(match: _Matching, angles: Value) -> Value | None:
    """Return the half of which [B|1, 1, S, D] angles, stretched over the heads, hold two."""
    if (spread := match.maker(angles, "broadcast")) is not None:
        angles = spread.inputs[0]
    if angles.type.rank != 4 or angles.shape[1] != 1:
        return None
    joined = match.maker(match.through(angles, "reshape", "cast"), "concat")
    if joined is None or len(joined.inputs) != 2 or joined.inputs[0] is not joined.inputs[1]:
        return None
    whole = joined.outputs[0]
    return joined.inputs[0] if joined.op == Concat(whole.type.rank - 1) else None


# Attention


def _shared_heads(match: _Matching, node: Node) -> Value | None:
    """Match attention whose keys and values are copied for every query head of a group."""
    sources = [_unrepeated(match, x) for x in node.inputs[1:3]]
    k, v = sources
    if k is None or v is None or k.shape[1] != v.shape[1]:
        return None
    return match.emit(node, node.op, node.inputs[0], k, v, *node.inputs[3:])


def _unrepeated(match: _Matching, x: Value) -> Value | None:
    """Return [B, Hk, K, D] of which x [B, H, K, D] repeats each head H / Hk times."""
    merged = match.maker(x, "reshape")
    spread = match.maker(merged.inputs[0], "broadcast") if merged else None
    opened = match.maker(spread.inputs[0], "reshape") if spread else None
    if spread is None or opened is None:
        return None
    source = opened.inputs[0]
    if source.type.rank != 4 or not isinstance(spread.op, Broadcast):
        return None
    batch, heads, keys, size = source.shape
    wide = spread.op.shape
    repeats = len(wide) == 5 and wide == (batch, heads, wide[2], keys, size)
    return source if repeats and opened.outputs[0].shape == (batch, heads, 1, keys, size) else None


def _simpler_mask(match: _Matching, node: Node) -> Value | None:
    """Match attention under a mask that is all true, causal, or a causal one and another."""
    op = node.op
    assert isinstance(op, Attention)
    if not op.masked or node.inputs[3].type.dtype != bool_:
        return None
    queries, keys = node.inputs[0].shape[2], node.inputs[1].shape[2]
    causal, left, dropped = op.causal, [], False
    for part in _conjuncts(match, node.inputs[3]):
        known = _known_mask(match, part, queries, keys)
        if known is None:
            left.append(part)
            continue
        dropped = True
        causal = causal or known == "causal"
    if not dropped or len(left) > 1:
        return None
    masks = tuple(left)
    if masks and masks[0].shape[-1] != keys:
        return None
    made = Attention(op.scale, causal, bool(masks), op.positioned)
    return match.emit(node, made, *node.inputs[:3], *masks, *node.inputs[4:])


def _conjuncts(match: _Matching, mask: Value) -> list[Value]:
    """Return the masks, of four dimensions each, whose conjunction a mask is."""
    node = match.maker(mask, "broadcast", "min")
    if node is None or any(v.type.rank != 4 for v in node.inputs):
        return [mask]
    return [part for v in node.inputs for part in _conjuncts(match, v)]


def _known_mask(match: _Matching, mask: Value, queries: int, keys: int) -> str | None:
    """Return "all" or "causal" for a constant mask that is so for every batch and head."""
    if match.number(mask) == 1:
        return "all"
    held = match.parameters.get(match.through(mask, "reshape"))
    if held is None or held.loader is None or mask.shape[2:] != (queries, keys):
        return None
    array = held.load().reshape(-1, queries, keys)
    if array.all():
        return "all"
    lower = np.tri(queries, keys, keys - queries, dtype=bool)
    return "causal" if queries <= keys and bool((array == lower).all()) else None


Pattern = Callable[[_Matching, Node], Value | None]

_PATTERNS: dict[str, tuple[Pattern, ...]] = {
    "mul": (_rms_norm, _weighted_rms_norm),
    "add": (_rope,),
    "attention": (_shared_heads, _simpler_mask),
}
"""Patterns by the operator of the last node; each sees what the one before made."""

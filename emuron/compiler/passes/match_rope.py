"""Rotary embeddings, found in their pieces."""

from __future__ import annotations

from emuron.compiler.graph import Node, Value
from emuron.compiler.ops.rope import Rope
from emuron.compiler.ops.shaping import Broadcast, Concat, Reshape, Slice
from emuron.compiler.passes.matching import Matching


def rope(match: Matching, node: Node) -> Value | None:
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


def _is_turned(match: Matching, turned: Value, x: Value) -> bool:
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


def _is_part(match: Matching, part: Value, x: Value, start: int, stop: int) -> bool:
    node = match.maker(part, "slice")
    if node is None or node.inputs[0] is not x:
        return False
    expected = Slice((0, 0, 0, start), (*x.shape[:3], stop), (1, 1, 1, 1))
    return node.op == expected


def _rotated(match: Matching, node: Node, x: Value, cos: Value, sin: Value) -> Value | None:
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


def _half(match: Matching, angles: Value) -> Value | None:
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


# Halves that are turned apart and joined, as JAX programs write it


def joined_rope(match: Matching, node: Node) -> Value | None:
    """Match concat(x1 * cos - x2 * sin, x2 * cos + x1 * sin) of the halves of x."""
    if node.outputs[0].type.rank != 4 or node.op != Concat(3) or len(node.inputs) != 2:
        return None
    minus, plus = match.maker(node.inputs[0], "sub"), match.maker(node.inputs[1], "add")
    if minus is None or plus is None:
        return None
    first, second = ([match.maker(v, "mul") for v in n.inputs] for n in (minus, plus))
    if None in (*first, *second):
        return None
    return _of_halves(match, node, [set(n.inputs) for n in (*first, *second) if n is not None])


def _of_halves(match: Matching, node: Node, products: list[set[Value]]) -> Value | None:
    """Return the rotation if the four products are x1 cos, x2 sin, and x2 cos, x1 sin."""
    left, right, third, fourth = products
    if left & fourth and not left & third:
        third, fourth = fourth, third
    orders = ((third, fourth), (fourth, third))
    for cosine, sine in orders:
        x1, cos, x2, sin = left & sine, left & cosine, right & cosine, right & sine
        if any(len(s) != 1 for s in (x1, cos, x2, sin)):
            continue
        found = _whole(match, x1.pop(), x2.pop())
        if found is not None:
            return _turned(match, node, found, cos.pop(), sin.pop())
    return None


def _whole(match: Matching, first: Value, second: Value) -> Value | None:
    """Return the tensor whose halves two values are."""
    node = match.maker(first, "slice")
    x = node.inputs[0] if node is not None else None
    if x is None or x.type.rank != 4:
        return None
    half = x.shape[3] // 2
    is_whole = _is_part(match, first, x, 0, half) and _is_part(match, second, x, half, 2 * half)
    return x if is_whole and x.shape[3] == 2 * half else None


def _turned(match: Matching, node: Node, x: Value, cos: Value, sin: Value) -> Value | None:
    """Write the rotation; heads may be the second or the third dimension."""
    for heads in (1, 2):
        angles = [_without_heads(match, node, a, heads) for a in (cos, sin)]
        if angles[0] is None or angles[1] is None:
            continue
        if heads == 1:
            return match.emit(node, Rope(), x, angles[0], angles[1])
        swapped = match.permute(node, x, 0, 2, 1, 3)
        made = match.emit(node, Rope(), swapped, angles[0], angles[1])
        return match.permute(node, made, 0, 2, 1, 3)
    return None


def _without_heads(match: Matching, node: Node, angles: Value, heads: int) -> Value | None:
    """Return [B, S, R] of which [B, H, S, R] angles are copies for each head."""
    spread = match.maker(angles, "broadcast")
    if spread is None or not isinstance(spread.op, Broadcast):
        return None
    source, dims = spread.inputs[0], spread.op.dims
    if any(d == heads and n > 1 for d, n in zip(dims, source.shape, strict=True)):
        return None
    kept = [i for i in range(4) if i != heads]
    given = dict(zip(dims, source.shape, strict=True))
    sizes = [given.get(i, 1) for i in kept]
    whole = tuple(angles.shape[i] for i in kept)
    narrow = match.reshape(node, source, *sizes)
    return (
        narrow if narrow.shape == whole else match.emit(node, Broadcast(whole, (0, 1, 2)), narrow)
    )

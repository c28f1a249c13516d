"""ONNX operators that move and make data: shapes, joins, fills."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emuron.compiler.frontends.onnx_call import Call, onnx_op
from emuron.compiler.graph import Value
from emuron.compiler.ops.creation import Iota
from emuron.errors import ModelFileError
from emuron.numerics.dtypes import int32


@onnx_op("Shape")
def _shape(c: Call) -> np.ndarray:
    shape = c.operand(0).shape
    start, end, _ = slice(c.attribute("start", 0), c.attribute("end")).indices(len(shape))
    return np.array(shape[start:end], np.int64)


@onnx_op("Size")
def _size(c: Call) -> np.ndarray:
    return np.array(math.prod(c.operand(0).shape), np.int64)


@onnx_op("Constant")
def _constant(c: Call) -> np.ndarray:
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32)):
        if name in c.attributes:
            return np.array(c.attributes[name], kind)
    for name in ("value_int", "value_ints"):
        if name in c.attributes:
            return np.array(c.attributes[name], np.int64)
    return c.tensor("value")


@onnx_op("ConstantOfShape")
def _constant_of_shape(c: Call) -> Value:
    value = c.tensor("value") if "value" in c.attributes else np.zeros(1, np.float32)
    if value.size != 1:
        raise ModelFileError("ConstantOfShape takes one number as its value")
    return c.b.broadcast(c.store.array("value", value.reshape(())), c.ints(0))


@onnx_op("Reshape")
def _reshape(c: Call) -> Value:
    x, wanted = c.x(), c.ints(1)
    if not c.attribute("allowzero", 0):
        wanted = [x.shape[i] if n == 0 and i < x.type.rank else n for i, n in enumerate(wanted)]
    known = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) > 1 or (-1 in wanted and known == 0):
        raise ModelFileError(f"Reshape of {x.type} to {wanted}")
    shape = [x.type.elements // known if n == -1 else n for n in wanted]
    return c.b.reshape(x, *shape)


@onnx_op("Flatten")
def _flatten(c: Call) -> Value:
    x, axis = c.x(), c.attribute("axis", 1)
    axis = axis + x.type.rank if axis < 0 else axis
    return c.b.reshape(x, math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@onnx_op("Squeeze")
def _squeeze(c: Call) -> Value:
    x = c.x()
    given = c.ints(1) if c.has(1) else [i for i, n in enumerate(x.shape) if n == 1]
    axes = {c.axis(a, x.type.rank) for a in given}
    if any(x.shape[a] != 1 for a in axes):
        raise ModelFileError(f"Squeeze of {x.type} at {sorted(axes)}, which are not all of size 1")
    return c.b.reshape(x, *(n for i, n in enumerate(x.shape) if i not in axes))


@onnx_op("Unsqueeze")
def _unsqueeze(c: Call) -> Value:
    x, given = c.x(), c.ints(1)
    rank = x.type.rank + len(given)
    axes = {c.axis(a, rank) for a in given}
    if len(axes) != len(given):
        raise ModelFileError(f"Unsqueeze names an axis twice: {given}")
    left = iter(x.shape)
    return c.b.reshape(x, *(1 if i in axes else next(left) for i in range(rank)))


@onnx_op("Transpose")
def _transpose(c: Call) -> Value:
    operand = c.operand(0)
    axes = c.attribute("perm", list(reversed(range(len(operand.shape)))))
    if operand.is_weight and list(axes) == [1, 0]:
        return c.store.weight(operand, transposed=True)
    return c.x() if list(axes) == sorted(axes) else c.b.permute(c.x(), *axes)


@onnx_op("Expand")
def _expand(c: Call) -> Value:
    x = c.x()
    return c.b.broadcast(x, np.broadcast_shapes(x.shape, tuple(c.ints(1))))


@onnx_op("Tile")
def _tile(c: Call) -> Value:
    x, counts = c.x(), c.ints(1)
    if len(counts) != x.type.rank:
        raise ModelFileError(f"Tile of {x.type} by {counts}: one number for each dimension")
    return repeated(c, x, counts)


def repeated(c: Call, x: Value, counts: Sequence[int]) -> Value:
    """Return x as many times side by side along each dimension."""
    pairs = [size for n in x.shape for size in (1, n)]
    spread = [size for times, n in zip(counts, x.shape, strict=True) for size in (times, n)]
    shape = [times * n for times, n in zip(counts, x.shape, strict=True)]
    return c.b.reshape(c.b.broadcast(c.b.reshape(x, *pairs), spread), *shape)


@onnx_op("Concat")
def _concat(c: Call) -> Value:
    parts = [p for p in c.all() if p.type.elements] or c.all()[:1]
    axis = c.axis(c.required("axis"), parts[0].type.rank)
    return parts[0] if len(parts) == 1 else c.b.concat(parts, axis)


@onnx_op("Split")
def _split(c: Call) -> list[Value]:
    x = c.x()
    axis, count = c.axis(c.attribute("axis", 0), x.type.rank), len(c.results)
    size = x.shape[axis]
    if c.has(1):
        sizes = c.ints(1)
    else:
        parts = c.attribute("num_outputs", count)
        each = -(-size // parts)
        sizes = [each] * (parts - 1) + [size - each * (parts - 1)]
    if sum(sizes) != size or min(sizes, default=0) < 0 or len(sizes) != count:
        raise ModelFileError(f"Split of {x.type} along dimension {axis} into {sizes}")
    starts = np.cumsum([0, *sizes]).tolist()
    return [c.b.slice(x, axis, a, a + n) for a, n in zip(starts, sizes, strict=False)]


@onnx_op("Slice")
def _slice(c: Call) -> Value:
    x, starts, ends = c.x(), c.ints(1), c.ints(2)
    axes = c.ints(3) if c.has(3) else list(range(len(starts)))
    steps = c.ints(4) if c.has(4) else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        x = sliced(c, x, c.axis(axis, x.type.rank), start, end, step)
    return x


def sliced(c: Call, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
    """Return x[start:end:step] along a dimension as Python means it; steps may be negative."""
    if step == 0:
        raise ModelFileError("Slice with a step of 0")
    places = range(*slice(start, end, step).indices(x.shape[axis]))
    if step < 0:
        if not places:
            return c.b.slice(x, axis, 0, 0)
        return c.b.reverse(c.b.slice(x, axis, places[-1], places[0] + 1, -step), [axis])
    if len(places) == x.shape[axis]:
        return x
    return c.b.slice(x, axis, places.start, max(places.start, places.stop), step)


@onnx_op("Range")
def _range(c: Call) -> Value:
    start, limit, step = (c.number(i, 0) for i in range(3))
    count = max(0, math.ceil((limit - start) / step))
    kind = c.x(0).type.dtype
    if kind.is_integer:
        return c.one(Iota((count,), 0, kind, int(start), int(step)))
    places = c.b.cast(c.b.iota((count,), 0, int32), kind)
    return c.b.add(c.b.mul(places, step), start)


@onnx_op("EyeLike")
def _eye(c: Call) -> Value:
    x = c.operand(0)
    element = c.attribute("dtype", x.element)
    rows, columns = x.shape
    row, column = (c.b.iota((rows, columns), axis) for axis in (0, 1))
    diagonal = c.b.compare("eq", column, c.b.add(row, c.attribute("k", 0)))
    c.elements[0] = element
    return c.b.cast(diagonal, c.dtype(element))


@onnx_op("Trilu")
def _trilu(c: Call) -> Value:
    x, shift = c.x(), int(c.number(1, 0))
    row, column = (c.b.iota(x.shape[-2:], axis) for axis in (0, 1))
    edge = c.b.add(row, shift)
    kept = c.b.compare("ge" if c.attribute("upper", 1) else "le", column, edge)
    return c.b.select(c.b.broadcast(kept, x.shape), x, 0)

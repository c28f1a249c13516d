"""MXNet operators that move elements, make them, and look them up."""

from __future__ import annotations

import math

import numpy as np

from emuron.compiler.frontends import recipes
from emuron.compiler.frontends.mxnet_call import Call, Operand, mxnet
from emuron.compiler.graph import Value
from emuron.compiler.ops import find_op
from emuron.compiler.ops.indexed import GatherAlong
from emuron.compiler.ops.order import TopK
from emuron.errors import UnsupportedOpError, UsageError
from emuron.numerics.dtypes import float32

_MOST_RANGE = 1 << 24


@mxnet(
    "BlockGrad",
    "Dropout",
    "MakeLoss",
    "_copy",
    "identity",
    "make_loss",
    "stop_gradient",
    "_np_copy",
)
def _identity(c: Call, x: Operand) -> Value:
    return c.value(x)


# Shapes


@mxnet("Reshape", "reshape")
def _reshape(c: Call, x: Operand) -> Value:
    value = c.value(x)
    codes = list(c.integers("shape") or c.integers("target_shape"))
    if not c.flag("reverse"):
        return c.b.reshape(value, *_decoded(value.shape, codes))
    shape = _decoded(value.shape[::-1], codes[::-1])
    return c.b.reshape(value, *shape[::-1])


def _decoded(shape: tuple[int, ...], codes: list[int]) -> list[int]:
    """Return the shape that MXNet's codes mean.

    0 copies a size, -1 is what is left, -2 copies all that follow, -3 joins two, -4 splits one.
    """
    found: list[int] = []
    left, codes = list(shape), list(codes)
    while codes:
        code = codes.pop(0)
        if code > 0 or code == -1:
            found.append(code)
            left[:1] = []
        elif code == 0:
            found.append(left.pop(0))
        elif code == -2:
            found += left
            left = []
        elif code == -3:
            found.append(left.pop(0) * left.pop(0))
        elif code == -4:
            size, first, second = left.pop(0), codes.pop(0), codes.pop(0)
            found += [size // second if first == -1 else first]
            found += [size // first if second == -1 else second]
        else:
            raise UsageError(f"{code} is no code of a shape")
    return found


@mxnet("Flatten", "flatten")
def _flatten(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return c.b.reshape(value, value.shape[0], math.prod(value.shape[1:]))


@mxnet("expand_dims")
def _expand_dims(c: Call, x: Operand) -> Value:
    value = c.value(x)
    axis = c.axis(value.type.rank + 1, default=0)
    return c.b.reshape(value, *value.shape[:axis], 1, *value.shape[axis:])


@mxnet("squeeze")
def _squeeze(c: Call, x: Operand) -> Value:
    value = c.value(x)
    named = [a % value.type.rank for a in c.integers("axis")]
    axes = named or [i for i, n in enumerate(value.shape) if n == 1]
    return c.b.reshape(value, *[n for i, n in enumerate(value.shape) if i not in axes])


@mxnet("transpose")
def _transpose(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return c.b.permute(value, *(c.integers("axes") or range(value.type.rank)[::-1]))


@mxnet("SwapAxis", "swapaxes")
def _swap_axis(c: Call, x: Operand) -> Value:
    return recipes.swap(c.b, c.value(x), c.integer("dim1"), c.integer("dim2"))


@mxnet("broadcast_to", "broadcast_axis", "broadcast_axes", "broadcast_like")
def _broadcast(c: Call, x: Operand, like: Operand | None = None) -> Value:
    value = c.value(x)
    shape = list(value.shape)
    if like is not None:
        return c.b.broadcast(value, c.value(like).shape)
    if c.op == "broadcast_to":
        shape = [n or s for n, s in zip(c.integers("shape"), shape, strict=True)]
    else:
        for axis, size in zip(c.integers("axis"), c.integers("size"), strict=True):
            shape[axis] = size
    return c.b.broadcast(value, shape)


@mxnet("tile")
def _tile(c: Call, x: Operand) -> Value:
    value, times = c.value(x), c.integers("reps")
    rank = max(value.type.rank, len(times))
    shape = (1,) * (rank - value.type.rank) + value.shape
    times = (1,) * (rank - len(times)) + times
    opened = c.b.reshape(value, *(n for size in shape for n in (1, size)))
    wide = [n for pair in zip(times, shape, strict=True) for n in pair]
    return c.b.reshape(c.b.broadcast(opened, wide), *map(math.prod, zip(times, shape, strict=True)))


@mxnet("repeat")
def _repeat(c: Call, x: Operand) -> Value:
    value, times = c.value(x), c.integer("repeats")
    if c.text("axis", "None") == "None":
        value = c.b.reshape(value, -1)
    axis = c.axis(value.type.rank, default=0)
    before, size, after = value.shape[:axis], value.shape[axis], value.shape[axis + 1 :]
    opened = c.b.reshape(value, *before, size, 1, *after)
    spread = c.b.broadcast(opened, (*before, size, times, *after))
    return c.b.reshape(spread, *before, size * times, *after)


@mxnet("shape_array", "size_array")
def _shape_array(c: Call, x: Operand) -> Value:
    shape = c.value(x).shape
    found = shape if c.op == "shape_array" else (math.prod(shape),)
    return c.known.value(np.asarray(found, np.int32), c.name)


# Parts


@mxnet("Concat", "concat")
def _concat(c: Call, *operands: Operand) -> Value:
    values = c.values(*operands)
    return c.b.concat(values, c.axis(values[0].type.rank, "dim", 1))


@mxnet("stack")
def _stack(c: Call, *operands: Operand) -> Value:
    values = c.values(*operands)
    axis = c.axis(values[0].type.rank + 1, default=0)
    opened = [c.b.reshape(v, *v.shape[:axis], 1, *v.shape[axis:]) for v in values]
    return c.b.concat(opened, axis)


@mxnet("SliceChannel", "split")
def _split(c: Call, x: Operand) -> list[Value]:
    value, count = c.value(x), c.integer("num_outputs", 1)
    axis = c.axis(value.type.rank, default=1)
    size = value.shape[axis] // count
    if size * count != value.shape[axis]:
        raise UsageError(f"{value} does not split into {count} equal parts")
    parts = [c.b.slice(value, axis, i * size, (i + 1) * size) for i in range(count)]
    if c.flag("squeeze_axis"):
        left = [n for i, n in enumerate(value.shape) if i != axis]
        parts = [c.b.reshape(p, *left) for p in parts]
    return parts


@mxnet("slice", "crop")
def _slice(c: Call, x: Operand) -> Value:
    value = c.value(x)
    begin, end = c.places("begin"), c.places("end")
    steps = c.places("step", (None,) * len(begin))
    for axis, bounds in enumerate(zip(begin, end, steps, strict=True)):
        value = _part(c, value, axis, *bounds)
    return value


@mxnet("slice_axis")
def _slice_axis(c: Call, x: Operand) -> Value:
    value = c.value(x)
    axis = c.axis(value.type.rank, default=0)
    (begin, *_), (end, *_) = c.places("begin", (None,)), c.places("end", (None,))
    return _part(c, value, axis, begin, end, None)


def _part(
    c: Call, value: Value, axis: int, begin: int | None, end: int | None, step: int | None
) -> Value:
    start, stop, stride = slice(begin, end, step or None).indices(value.shape[axis])
    if stride > 0:
        return c.b.slice(value, axis, start, max(start, stop), stride)
    chosen = range(start, stop, stride)
    if not chosen:
        return c.b.slice(value, axis, 0, 0)
    kept = c.b.slice(value, axis, chosen[-1], start + 1, -stride)
    return c.b.reverse(kept, (axis,))


@mxnet("slice_like")
def _slice_like(c: Call, x: Operand, like: Operand) -> Value:
    value, wanted = c.values(x, like)
    for axis in c.axes(value.type.rank, "axes"):
        value = c.b.slice(value, axis, 0, wanted.shape[axis])
    return value


@mxnet("reverse", "flip")
def _reverse(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return c.b.reverse(value, c.axes(value.type.rank))


@mxnet("Pad", "pad")
def _pad(c: Call, x: Operand) -> Value:
    widths = c.integers("pad_width")
    mode = c.text("mode", "constant")
    fill = c.number("constant_value")
    return c.b.pad(c.value(x), widths[::2], widths[1::2], mode=mode, value=fill)


@mxnet("depth_to_space", "space_to_depth")
def _depth_and_space(c: Call, x: Operand) -> Value:
    b, value, size = c.b, c.value(x), c.integer("block_size", 1)
    n, depth, height, width = value.shape
    if c.op == "depth_to_space":
        opened = b.reshape(value, n, size, size, depth // size**2, height, width)
        moved = b.permute(opened, 0, 3, 4, 1, 5, 2)
        return b.reshape(moved, n, depth // size**2, height * size, width * size)
    opened = b.reshape(value, n, depth, height // size, size, width // size, size)
    moved = b.permute(opened, 0, 3, 5, 1, 2, 4)
    return b.reshape(moved, n, depth * size**2, height // size, width // size)


# Places


@mxnet("Embedding", "take")
def _take(c: Call, x: Operand, y: Operand) -> Value:
    if c.op == "Embedding":
        table = c.weight(y, c.integer("input_dim"), c.integer("output_dim"))
        value, index, axis = table, c.index(x), 0
    else:
        value, index = c.value(x), c.index(y)
        axis = c.axis(value.type.rank, default=0)
    last = value.shape[axis] - 1
    # Places outside are clamped, or counted round with mode wrap.
    if c.text("mode", "clip") == "wrap":
        index = c.b.binary(find_op("mod")(), index, last + 1)
    elif c.op == "take" and c.known.array(index) is None:
        index = recipes.clamp(c.b, index, 0, last)
    return c.b.take(value, index, axis)


@mxnet("pick")
def _pick(c: Call, x: Operand, y: Operand) -> Value:
    value, index = c.value(x), c.index(y)
    axis = c.axis(value.type.rank)
    shape = (*value.shape[:axis], 1, *value.shape[axis + 1 :])
    index = recipes.clamp(c.b, c.b.reshape(index, *shape), 0, value.shape[axis] - 1)
    found = c.b.one(GatherAlong(axis), value, index)
    left = [n for i, n in enumerate(value.shape) if i != axis]
    return found if c.flag("keepdims") else c.b.reshape(found, *left)


@mxnet("gather_nd")
def _gather_nd(c: Call, x: Operand, y: Operand) -> Value:
    b, value, index = c.b, c.value(x), c.index(y)
    flat = b.reshape(b.slice(index, 0, 0, 1), *index.shape[1:])
    for axis in range(1, index.shape[0]):
        row = b.reshape(b.slice(index, 0, axis, axis + 1), *index.shape[1:])
        flat = b.add(b.mul(flat, value.shape[axis]), row)
    return b.take(b.reshape(value, -1, *value.shape[index.shape[0] :]), flat, 0)


@mxnet("one_hot")
def _one_hot(c: Call, x: Operand) -> Value:
    index, to = c.index(x), c.dtype("dtype")
    found = recipes.one_hot(c.b, index, c.integer("depth"), index.type.rank, to)
    on, off = c.number("on_value", 1), c.number("off_value", 0)
    return found if (on, off) == (1, 0) else c.b.add(c.b.mul(found, on - off), off)


@mxnet("topk", "sort", "argsort")
def _order(c: Call, x: Operand) -> Value | list[Value]:
    b, value = c.b, c.value(x)
    axis = c.axis(value.type.rank)
    ascending = c.flag("is_ascend", c.op != "topk")
    count = c.integer("k", 1) if c.op == "topk" else value.shape[axis]
    rows = recipes.swap(b, value, axis, -1)
    if ascending:
        rows = b.apply("neg", rows)
    values, places = b.append(TopK(count), rows)
    if ascending:
        values = b.apply("neg", values)
    found = recipes.swap(b, values, axis, -1)
    where = b.cast(recipes.swap(b, places, axis, -1), float32)
    kind = c.text("ret_typ", "indices")
    if c.op == "sort" or kind == "value":
        return found
    if kind == "both":
        return [found, where]
    if kind != "indices":
        raise UnsupportedOpError(f"the result {kind!r}")
    return where


@mxnet("SequenceMask")
def _sequence_mask(c: Call, x: Operand, lengths: Operand | None = None) -> Value:
    value = c.value(x)
    if lengths is None or not c.flag("use_sequence_length"):
        return value
    axis = c.integer("axis")
    places = c.b.iota(value.shape, axis, float32)
    limit = c.b.cast(c.value(lengths), float32)
    inside = c.b.compare("lt", places, c.b.broadcast(limit, value.shape, (1 - axis,)))
    return c.b.select(inside, value, c.number("value"))


# Creation


@mxnet("_zeros", "_ones", "_full", "zeros_like", "ones_like")
def _filled(c: Call, x: Operand | None = None) -> Value:
    number = c.number("value", float("ones" in c.op))
    if x is not None:
        type = c.value(x).type
        return c.b.full(number, type.shape, type.dtype)
    return c.b.full(number, c.integers("shape"), c.dtype("dtype"))


@mxnet("_arange")
def _arange(c: Call) -> Value:
    start, step = c.number("start"), c.number("step", 1)
    stop = c.number("stop", math.nan)
    if math.isnan(stop):
        start, stop = 0.0, start
    return _counted(c, start, stop, step, c.dtype("dtype").np)


def _counted(c: Call, start: float, stop: float, step: float, to: np.dtype) -> Value:
    if not step or abs((stop - start) / step) > _MOST_RANGE:
        raise UnsupportedOpError(f"a range from {start} to {stop} by {step}")
    found = np.repeat(np.arange(start, stop, step), c.integer("repeat", 1))
    return c.known.value(found.astype(to), c.name)


@mxnet("_contrib_arange_like")
def _arange_like(c: Call, x: Operand) -> Value:
    value = c.value(x)
    if c.text("axis", "None") == "None":
        count, shape = value.type.elements, value.shape
    else:
        count = value.shape[c.axis(value.type.rank)]
        shape = (count,)
    start, step = c.number("start"), c.number("step", 1)
    numbers = (start + step * np.arange(count)).astype(np.float32)
    return c.known.value(numbers.reshape(shape), c.name)

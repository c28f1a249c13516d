"""ONNX operators that read or write at places given by data; places may count from the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emuron.compiler.frontends.onnx_call import Call, onnx_op
from emuron.compiler.frontends.recipes import one_hot
from emuron.compiler.graph import Value
from emuron.errors import ModelFileError
from emuron.numerics.dtypes import bool_, int32

_COMBINERS = {"none": "set", "add": "add", "mul": "mul", "min": "min", "max": "max"}


def places(c: Call, index: int, size: int) -> Value:
    """Return an operand of places along a dimension, all counted from 0."""
    known = c.data(index)
    if known is not None:
        positive = np.where(known < 0, known + size, known).astype(np.int64)
        return c.store.array(f"{c.operand(index).name}.positive", positive)
    return counted_from_0(c, c.b.cast(c.x(index), int32), size)


def counted_from_0(c: Call, found: Value, size: int) -> Value:
    """Return places along a dimension of which negative ones count from its end."""
    return c.b.select(c.b.compare("lt", found, 0), c.b.add(found, size), found)


@onnx_op("Gather")
def _gather(c: Call) -> Value:
    x, known = c.x(0), c.data(1)
    axis = c.axis(c.attribute("axis", 0), x.type.rank)
    size = x.shape[axis]
    if known is not None:
        return _taken(c, x, axis, np.where(known < 0, known + size, known))
    # Tokens that look up a table of weights never count from its end.
    if axis == 0 and c.operand(0).is_weight:
        return c.b.take(x, c.b.cast(c.x(1), int32), 0)
    return c.b.take(x, places(c, 1, size), axis)


def _taken(c: Call, x: Value, axis: int, known: np.ndarray) -> Value:
    """Return slices of x at known places; consecutive or equal ones need no gather."""
    shape = (*x.shape[:axis], *known.shape, *x.shape[axis + 1 :])
    flat = known.reshape(-1)
    if flat.size and not (flat.min() >= 0 and flat.max() < x.shape[axis]):
        raise ModelFileError(f"{c.kind} at {known.tolist()} of {x.type} along dimension {axis}")
    if flat.size and (flat == flat[0]).all():
        one = c.b.slice(x, axis, int(flat[0]), int(flat[0]) + 1)
        sizes = (*x.shape[:axis], *(1,) * known.ndim, *x.shape[axis + 1 :])
        return c.b.broadcast(c.b.reshape(one, *sizes), shape)
    if flat.size and (np.diff(flat) == 1).all():
        return c.b.reshape(c.b.slice(x, axis, int(flat[0]), int(flat[-1]) + 1), *shape)
    return c.b.take(x, c.store.array(f"{c.operand(1).name}.positive", known), axis)


@onnx_op("GatherElements")
def _gather_elements(c: Call) -> Value:
    x = c.x(0)
    axis = c.axis(c.attribute("axis", 0), x.type.rank)
    return c.b.gather_along(x, places(c, 1, x.shape[axis]), axis)


@onnx_op("GatherND")
def _gather_nd(c: Call) -> Value:
    x, known, batch = c.x(0), c.data(1), c.attribute("batch_dims", 0)
    if known is not None and not batch and known.size:
        return _taken_nd(c, x, known)
    index = c.b.cast(c.x(1), int32)
    depth = index.shape[-1]
    shape = index.shape[:-1]
    rows = [c.b.iota(shape, dim, int32) for dim in range(batch)]
    parts = [*rows, *_columns(c, index, x.shape[batch : batch + depth])]
    return c.b.gather_nd(x, parts, range(batch + depth))


def _taken_nd(c: Call, x: Value, known: np.ndarray) -> Value:
    """Return slices of x at known places of its first dimensions, as places of them merged."""
    sizes = x.shape[: known.shape[-1]]
    columns = [
        np.where(k < 0, k + n, k) for k, n in zip(np.moveaxis(known, -1, 0), sizes, strict=True)
    ]
    flat = np.asarray(np.ravel_multi_index(tuple(columns), sizes))
    return _taken(c, c.b.reshape(x, -1, *x.shape[len(sizes) :]), 0, flat)


def _columns(c: Call, index: Value, sizes: Sequence[int]) -> list[Value]:
    """Return the places along each of several dimensions, of an index whose last one names them."""
    if index.shape[-1] != len(sizes):
        raise ModelFileError(f"{c.kind}: an index of {index.type} for {len(sizes)} dimensions")
    last = index.type.rank - 1
    found = []
    for number, size in enumerate(sizes):
        column = c.b.slice(index, last, number, number + 1)
        found.append(counted_from_0(c, c.b.reshape(column, *index.shape[:-1]), size))
    return found


@onnx_op("ScatterND")
def _scatter_nd(c: Call) -> Value:
    x, index, update = c.x(0), c.b.cast(c.x(1), int32), c.x(2)
    depth = index.shape[-1]
    parts = _columns(c, index, x.shape[:depth])
    return c.b.scatter_nd(x, update, parts, range(depth), _combiner(c))


@onnx_op("ScatterElements", "Scatter")
def _scatter_elements(c: Call) -> Value:
    x, update = c.x(0), c.x(2)
    axis = c.axis(c.attribute("axis", 0), x.type.rank)
    return c.b.scatter_along(x, update, places(c, 1, x.shape[axis]), axis, _combiner(c))


def _combiner(c: Call) -> str:
    reduction = c.attribute("reduction", "none")
    if reduction not in _COMBINERS:
        raise ModelFileError(f"{c.kind}: there is no reduction {reduction!r}")
    return _COMBINERS[reduction]


@onnx_op("TensorScatter")
def _tensor_scatter(c: Call) -> Value:
    cache, update = c.x(0), c.x(1)
    axis = c.axis(c.attribute("axis", -2), cache.type.rank)
    batch, count = cache.shape[0], update.shape[axis]
    steps = c.b.iota((batch, count), 1, int32)
    start = c.b.cast(c.x(2), int32) if c.has(2) else c.b.full(0, (batch,), int32)
    index = c.b.add(steps, c.b.reshape(start, batch, 1))
    if c.attribute("mode", "linear") == "circular":
        index = c.b.combine("mod", index, cache.shape[axis])
    return c.b.scatter(cache, update, index, axis, batched=True)


@onnx_op("OneHot")
def _one_hot(c: Call) -> Value:
    index, depth, values = c.b.cast(c.x(0), int32), int(c.number(1, 0)), c.x(2)
    axis = c.axis(c.attribute("axis", -1), index.type.rank + 1)
    hot = one_hot(c.b, counted_from_0(c, index, depth), depth, axis, bool_)
    off, on = (
        c.b.broadcast(c.b.reshape(c.b.slice(values, 0, i, i + 1)), hot.shape) for i in (0, 1)
    )
    return c.b.select(hot, on, off)


@onnx_op("ReverseSequence")
def _reverse_sequence(c: Call) -> Value:
    x, lengths = c.x(0), c.b.cast(c.x(1), int32)
    rank = x.type.rank
    batch, time = (
        c.axis(c.attribute(name, default), rank)
        for name, default in (("batch_axis", 1), ("time_axis", 0))
    )
    step = c.b.iota(x.shape, time, int32)
    ends = c.b.broadcast(lengths, x.shape, (batch,))
    turned = c.b.sub(c.b.sub(ends, 1), step)
    index = c.b.select(c.b.compare("lt", step, ends), turned, step)
    return c.b.gather_along(x, index, time)


@onnx_op("Compress")
def _compress(c: Call) -> Value:
    x, kept = c.x(0), np.flatnonzero(c.known(1))
    if "axis" not in c.attributes:
        return _taken(c, c.b.reshape(x, x.type.elements), 0, kept)
    return _taken(c, x, c.axis(c.attribute("axis"), x.type.rank), kept)


@onnx_op("TopK")
def _topk(c: Call) -> list[Value]:
    x, k = c.x(0), int(c.number(1, 1))
    axis = c.axis(c.attribute("axis", -1), x.type.rank)
    axes = list(range(x.type.rank))
    axes[axis], axes[-1] = axes[-1], axes[axis]
    found = c.b.topk(c.b.permute(x, *axes), k, largest=bool(c.attribute("largest", 1)))
    return [c.b.permute(v, *axes) for v in found]


@onnx_op("Pad")
def _pad(c: Call) -> Value:
    x, widths = c.x(0), c.ints(1)
    axes = [c.axis(a, x.type.rank) for a in c.ints(3)] if c.has(3) else list(range(x.type.rank))
    if len(widths) != 2 * len(axes):
        raise ModelFileError(f"Pad of {len(axes)} dimensions by {widths}")
    low, high = [0] * x.type.rank, [0] * x.type.rank
    for place, axis in enumerate(axes):
        low[axis], high[axis] = widths[place], widths[len(axes) + place]
    mode = c.attribute("mode", "constant")
    return c.b.pad(x, low, high, mode=mode, value=c.number(2, 0))

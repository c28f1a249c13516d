"""ATen operators that read and write at places: tables, gathers, scatters, advanced indexing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emuron.compiler.frontends.torch_call import Call, aten, axis_of
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops.creation import MOST_CONSTANT_ELEMENTS
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bool_, int32

# Reading.


@aten("embedding.default")
def _embedding(c: Call, table: Value, index: Value, *options: Any) -> Value:
    return _take(c, table, index, 0)


@aten("index_select.default")
def _index_select(c: Call, x: Value, dim: int, index: Value) -> Value:
    return c.b.reshape(_take(c, x, index, axis_of(dim, x.type.rank)), *c.out.shape)


def _take(c: Call, x: Value, index: Value, axis: int) -> Value:
    """Return slices of x at index, which counts from the end only where it is known now."""
    places = c.constant(index)
    if places is None or places.size > MOST_CONSTANT_ELEMENTS:
        return c.b.take(x, c.b.cast(index, int32), axis)
    return known_take(c, x, places, axis)


def known_take(c: Call, x: Value, places: np.ndarray, axis: int) -> Value:
    """Return slices of x at known places, which may count from the end, as in PyTorch.

    Consecutive or equal places need no gather. Raises UnsupportedOpError for more of others than
    a graph holds as a constant.
    """
    shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
    flat = np.where(places < 0, places + x.shape[axis], places).reshape(-1)
    if flat.size and (flat == flat[0]).all():
        one = c.b.slice(x, axis, int(flat[0]), int(flat[0]) + 1)
        sizes = (*x.shape[:axis], *(1,) * places.ndim, *x.shape[axis + 1 :])
        return c.b.broadcast(c.b.reshape(one, *sizes), shape)
    if flat.size and (np.diff(flat) == 1).all():
        whole = flat.size == x.shape[axis]
        x = x if whole else c.b.slice(x, axis, int(flat[0]), int(flat[-1]) + 1)
        return c.b.reshape(x, *shape)
    return c.b.take(x, _constant(c, flat.reshape(places.shape)), axis)


def _constant(c: Call, places: np.ndarray) -> Value:
    if places.size > MOST_CONSTANT_ELEMENTS:
        raise UnsupportedOpError(
            f"indexing with {places.size} known places that are negative or not in order"
        )
    type = TensorType(places.shape, int32)
    return c.b.constant([int(i) for i in places.reshape(-1)], type)


@aten("gather.default")
def _gather(c: Call, x: Value, dim: int, index: Value, **options: Any) -> Value:
    if x.type.rank == 0:
        return x
    return c.b.gather_along(x, c.b.cast(index, int32), axis_of(dim, x.type.rank))


@aten("index.Tensor", "_unsafe_index.Tensor")
def _index(c: Call, x: Value, indices: Sequence[Value | None]) -> Value:
    dims = [i for i, index in enumerate(indices) if index is not None]
    given = [index for index in indices if index is not None]
    if len(dims) == 1:
        return c.b.reshape(
            _take(c, x, _from_start(c, given[0], x.shape[dims[0]]), dims[0]), *c.out.shape
        )
    places = [c.constant(v) for v in given]
    known = [p for p in places if p is not None]
    neighbours = dims == list(range(dims[0], dims[0] + len(dims)))
    if neighbours and len(known) == len(places):
        return _known_grid(c, x, dims, known)
    spread = _together(c, x, dims, given)
    picked = c.b.gather_nd(x, spread, dims)
    return _index_dims_at(c, picked, dims[0] if neighbours else 0, spread[0].type.rank)


def _known_grid(c: Call, x: Value, dims: list[int], places: list[np.ndarray]) -> Value:
    """Return x at known places of neighbouring dimensions, by one gather along all of them."""
    sizes = x.shape[dims[0] : dims[-1] + 1]
    positive = [np.where(p < 0, p + n, p) for p, n in zip(places, sizes, strict=True)]
    flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*positive)), sizes)
    merged = c.b.reshape(x, *x.shape[: dims[0]], int(np.prod(sizes)), *x.shape[dims[-1] + 1 :])
    return c.b.reshape(known_take(c, merged, np.asarray(flat), dims[0]), *c.out.shape)


def _together(c: Call, x: Value, dims: Sequence[int], given: Sequence[Value]) -> list[Value]:
    """Return the indices in one shape, counted from the start of their dimensions."""
    shape = np.broadcast_shapes(*(v.shape for v in given))
    wrapped = [_from_start(c, v, x.shape[d]) for d, v in zip(dims, given, strict=True)]
    return [c.b.broadcast(v, shape) for v in wrapped]


def _from_start(c: Call, index: Value, size: int) -> Value:
    """Return an index as int32, data that may count from the end counted from the start."""
    if index.type.dtype == bool_:
        raise UnsupportedOpError("indexing with truths depends on their values; use torch.where")
    known = c.constant(index)
    if known is not None and (known < 0).any():
        return _constant(c, np.where(known < 0, known + size, known))
    index = index if known is not None else c.b.cast(index, int32)
    if known is not None or index.type.dtype.kind == "uint":
        return c.b.cast(index, int32)
    return c.b.select(c.b.compare("lt", index, 0), c.b.add(index, size), index)


def _index_dims_at(c: Call, picked: Value, at: int, count: int) -> Value:
    """Return what was picked with the dimensions of the index moved from the front to `at`."""
    if at == 0:
        return picked
    rank = picked.type.rank
    rest = list(range(count, rank))
    return c.b.permute(picked, *rest[:at], *range(count), *rest[at:])


# Writing.


@aten("index_put.default", "_unsafe_index_put.default")
def _index_put(
    c: Call, x: Value, indices: Sequence[Value | None], update: Value, accumulate: bool = False
) -> Value:
    dims = [i for i, index in enumerate(indices) if index is not None]
    given = [index for index in indices if index is not None]
    if given[0].type.dtype == bool_:
        return _masked_put(c, x, dims, given, update, accumulate)
    if len(dims) == 1 and given[0].type.rank == 1 and not accumulate:
        return _write(c, x, dims[0], _from_start(c, given[0], x.shape[dims[0]]), update)
    spread = _together(c, x, dims, given)
    count = spread[0].type.rank
    neighbours = dims == list(range(dims[0], dims[0] + len(dims)))
    at = dims[0] if neighbours else 0
    rest = [n for i, n in enumerate(x.shape) if i not in dims]
    update = c.b.broadcast(update, (*rest[:at], *spread[0].shape, *rest[at:]))
    order = [*range(at, at + count), *range(at), *range(at + count, count + len(rest))]
    update = c.b.permute(update, *order) if at else update
    return c.b.scatter_nd(x, update, spread, dims, "add" if accumulate else "set")


def _masked_put(
    c: Call, x: Value, dims: list[int], given: list[Value], update: Value, accumulate: bool
) -> Value:
    """Return x with one value where truths over its first dimensions hold."""
    mask = given[0]
    if len(given) > 1 or dims != [0] or update.type.elements != 1:
        raise UnsupportedOpError(
            "writing several values where truths hold depends on how many do; use torch.where"
        )
    mask = c.b.reshape(mask, *mask.shape, *(1,) * (x.type.rank - mask.type.rank))
    one = c.b.broadcast(c.b.reshape(update, *(1,) * x.type.rank), x.shape)
    new = c.b.add(x, one) if accumulate else one
    return c.b.select(c.b.broadcast(mask, x.shape), new, x)


@aten("index_copy.default")
def _index_copy(c: Call, x: Value, dim: int, index: Value, update: Value) -> Value:
    return _write(c, x, axis_of(dim, x.type.rank), c.b.cast(index, int32), update)


def _write(c: Call, x: Value, axis: int, index: Value, update: Value) -> Value:
    """Return x with slices along one dimension replaced; one index is a list of one."""
    index = c.b.reshape(index, index.type.elements)
    shape = (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :])
    return c.b.scatter(x, c.b.broadcast(update, shape), index, axis)


_COMBINERS = {
    "sum": "add",
    "add": "add",
    "prod": "mul",
    "multiply": "mul",
    "amax": "max",
    "amin": "min",
}


@aten("scatter.src", "scatter.value", "scatter.reduce", "scatter_reduce.two")
def _scatter(
    c: Call,
    x: Value,
    dim: int,
    index: Value,
    source: Value | float,
    reduce: str = "",
    **options: Any,
) -> Value:
    if not options.get("include_self", True) or reduce == "mean":
        raise UnsupportedOpError("scatter_reduce without the values written over, or of means")
    axis, index = axis_of(dim, x.type.rank), c.b.cast(index, int32)
    if not isinstance(source, Value):
        source = c.b.full(source, index.shape, x.type.dtype)
    for i, size in enumerate(index.shape):
        source = source if size == source.shape[i] else c.b.slice(source, i, 0, size)
    return c.b.scatter_along(x, source, index, axis, _COMBINERS.get(reduce, "set"))


@aten("scatter_add.default")
def _scatter_add(c: Call, x: Value, dim: int, index: Value, source: Value) -> Value:
    return _scatter(c, x, dim, index, source, "add")


@aten("index_add.default")
def _index_add(
    c: Call, x: Value, dim: int, index: Value, source: Value, *, alpha: float = 1
) -> Value:
    axis = axis_of(dim, x.type.rank)
    source = source if alpha == 1 else c.b.mul(source, alpha)
    order = [axis, *(i for i in range(x.type.rank) if i != axis)]
    update = c.b.permute(source, *order) if axis else source
    return c.b.scatter_nd(x, update, [c.b.cast(index, int32)], [axis], "add")

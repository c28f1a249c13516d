"""ATen operators that move and make data: shapes, joins, places, fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emuron.compiler.frontends.torch_call import Call, aten, axis_of
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops.creation import MOST_CONSTANT_ELEMENTS, Iota
from emuron.compiler.ops.indexed import GatherAlong
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import int32


@aten(
    "clone.default",
    "alias.default",
    "detach.default",
    "detach_.default",
    "contiguous.default",
    "lift_fresh_copy.default",
    "lift_fresh.default",
)
def _same(c: Call, x: Value, **options: Any) -> Value:
    return x


@aten("view.default", "reshape.default", "_unsafe_view.default")
def _reshape(c: Call, x: Value, shape: Sequence[int]) -> Value:
    return c.b.reshape(x, *c.out.shape)


@aten(
    "unsqueeze.default",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "flatten.using_ints",
    "unflatten.int",
)
def _as_out(c: Call, x: Value, *arguments: Any) -> Value:
    return c.b.reshape(x, *c.out.shape)


@aten("permute.default")
def _permute(c: Call, x: Value, axes: Sequence[int]) -> Value:
    return c.b.permute(x, *(axis_of(a, x.type.rank) for a in axes))


@aten("transpose.int")
def _transpose(c: Call, x: Value, first: int, second: int) -> Value:
    axes = list(range(x.type.rank))
    first, second = (axis_of(a, len(axes)) for a in (first, second))
    axes[first], axes[second] = axes[second], axes[first]
    return c.b.permute(x, *axes)


@aten("t.default")
def _t(c: Call, x: Value) -> Value:
    return x if x.type.rank < 2 else c.b.permute(x, 1, 0)


@aten("expand.default")
def _expand(c: Call, x: Value, sizes: Sequence[int], **options: Any) -> Value:
    return c.b.broadcast(x, c.out.shape)


@aten("repeat.default")
def _repeat(c: Call, x: Value, counts: Sequence[int]) -> Value:
    shape = (1,) * (len(counts) - x.type.rank) + x.shape
    pairs = [size for n in shape for size in (1, n)]
    spread = [size for times, n in zip(counts, shape, strict=True) for size in (times, n)]
    return c.b.reshape(c.b.broadcast(c.b.reshape(x, *pairs), spread), *c.out.shape)


@aten("slice.Tensor")
def _slice(
    c: Call,
    x: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    axis = axis_of(dim, x.type.rank)
    first, last, _ = slice(start, end).indices(x.shape[axis])
    if (first, last, step) == (0, x.shape[axis], 1):
        return x
    return c.b.slice(x, axis, first, max(first, last), step)


@aten("select.int")
def _select(c: Call, x: Value, dim: int, index: int) -> Value:
    axis = axis_of(dim, x.type.rank)
    place = axis_of(index, x.shape[axis])
    return c.b.reshape(c.b.slice(x, axis, place, place + 1), *c.out.shape)


@aten("cat.default")
def _cat(c: Call, parts: Sequence[Value], dim: int = 0) -> Value:
    # PyTorch lets empty vectors of any rank join.
    kept = [c.to_out(p) for p in parts if p.type.elements]
    return kept[0] if len(kept) == 1 else c.b.concat(kept, axis_of(dim, c.out.rank))


@aten("stack.default")
def _stack(c: Call, parts: Sequence[Value], dim: int = 0) -> Value:
    axis = axis_of(dim, c.out.rank)
    shape = [1 if i == axis else n for i, n in enumerate(c.out.shape)]
    return c.b.concat([c.b.reshape(c.to_out(p), *shape) for p in parts], axis)


@aten(
    "split.Tensor",
    "split_with_sizes.default",
    "split_with_sizes_copy.default",
    "chunk.default",
    "tensor_split.sections",
)
def _split(c: Call, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    axis, at, parts = axis_of(dim, x.type.rank), 0, []
    for out in c.outs:
        parts.append(c.b.slice(x, axis, at, at + out.shape[axis]))
        at += out.shape[axis]
    return parts


@aten("unbind.int")
def _unbind(c: Call, x: Value, dim: int = 0) -> list[Value]:
    return [_select(c, x, dim, i) for i in range(len(c.outs))]


@aten("constant_pad_nd.default")
def _pad(c: Call, x: Value, widths: Sequence[int], value: float = 0) -> Value:
    for i in range(0, len(widths), 2):
        axis = x.type.rank - 1 - i // 2
        before, after = widths[i], widths[i + 1]
        x = _slice(c, x, axis, max(0, -before), x.shape[axis] - max(0, -after))
        fills = [
            c.b.full(value, [n if a == axis else s for a, s in enumerate(x.shape)], c.out.dtype)
            for n in (max(0, before), max(0, after))
            if n
        ]
        if fills:
            parts = [fills[0], x] if before > 0 else [x]
            x = c.b.concat(parts if after <= 0 else [*parts, fills[-1]], axis)
    return x


# Places given by data.


@aten("embedding.default")
def _embedding(c: Call, table: Value, index: Value, *options: Any) -> Value:
    return _take(c, table, index, 0)


@aten("index_select.default")
def _index_select(c: Call, x: Value, dim: int, index: Value) -> Value:
    return c.b.reshape(_take(c, x, index, axis_of(dim, x.type.rank)), *c.out.shape)


def _take(c: Call, x: Value, index: Value, axis: int) -> Value:
    """Return slices of x at index; consecutive or equal places known now need no gather.

    Places known now may count from the end, as in PyTorch; those in data must not.
    """
    places = c.constant(index)
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    if places is None:
        return c.b.take(x, c.b.cast(index, int32), axis)
    flat = np.where(places < 0, places + x.shape[axis], places).reshape(-1)
    if flat.size and (flat == flat[0]).all():
        one = c.b.slice(x, axis, int(flat[0]), int(flat[0]) + 1)
        sizes = (*x.shape[:axis], *(1,) * index.type.rank, *x.shape[axis + 1 :])
        return c.b.broadcast(c.b.reshape(one, *sizes), shape)
    if (np.diff(flat) == 1).all():
        return c.b.reshape(_slice(c, x, axis, int(flat[0]), int(flat[-1]) + 1), *shape)
    if (places < 0).any():
        index = _constant(c, flat.reshape(places.shape))
    return c.b.take(x, index, axis)


def _constant(c: Call, places: np.ndarray) -> Value:
    if places.size > MOST_CONSTANT_ELEMENTS:
        raise UnsupportedOpError(
            f"indexing with {places.size} known places that are negative or not in order"
        )
    type = TensorType(places.shape, int32)
    return c.b.constant([int(i) for i in places.reshape(-1)], type)


@aten("gather.default")
def _gather(c: Call, x: Value, dim: int, index: Value, **options: Any) -> Value:
    axis = axis_of(dim, x.type.rank)
    for i, size in enumerate(index.shape):
        x = x if i == axis else _slice(c, x, i, 0, size)
    return c.b.one(GatherAlong(axis), x, c.b.cast(index, int32))


@aten("index.Tensor")
def _index(c: Call, x: Value, indices: Sequence[Value | None]) -> Value:
    dims = [i for i, index in enumerate(indices) if index is not None]
    if len(dims) == 1 and c.out.rank == x.type.rank - 1 + _rank(indices[dims[0]]):
        index = indices[dims[0]]
        assert index is not None
        return c.b.reshape(_take(c, x, index, dims[0]), *c.out.shape)
    places = [c.constant(v) for v in indices if v is not None]
    if dims != list(range(dims[0], dims[0] + len(dims))) or any(p is None for p in places):
        raise UnsupportedOpError(
            "indexing with several tensors is built for neighbouring dimensions and places that "
            "do not depend on the inputs"
        )
    return _index_grid(c, x, dims, [p for p in places if p is not None])


def _rank(index: Value | None) -> int:
    return 0 if index is None else index.type.rank


def _index_grid(c: Call, x: Value, dims: list[int], places: list[np.ndarray]) -> Value:
    """Return x at known places of neighbouring dimensions, by one gather along all of them."""
    sizes = x.shape[dims[0] : dims[-1] + 1]
    positive = [np.where(p < 0, p + n, p) for p, n in zip(places, sizes, strict=True)]
    flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*positive)), sizes)
    merged = c.b.reshape(x, *x.shape[: dims[0]], int(np.prod(sizes)), *x.shape[dims[-1] + 1 :])
    consecutive = flat.size == merged.shape[dims[0]] and (np.diff(flat.reshape(-1)) == 1).all()
    if consecutive:
        return c.b.reshape(merged, *c.out.shape)
    return c.b.reshape(c.b.take(merged, _constant(c, flat), dims[0]), *c.out.shape)


# Fills; those that depend on nothing are computed when the graph is read.


@aten("full_like.default", "new_full.default", "full.default")
def _full(c: Call, x: Any, *arguments: Any, **options: Any) -> Value:
    return c.b.full(arguments[-1], c.out.shape, c.out.dtype)


@aten("zeros_like.default", "new_zeros.default")
def _zeros(c: Call, x: Value, *arguments: Any, **options: Any) -> Value:
    return c.b.full(0, c.out.shape, c.out.dtype)


@aten("ones_like.default", "new_ones.default")
def _ones(c: Call, x: Value, *arguments: Any, **options: Any) -> Value:
    return c.b.full(1, c.out.shape, c.out.dtype)


@aten("arange.start_step")
def _arange(c: Call, start: int, end: int, step: int = 1, **options: Any) -> Value:
    return c.b.one(Iota(c.out.shape, 0, c.out.dtype, start, step))

"""ATen operators that move and make data: shapes, joins, padding, fills."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from emuron.compiler.frontends.torch_call import Call, aten, axis_of
from emuron.compiler.frontends.torch_places import known_take
from emuron.compiler.graph import Value
from emuron.compiler.ops.creation import Iota
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


# Padding and windows.


def _sides(x: Value, widths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return what PyTorch adds before and after each dimension; it lists the last one first."""
    low, high = [0] * x.type.rank, [0] * x.type.rank
    for i in range(0, len(widths), 2):
        low[-1 - i // 2], high[-1 - i // 2] = widths[i], widths[i + 1]
    return low, high


@aten("constant_pad_nd.default")
def _pad(c: Call, x: Value, widths: Sequence[int], value: float = 0) -> Value:
    return c.b.pad(x, *_sides(x, widths), value=value)


def _edge_padding(mode: str, name: str) -> None:
    @aten(*(f"{name}_pad{n}d.default" for n in (1, 2, 3)))
    def pad(c: Call, x: Value, widths: Sequence[int]) -> Value:
        return c.b.pad(x, *_sides(x, widths), mode=mode)


_edge_padding("reflect", "reflection")
_edge_padding("edge", "replication")


@aten("_pad_circular.default")
def _pad_circular(c: Call, x: Value, widths: Sequence[int]) -> Value:
    return c.b.pad(x, *_sides(x, widths), mode="wrap")


@aten("flip.default")
def _flip(c: Call, x: Value, dims: Sequence[int]) -> Value:
    return c.b.reverse(x, sorted(axis_of(d, x.type.rank) for d in dims))


@aten("roll.default")
def _roll(c: Call, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    if not dims:
        return c.b.reshape(_roll(c, c.b.reshape(x, -1), shifts, (0,)), *x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = axis_of(dim, x.type.rank)
        at = -shift % max(x.shape[axis], 1)
        if at:
            parts = _slice(c, x, axis, at), _slice(c, x, axis, 0, at)
            x = c.b.concat(parts, axis)
    return x


@aten("unfold.default")
def _unfold(c: Call, x: Value, dim: int, size: int, step: int) -> Value:
    """Return windows of one dimension as a last dimension, each of its places a strided slice."""
    axis = axis_of(dim, max(x.type.rank, 1))
    count = c.out.shape[axis]
    last = [c.b.slice(x, axis, i, i + (count - 1) * step + 1, step) for i in range(size)]
    return c.b.concat([c.b.reshape(v, *v.shape, 1) for v in last], x.type.rank)


@aten("as_strided.default")
def _as_strided(
    c: Call, x: Value, sizes: Sequence[int], strides: Sequence[int], offset: int | None = None
) -> Value:
    """Return a view by strides of a contiguous tensor, as a gather of known places."""
    places = np.full((), offset or 0, np.int64)
    for size, stride in zip(sizes, strides, strict=True):
        places = places[..., None] + np.arange(size) * stride
    return c.b.reshape(known_take(c, c.b.reshape(x, -1), places, 0), *c.out.shape)


def _along_diagonal(x: Value, offset: int, dims: tuple[int, int]) -> tuple[list[int], np.ndarray]:
    """Return the order that puts two dimensions last, and their diagonal's places in the two."""
    first, second = (axis_of(d, x.type.rank) for d in dims)
    rows, columns = x.shape[first], x.shape[second]
    row = np.arange(max(0, -offset), max(0, min(rows, columns - offset)))
    order = [i for i in range(x.type.rank) if i not in (first, second)]
    return [*order, first, second], row * columns + row + offset


@aten("diagonal.default")
def _diagonal(c: Call, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    order, places = _along_diagonal(x, offset, (dim1, dim2))
    flat = c.b.reshape(c.b.permute(x, *order), *c.out.shape[:-1], -1)
    return known_take(c, flat, places, len(order) - 2)


@aten("diagonal_scatter.default")
def _diagonal_scatter(
    c: Call, x: Value, update: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    order, places = _along_diagonal(x, offset, (dim1, dim2))
    moved = c.b.permute(x, *order)
    flat = c.b.reshape(moved, *moved.shape[:-2], -1)
    index = c.b.one(Iota(places.shape, 0, int32, int(places[0]), moved.shape[-1] + 1))
    written = c.b.scatter(flat, update, index, flat.type.rank - 1)
    return c.b.permute(c.b.reshape(written, *moved.shape), *np.argsort(order).tolist())


@aten("slice_scatter.default")
def _slice_scatter(
    c: Call,
    x: Value,
    update: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    axis = axis_of(dim, x.type.rank)
    places = range(*slice(start, end, step).indices(x.shape[axis]))
    update = c.b.broadcast(update, (*x.shape[:axis], len(places), *x.shape[axis + 1 :]))
    if not places:
        return x
    if step == 1:
        sides = _slice(c, x, axis, 0, places[0]), update, _slice(c, x, axis, places[-1] + 1)
        kept = [part for part in sides if part.shape[axis]]
        return kept[0] if len(kept) == 1 else c.b.concat(kept, axis)
    index = c.b.one(Iota((len(places),), 0, int32, places[0], step))
    return c.b.scatter(x, update, index, axis)


@aten("select_scatter.default")
def _select_scatter(c: Call, x: Value, update: Value, dim: int, index: int) -> Value:
    axis = axis_of(dim, x.type.rank)
    place = axis_of(index, x.shape[axis])
    one = c.b.reshape(update, *x.shape[:axis], 1, *x.shape[axis + 1 :])
    return _slice_scatter(c, x, one, axis, place, place + 1)


# Fills; those that depend on nothing are computed when the graph is read.


@aten("full_like.default", "new_full.default", "full.default", "scalar_tensor.default")
def _full(c: Call, x: Any, *arguments: Any, **options: Any) -> Value:
    return c.b.full(arguments[-1], c.out.shape, c.out.dtype)


@aten(
    *("zeros_like.default", "new_zeros.default", "zeros.default"),
    *("empty.memory_format", "empty_permuted.default", "empty_like.default", "new_empty.default"),
)
def _zeros(c: Call, x: Value, *arguments: Any, **options: Any) -> Value:
    return c.b.full(0, c.out.shape, c.out.dtype)


@aten("ones_like.default", "new_ones.default")
def _ones(c: Call, x: Value, *arguments: Any, **options: Any) -> Value:
    return c.b.full(1, c.out.shape, c.out.dtype)


@aten("arange.start_step")
def _arange(c: Call, start: int, end: int, step: int = 1, **options: Any) -> Value:
    return c.b.one(Iota(c.out.shape, 0, c.out.dtype, start, step))


@aten("bernoulli.default")
def _bernoulli(c: Call, chance: Value, *options: Any) -> Value:
    """Return what is certain; chances between 0 and 1 are random, and so refused."""
    known = c.constant(chance)
    if (
        known is None
        or known.size == 0
        or known.flat[0] not in (0, 1)
        or (known != known.flat[0]).any()
    ):
        raise UnsupportedOpError("bernoulli is random; call module.eval() or leave it out")
    return c.b.full(float(known.flat[0]), c.out.shape, c.out.dtype)

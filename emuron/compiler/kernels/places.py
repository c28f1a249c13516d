"""Kernels that read and write rows at places given by index tensors, one a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa
from emuron.compiler.kernels.movement import dense, move
from emuron.errors import UnsupportedOpError
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import int32

_MOST_EXACT = 1 << 24  # row numbers are worked out in float32
_FEW_WRITES = 16  # rows written without a recorded loop


def gather_nd(
    k: KernelContext, x: Placed, dims: Sequence[int], indices: Sequence[Placed], out: Placed
) -> None:
    """Write rows of x at places of `dims`; the indices' dimensions come first in out."""
    source, sizes = _indexed_first(k, x, dims)
    count = prod(indices[0].shape)
    columns = prod(out.shape) // max(1, count)
    view = out.view.reshape((count, columns))
    assert view is not None
    target = out.seen_as(view)
    rows = source.storage.reshape((prod(sizes), columns))
    for row in k.row_tiles(count, target):
        places = _row_numbers(k, indices, sizes, row)
        tile = k.target(target, row, (0, columns))
        nisa.dma_copy(tile, rows.ap([[columns, row[1]], [1, columns]], vector_offset=places))
        k.finish(tile, target, row, (0, columns))


def take(k: KernelContext, x: Placed, index: Placed, axis: int, out: Placed) -> None:
    """Write slices of x along `axis`, whose place the index's dimensions take."""
    rank, added = len(x.shape), len(index.shape)
    places = range(axis, axis + added)
    order = (*places, *(d for d in range(rank - 1 + added) if d not in places))
    gather_nd(k, x, (axis,), (index,), out.seen_as(out.view.permute(order)))


def gather_along(k: KernelContext, x: Placed, index: Placed, axis: int, out: Placed) -> None:
    """Write single elements of x: the place along `axis` is data, the others are the element's."""
    source = dense(k, x)
    elements = source.storage.reshape((prod(x.shape), 1))
    _require_countable(prod(x.shape))
    flat = [v.view.reshape((prod(index.shape), 1)) for v in (index, out)]
    assert flat[0] is not None
    assert flat[1] is not None
    found, target = index.seen_as(flat[0]), out.seen_as(flat[1])
    at = [np.broadcast_to(a, index.shape) for a in np.indices(index.shape, sparse=True)]
    at[axis] = np.zeros(index.shape, np.int64)
    fixed = np.ravel_multi_index(tuple(at), x.shape).reshape(-1, 1)
    others = k.constant(fixed.astype(np.float32), int32, "others")
    stride = float(prod(x.shape[axis + 1 :]))
    for row in k.row_tiles(fixed.shape[0], found, target, others):
        place = k.sbuf((row[1], 1), int32, "place")
        own = k.read(k.spill(found), row, (0, 1), "index")
        rest = k.read(others, row, (0, 1))
        nisa.scalar_tensor_tensor(place, own, "multiply", stride, "add", rest)
        tile = k.target(target, row, (0, 1))
        nisa.dma_copy(tile, elements.ap([[1, row[1]], [1, 1]], vector_offset=place))
        k.finish(tile, target, row, (0, 1))


def scatter_nd(
    k: KernelContext,
    x: Placed,
    dims: Sequence[int],
    update: Placed,
    indices: Sequence[Placed],
    combine: str | None,
    out: Placed,
) -> None:
    """Write x, then one row of update after another at places of `dims`, set or combined."""
    count = prod(indices[0].shape)
    order = (*dims, *(d for d in range(len(x.shape)) if d not in dims))
    turned = x.seen_as(x.view.permute(order))
    made = k.hbm(turned.shape, x.dtype, "scattered", "temporary")
    move(k, k.spill(x).seen_as(turned.view), made)
    sizes = tuple(x.shape[d] for d in dims)
    columns = prod(turned.shape) // prod(sizes)
    rows = made.storage.reshape((prod(sizes), columns))
    source = dense(k, update)
    view = source.view.reshape((count, columns))
    assert view is not None
    updates = source.seen_as(view)
    # One by one, so that the last of equal places wins.
    for number in range(count) if count <= _FEW_WRITES else k.loop(count, name="place"):
        row = (number, 1)
        at = _row_numbers(k, indices, sizes, row)
        target = rows.ap([[columns, 1], [1, columns]], vector_offset=at)
        new = k.read(updates, row, (0, columns), "update")
        if combine is not None:
            old, both = (k.sbuf((1, columns), x.dtype) for _ in range(2))
            nisa.dma_copy(old, rows.ap([[columns, 1], [1, columns]], vector_offset=at))
            nisa.tensor_tensor(both, old, new, combine)
            new = both
        nisa.dma_copy(target, new)
    back = tuple(int(d) for d in np.argsort(order))
    move(k, made.seen_as(made.view.permute(back)), out)


def _indexed_first(
    k: KernelContext, x: Placed, dims: Sequence[int]
) -> tuple[Placed, tuple[int, ...]]:
    """Return x dense with the indexed dimensions first, and their sizes."""
    order = (*dims, *(d for d in range(len(x.shape)) if d not in dims))
    sizes = tuple(x.shape[d] for d in dims)
    return dense(k, x.seen_as(x.view.permute(order))), sizes


def _row_numbers(
    k: KernelContext, indices: Sequence[Placed], sizes: Sequence[int], row: Rows
) -> NkiTensor:
    """Return [rows, 1]: the number of the row that index values name."""
    _require_countable(prod(sizes))
    total: NkiTensor | None = None
    for index, size in zip(indices, sizes, strict=True):
        view = index.view.reshape((prod(index.shape), 1))
        assert view is not None
        own = k.read(k.spill(index.seen_as(view)), row, (0, 1), "index")
        if total is None:
            total = own
            continue
        made = k.sbuf((row[1], 1), int32, "place")
        nisa.scalar_tensor_tensor(made, total, "multiply", float(size), "add", own)
        total = made
    assert total is not None
    return total


def _require_countable(rows: int) -> None:
    if rows > _MOST_EXACT:
        raise UnsupportedOpError(f"indices into {rows} rows are not exact in float32")

"""Kernels that move, gather, scatter and reduce."""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm, prod
from types import MappingProxyType

import numpy as np

from emuron.compiler.kernels import folding
from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa
from emuron.compiler.kernels.view import LogicalView
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32, int32

_REDUCE_OPS: Mapping[str, str] = MappingProxyType(
    {
        "sum": "add",
        "mean": "add",
        "prod": "multiply",
        "max": "maximum",
        "min": "minimum",
        "any": "maximum",
        "all": "minimum",
    }
)

_EXACT_INTEGERS = 1 << 24  # engines add integers in float32
_COLUMNS_MOVED = 16384  # of a row, at once: 64 KiB of float32 on one partition


def write_rows(
    k: KernelContext, update: Placed, index: Placed, axis: int, batched: bool, out: Placed
) -> None:
    """Write slices of update to out[…, index[i], …] in HBM, where out already holds the rest."""
    lead = out.shape[:axis]
    rest = prod(out.shape[axis + 1 :])
    count = update.shape[axis]
    length = out.shape[axis]
    source = k.spill(update)
    flat = source.view.reshape((prod(lead), count, rest))
    assert flat is not None
    if batched and prod(lead) * count <= 128 and out.storage.size // rest < _EXACT_INTEGERS:
        _write_at_once(k, source.seen_as(flat), index, out)
        return
    whole = out.storage.reshape((prod(lead), length, rest))
    pieces = [_entry(source, flat, entry) for entry in range(prod(lead))]
    batches = lead[0] if batched else 1
    each = prod(lead) // batches
    for batch in range(batches):
        entries = range(batch * each, (batch + 1) * each)
        for tile_rows in k.row_tiles(count, *(pieces[entry] for entry in entries)):
            places = _places(k, index, batch if batched else None, tile_rows)
            for entry in entries:
                tile = k.read(pieces[entry], tile_rows, (0, rest), "update")
                target = whole[entry].ap([[rest, tile_rows[1]], [1, rest]], vector_offset=places)
                nisa.dma_copy(target, tile)


def _write_at_once(k: KernelContext, update: Placed, index: Placed, out: Placed) -> None:
    """Write update [entries, n, rest] to the places index [batch, n] of out by one transfer.

    Each transfer with places of its own waits for the one before, which may have written anywhere.
    """
    entries, count, rest = update.shape
    batch, rows = index.shape[0], entries * count
    spread = index.view.broadcast((batch, entries // batch, count), (0, 2)).reshape((rows, 1))
    assert spread is not None
    length = out.storage.size // rest // entries
    starts = np.repeat(np.arange(entries, dtype=np.int32) * length, count)[:, None]
    first = k.read(k.constant(starts, int32, "starts"), (0, rows), (0, 1), "starts")
    places = k.sbuf((rows, 1), int32, "places")
    index = k.spill(index).seen_as(spread)
    nisa.tensor_tensor(places, k.read(index, (0, rows), (0, 1), "index"), first, "add")
    flat = update.view.reshape((rows, rest))
    assert flat is not None
    tile = k.read(update.seen_as(flat), (0, rows), (0, rest), "update")
    whole = out.storage.reshape((entries * length, rest))
    nisa.dma_copy(whole.ap([[rest, rows], [1, rest]], vector_offset=places), tile)


def _entry(source: Placed, flat: LogicalView, entry: int) -> Placed:
    """Return [rows, rest] of one of the leading entries of a value in HBM."""
    slices = flat.slice(0, entry, 1)
    assert slices is not None
    return source.seen_as(LogicalView(slices.dims[1:], slices.offset))


def _places(k: KernelContext, index: Placed, row: int | None, rows: Rows) -> NkiTensor:
    view = index.view
    if row is not None:
        sliced = view.slice(0, row, 1)
        assert sliced is not None
        view = LogicalView(sliced.dims[1:], sliced.offset)
    column = LogicalView((view.dims[-1], ((1, 1),)), view.offset)
    return k.read(k.spill(index.seen_as(column)), rows, (0, 1), "index")


def replace_slices(
    k: KernelContext,
    x: Placed,
    update: Placed,
    index: Placed,
    axis: int,
    batched: bool,
    out: Placed,
) -> None:
    """Write x with slices of update at out[…, index[i], …]; in place if out is x's memory."""
    target = in_hbm(k, x, out)
    write_rows(k, update, index, axis, batched, target)
    if target is not out:
        move(k, target, out)


def in_hbm(k: KernelContext, x: Placed, out: Placed) -> Placed:
    """Return x dense in HBM, to be written to: out's own memory if it lies there, else a copy."""
    target = out
    if out.on_chip or not out.view.is_dense or prod(out.shape) != out.storage.size:
        target = k.hbm(out.shape, out.dtype, "rewritten", "temporary")
    if x.storage.tensor is not target.storage.tensor:
        move(k, x, target)
    return target


def constant(k: KernelContext, values: tuple[float, ...], out: Placed) -> None:
    """Write small host data; a single number stays an immediate."""
    if len(set(values)) == 1:
        out.immediate = values[0]
        return
    held = out.dtype.np if out.dtype.is_integer else np.float32
    array = np.array(values).astype(held).reshape(out.shape)
    move(k, k.constant(array, out.dtype, "constant"), out)


def reduce_last(k: KernelContext, x: Placed, kind: str, dims: int, out: Placed) -> None:
    """Write the sum, mean, max or min over the last dimensions of x."""
    merged = x.view.reshape((*x.shape[: len(x.shape) - dims], prod(x.shape[-dims:])))
    assert merged is not None
    x = x.seen_as(merged)
    rows, columns = x.view.matrix().shape
    x = k.reachable(x, columns)
    view = out.view.reshape((rows, 1))
    assert view is not None
    target = out.seen_as(view)
    for row in k.row_tiles(rows, x, target):
        tile = k.read(x, row, (0, columns))
        written = k.target(target, row, (0, 1))
        _reduce(k, written, tile, kind, columns)
        k.finish(written, target, row, (0, 1))


def _reduce(k: KernelContext, out: NkiTensor, rows: NkiTensor, kind: str, count: int) -> None:
    op = _REDUCE_OPS[kind]
    if kind != "mean":
        nisa.tensor_reduce(out, op, rows, 1)
        return
    total = k.sbuf((rows.shape[0], 1), float32)
    nisa.tensor_reduce(total, op, rows, 1)
    nisa.tensor_scalar(out, total, "multiply", 1.0 / count)


def reduce_rows(k: KernelContext, x: Placed, kind: str, out: Placed) -> None:
    """Write the reduction of x [..., n, columns] over n: columns go to partitions and back."""
    length, columns = x.shape[-2:]
    batch = prod(x.shape[:-2])
    rows = x.view.reshape((batch, length, columns))
    flat = out.view.reshape((batch, columns))
    assert rows is not None
    assert flat is not None
    target = out.seen_as(flat)
    blocks = -(-columns // 128)
    for start in range(0, batch, 128):
        count = min(128, batch - start)
        parts = k.sbuf((min(128, columns), blocks, count), float32)
        for entry in range(count):
            view = rows.slice(0, start + entry, 1)
            assert view is not None
            one = x.seen_as(LogicalView(view.dims[1:], view.offset))
            turned = k.transposed(k.reachable(one, columns), (0, length), x.dtype)
            for block in range(blocks):
                width = min(128, columns - 128 * block)
                part = parts[:width, block, entry : entry + 1]
                _reduce(k, part, turned[:width, block], kind, length)
        written = k.target(target, (start, count), (0, columns))
        for block in range(blocks):
            width = min(128, columns - 128 * block)
            stage = k.psum((count, width), float32)
            nisa.nc_transpose(stage, parts[:width, block], engine="tensor")
            k.evict(written[:, 128 * block : 128 * block + width], stage)
        k.finish(written, target, (start, count), (0, columns))


def counts(k: KernelContext, out: Placed, axis: int, start: int, step: int) -> None:
    """Write start + step·index along one dimension of out."""
    rows, columns = out.view.matrix().shape
    if axis == len(out.shape) - 1:
        line = start + step * np.arange(columns, dtype=np.int32)
        base = k.read(k.constant(line, int32, "counts"), (0, 1), (0, columns))
    for row in range(rows):
        target = k.target(out, (row, 1), (0, columns))
        if axis == len(out.shape) - 1:
            nisa.tensor_copy(target, base, engine="vector")
        else:
            inner = prod(out.shape[axis + 1 : -1])
            number = start + step * (row // inner % out.shape[axis])
            nisa.memset(target, number)
        k.finish(target, out, (row, 1), (0, columns))


def concatenate(k: KernelContext, parts: list[Placed], axis: int, out: Placed) -> None:
    """Write the parts one after another along a dimension of out, by DMA."""
    at = 0
    for part in parts:
        view = out.view.slice(axis, at, part.shape[axis])
        assert view is not None
        move(k, part, out.seen_as(view))
        at += part.shape[axis]


def dense(k: KernelContext, value: Placed) -> Placed:
    """Return a value in HBM whose elements lie in row-major order, without gaps or neighbours."""
    stored = k.spill(value)
    if stored.view.is_dense and prod(stored.shape) == stored.storage.size:
        return stored
    made = k.hbm(value.shape, value.dtype, "dense", "temporary")
    move(k, value, made)
    return made


def reshape(k: KernelContext, x: Placed, out: Placed) -> None:
    """Write x in the same order into out, a dense value of another shape."""
    view = out.view.reshape(x.shape)
    assert view is not None
    move(k, x, out.seen_as(view))


def slices(
    k: KernelContext, x: Placed, bounds: tuple[tuple[int, int, int], ...], out: Placed
) -> None:
    """Write x[start:stop:step] of every dimension, where x's own storage has no view of it."""
    source = dense(k, x)
    view = source.view
    for dim, (start, stop, step) in enumerate(bounds):
        found = view.slice(dim, start, -(-(stop - start) // step), step)
        assert found is not None
        view = found
    move(k, source.seen_as(view), out)


def move(k: KernelContext, x: Placed, out: Placed) -> None:
    """Copy a value by tiles, whatever its view; from HBM to HBM without a stop on chip."""
    if folding.is_folded(out):
        x, out = folding.folded(k, x), folding.folded(k, out)
    rows, columns = out.view.matrix().shape
    direct = not x.on_chip and not out.on_chip and x.dtype == out.dtype
    x = x if direct else k.reachable(x, columns)
    width = _whole_runs(x, out)
    for row in k.row_tiles(rows, x, out):
        for start in range(0, columns, width):
            part = (start, min(width, columns - start))
            if direct and _copy_directly(x, out, row, part):
                continue
            target = k.target(out, row, part)
            if target.tensor is not out.storage.tensor:
                k.finish(k.read(x, row, part), out, row, part)
            elif not x.on_chip and x.dtype == out.dtype:
                k.load(target, x, row, part)
            else:
                nisa.tensor_copy(target, k.read(x, row, part), engine="vector")


def _whole_runs(*values: Placed) -> int:
    """Return how many columns to move at once: as many runs of each value as are allowed."""
    inner = lcm(*(prod(n for n, _ in v.view.matrix().dims[1][1:]) for v in values))
    return max(1, _COLUMNS_MOVED // inner) * inner


def _copy_directly(x: Placed, out: Placed, rows: Rows, columns: Rows) -> bool:
    """Let one DMA copy a tile between places in HBM, if each is one pattern."""
    source, target = x.pattern(rows, columns), out.pattern(rows, columns)
    if source is None or target is None:
        return False
    nisa.dma_copy(target, source)
    return True

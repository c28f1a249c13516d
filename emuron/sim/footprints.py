"""Which bytes operands touch, as cells: the elementary rectangles of what they lie in.

A tensor is seen as rows × bytes (on chip rows are partitions, in HBM the last dimension is a row).
The borders of all accesses of a program cut it into cells, so that each access covers whole cells.
An operand that skips bytes counts as touching its hull. Everything here is columns: one entry for
each access.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emuron.isa.tensor import AccessPattern, Tensor

Column = NDArray[np.int64]

# With more borders than this a tensor is one row (column) of cells: accesses then conflict more
# often than they must, which is safe.
_MOST_BORDERS = 4096
_PART = 1 << 14  # accesses


class Footprint(NamedTuple):
    """The hull of an access pattern without its offset, in bytes, on rows of `pitch` bytes."""

    pitch: int
    low: int  # bytes before the offset (negative strides)
    rows: int  # rows beyond the first
    width: int  # bytes touched in each row
    whole: int  # 1 if the access may go anywhere in the tensor
    all_rows: int


class Rectangles(NamedTuple):
    """What accesses touch: rows from, to; bytes from, to."""

    row: Column
    row_end: Column
    byte: Column
    byte_end: Column


class Cells(NamedTuple):
    """The cells of each access: `rows` × `columns` from number `first`, rows `across` apart."""

    first: Column
    rows: Column
    columns: Column
    across: Column


def pitch_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor's rows."""
    if tensor.buffer.is_on_chip:
        return max(1, tensor.partition_bytes)
    return max(1, (tensor.shape[-1] if tensor.shape else 1) * tensor.dtype.itemsize)


def rows_of(tensor: Tensor) -> int:
    """Return the number of a tensor's rows."""
    return max(1, -(-tensor.nbytes // pitch_of(tensor)))


def footprint(pattern: AccessPattern, pitch: int, all_rows: int) -> Footprint:
    """Return the footprint of an access pattern on a tensor of so many rows of `pitch` bytes."""
    size = pattern.dtype.itemsize
    if pattern.indirection is not None or prod(pattern.shape) == 0:
        return anywhere(pitch, all_rows)
    low, rows, width = 0, 0, size
    for count, stride in zip(pattern.shape, pattern.strides, strict=True):
        span = (count - 1) * abs(stride) * size
        if stride < 0:
            low += span
        if stride * size % pitch == 0:
            rows += span // pitch
        else:
            width += span
    return Footprint(pitch, low, rows, width, 0, all_rows)


def anywhere(pitch: int, all_rows: int) -> Footprint:
    """Return the footprint of an access that may go anywhere in a tensor."""
    return Footprint(pitch, 0, 0, pitch, 1, all_rows)


def rectangles(footprints: list[Footprint], number: Column, offset: Column) -> Rectangles:
    """Return what accesses touch, each with the footprint of its number at its byte offset."""
    fields = np.array(footprints, np.int64).reshape(-1, len(Footprint._fields)).T
    found = np.empty((len(Rectangles._fields), len(number)), np.int64)
    # A part at a time, so that what is worked out stays in the processor's cache.
    for first in range(0, len(number), _PART):
        part = slice(first, first + _PART)
        found[:, part] = _rectangles(fields, number[part], offset[part])
    return Rectangles(*found)


def _rectangles(fields: Column, number: Column, offset: Column) -> Rectangles:
    pitch, low, rows, width, whole, all_rows = (column[number] for column in fields)
    start = offset - low
    row, byte = np.divmod(start, pitch)
    fits = byte + width <= pitch
    # What runs on into the next row touches whole rows.
    last = np.where(fits, row + rows, (start + rows * pitch + width - 1) // pitch)
    byte, end = np.where(fits, byte, 0), np.where(fits, byte + width, pitch)
    somewhere = whole == 1
    return Rectangles(
        np.where(somewhere, 0, row),
        np.where(somewhere, all_rows, last + 1),
        np.where(somewhere, 0, byte),
        np.where(somewhere, pitch, end),
    )


def cut(space: Column, touched: Rectangles, spaces: int) -> tuple[Cells, int]:
    """Return the cells of accesses, each in its space (a tensor), and how many cells there are."""
    uniform = _uniform(space, touched, spaces)
    cells = Cells(*(np.zeros(len(space), np.int64) for _ in Cells._fields))
    counts = np.zeros(spaces, np.int64)
    counts[space] = 1
    for column in (cells.rows, cells.columns, cells.across):
        column[:] = 1
    some = np.flatnonzero(~uniform)
    if len(some):
        own = space[some]
        low, high, rows = _between(own, touched.row[some], touched.row_end[some], spaces)
        left, right, columns = _between(own, touched.byte[some], touched.byte_end[some], spaces)
        across = columns[own]
        cells.first[some] = low * across + left
        cells.rows[some], cells.columns[some] = high - low, right - left
        cells.across[some] = across
        counts[own] = (rows * columns)[own]
    starts = np.cumsum(counts) - counts
    cells.first[:] += starts[space]
    return cells, int(counts.sum())


def _uniform(space: Column, touched: Rectangles, spaces: int) -> NDArray[np.bool_]:
    """Return for each access whether all accesses of its space touch the same bytes."""
    any_of = np.zeros(spaces, np.int64)
    any_of[space] = np.arange(len(space))
    like = any_of[space]
    differs = np.zeros(len(space), np.bool_)
    for column in touched:
        differs |= column != column[like]
    mixed = np.zeros(spaces, np.bool_)
    mixed[space[differs]] = True
    return ~mixed[space]


def _between(
    space: Column, low: Column, high: Column, spaces: int
) -> tuple[Column, Column, Column]:
    """Return the first and past-the-last interval of each access, and the intervals of a space."""
    base = int(low.min())
    span = int(high.max()) - base + 1
    keys = space * span - base
    borders = np.unique(np.concatenate([keys + low, keys + high]))
    counts = np.bincount(borders // span, minlength=spaces)
    starts = np.cumsum(counts) - counts
    first = np.searchsorted(borders, keys + low) - starts[space]
    last = np.searchsorted(borders, keys + high) - starts[space]
    coarse = counts[space] > _MOST_BORDERS
    counts = np.where(counts > _MOST_BORDERS, 2, counts)
    return np.where(coarse, 0, first), np.where(coarse, 1, last), counts - 1

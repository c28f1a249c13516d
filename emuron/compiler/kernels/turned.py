"""Tiles of values that lie otherwise than a kernel reads them: transposed, or stretched."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from emuron.compiler.kernels.view import LogicalView, take
from emuron.isa.affine import Index
from emuron.nki import isa
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType

if TYPE_CHECKING:
    from emuron.compiler.kernels.context import KernelContext, Placed

nisa: Any = isa  # its functions are made from the instruction classes
_PARTITIONS = 128
_COLUMNS_READ = 4096  # of a row, at once, on their way to being transposed
_LEAST_REPEATS = 4  # of an element, from which it is loaded once


def is_turned(value: Placed) -> bool:
    """Tell whether a value is a matrix whose columns are the rows of its base.

    So lie the pixels of an image whose channels are on partitions, seen as rows of channels.
    """
    if value.columns <= 1:
        return False
    base = LogicalView.dense((value.rows, value.columns)).permute((1, 0)).matrix()
    return value.view.matrix().dims == base.dims and value.view.offset == 0


def turned_rows(
    k: KernelContext, value: Placed, rows: tuple[Index, int], columns: tuple[Index, int]
) -> NkiTensor:
    """Return rows of a turned value as [rows, columns], by transposes on the Tensor engine."""
    first, count = columns
    assert isinstance(first, int)
    tile = k.sbuf((rows[1], count), value.dtype, "turned")
    begin = first
    while begin < first + count:
        partition = begin % _PARTITIONS
        width = min(_PARTITIONS - partition, first + count - begin)
        source = _base_rows(k, value, (begin, width), rows)
        stage = k.psum((rows[1], width), value.dtype)
        nisa.nc_transpose(stage, source, engine="tensor")
        k.evict(tile[:, begin - first : begin - first + width], stage)
        begin += width
    return tile


def _base_rows(
    k: KernelContext, value: Placed, rows: tuple[int, int], columns: tuple[Index, int]
) -> NkiTensor:
    """Return rows of a value's base, all of one block of partitions."""
    first, count = rows
    if value.on_chip:
        block, partition = divmod(first, _PARTITIONS)
        return value.storage[partition : partition + count, block, _span(columns)]
    tile = k.sbuf((count, columns[1]), value.dtype, "rows")
    nisa.dma_copy(tile, _stored(value)[first : first + count, _span(columns)])
    return tile


def _stored(value: Placed) -> NkiTensor:
    return value.storage.reshape((value.rows, value.columns))


def turned_columns(
    k: KernelContext, value: Placed, rows: tuple[Index, int], dtype: DType
) -> NkiTensor:
    """Return rows of a turned value with their columns on partitions: its own bytes, or a copy."""
    if value.on_chip and value.dtype == dtype:
        return value.storage[:, :, _span(rows)]
    shape = (min(_PARTITIONS, value.rows), -(-value.rows // _PARTITIONS), rows[1])
    tile = k.sbuf(shape, dtype, "transposed")
    for first in range(0, value.rows, _PARTITIONS):
        count, block = min(_PARTITIONS, value.rows - first), first // _PARTITIONS
        if value.on_chip:
            source = value.storage[:count, block, _span(rows)]
            nisa.tensor_copy(tile[:count, block], source, engine="vector")
        else:
            source = _stored(value)[first : first + count, _span(rows)]
            nisa.dma_copy(tile[:count, block], source)
    return tile


def _span(rows: tuple[Index, int]) -> slice:
    return slice(rows[0], rows[0] + rows[1])


def stretched(
    k: KernelContext, source: Placed, rows: tuple[Index, int], columns: tuple[Index, int]
) -> NkiTensor | None:
    """Return a tile of a value in HBM that repeats elements along its columns, loaded once each.

    None where it does not repeat them, or too seldom.
    """
    pattern = source.pattern(rows, columns)
    if pattern is None:
        return None
    runs = list(zip(pattern.shape[1:], pattern.strides[1:], strict=True))
    kept = tuple(1 if stride == 0 else count for count, stride in runs)
    if pattern.size < _LEAST_REPEATS * pattern.shape[0] * prod(kept):
        return None
    shape = (pattern.shape[0], *kept)
    tile = k.sbuf(shape, source.dtype, "once")
    once = NkiTensor(pattern.tensor, shape, pattern.strides, pattern.offset, pattern.dtype)
    nisa.dma_copy(tile, once)
    strides = tuple(
        0 if run[1] == 0 else stride for run, stride in zip(runs, tile.strides[1:], strict=True)
    )
    return NkiTensor(
        tile.tensor, pattern.shape, (tile.strides[0], *strides), tile.offset, tile.dtype
    )


def transpose(k: KernelContext, value: Placed, rows: tuple[Index, int], dtype: DType) -> NkiTensor:
    """Return rows of a matrix with their columns on partitions: [128, blocks, rows]."""
    if is_turned(value):
        return turned_columns(k, value, rows, dtype)
    columns = value.view.matrix().shape[1]
    blocks = -(-columns // 128)
    made = k.sbuf((min(128, columns), blocks, rows[1]), dtype, "transposed")
    for start, count in k.row_tiles(rows[1]):
        for first in range(0, columns, _COLUMNS_READ):
            width = min(_COLUMNS_READ, columns - first)
            tile = k.read(value, (rows[0] + start, count), (first, width))
            if tile.dtype != dtype or not _cuts_into_blocks(tile):
                narrow = k.sbuf((count, width), dtype)
                nisa.tensor_copy(narrow, tile, engine="vector")
                tile = narrow
            transpose_tile(k, made[:, first // 128 :], tile, start, count)
    return made


def transpose_tile(
    k: KernelContext, made: NkiTensor, tile: NkiTensor, start: Index, count: int
) -> None:
    """Transpose a tile [count, columns] into made[:, :, start : start + count]."""
    columns = prod(tile.shape[1:])
    group = max(1, k.core.psum_bank_bytes // tile.dtype.itemsize // 128)
    full = columns // 128
    for first in range(0, full, group):
        last = min(full, first + group)
        stage = k.psum((128, last - first, count), tile.dtype)
        for block in range(first, last):
            piece = columns_of(tile, 128 * block, 128)
            nisa.nc_transpose(stage[:, block - first], piece, engine="tensor")
        k.evict(made[:, first:last, _span((start, count))], stage)
    if columns % 128:
        width = columns % 128
        stage = k.psum((width, count), tile.dtype)
        piece = columns_of(tile, 128 * full, width)
        nisa.nc_transpose(stage, piece, engine="tensor")
        k.evict(made[:width, full, _span((start, count))], stage)


def _cuts_into_blocks(tile: NkiTensor) -> bool:
    """Tell whether every block of 128 columns of a tile is one pattern."""
    runs, columns = tuple(zip(tile.shape[1:], tile.strides[1:], strict=True)), prod(tile.shape[1:])
    blocks = ((start, min(128, columns - start)) for start in range(0, columns, 128))
    return all(take(runs, start, count) is not None for start, count in blocks)


def columns_of(tile: NkiTensor, start: int, count: int) -> NkiTensor:
    """Return columns [start, start + count) of a tile whose columns may be merged runs."""
    if start == 0 and count == prod(tile.shape[1:]):
        return tile
    if tile.ndim == 2:
        return tile[:, start : start + count]
    runs = tuple(zip(tile.shape[1:], tile.strides[1:], strict=True))
    found = take(runs, start, count)
    assert found is not None
    return NkiTensor(
        tile.tensor,
        (tile.shape[0], *[n for n, _ in found[1]]),
        (tile.strides[0], *[s for _, s in found[1]]),
        tile.offset + found[0],
        tile.dtype,
    )

"""Tiles beside the values that they are parts of, cut where a value is no single pattern."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from emuron.compiler.kernels.view import Run, take
from emuron.isa.affine import Affine, Index
from emuron.nki import isa
from emuron.nki.tensor import NkiTensor

if TYPE_CHECKING:
    from emuron.compiler.kernels.context import Placed

nisa: Any = isa  # its functions are made from the instruction classes


def paired(
    tile: NkiTensor, value: Placed, rows: tuple[Index, int], columns: tuple[Index, int]
) -> Iterator[tuple[NkiTensor, NkiTensor]]:
    """Yield the parts of a tile with the patterns of a value in HBM that they stand for."""
    tall, wide = value.view.matrix().dims
    spans = list(pieces(wide, columns))
    for start, count in pieces(tall, rows):
        part = tile[start - rows[0] : start - rows[0] + count]
        for first, width in spans:
            pattern = value.pattern((start, count), (first, width))
            assert pattern is not None, (value.view, rows, columns)
            if len(spans) > 1:
                yield part[:, first - columns[0] : first - columns[0] + width], pattern
            else:
                yield part, pattern


def pieces(
    dim: tuple[Run, ...], rows: tuple[Index, int], one_run: bool = False
) -> Iterator[tuple[Index, int]]:
    """Cut rows [start, start + count) of a dimension into ranges that are single patterns.

    On chip, where rows are partitions, a pattern is `one_run` of them.
    """
    start, count = rows
    found = take(dim, start, count)
    whole = found is not None and not (one_run and len(found[1]) > 1)
    if whole or isinstance(start, Affine):
        yield start, count
        return
    inner, end = prod(n for n, _ in dim[1:]), start + count
    while start < end:
        rest = start % inner
        multiple = 0 if rest or one_run else (end - start) // inner * inner
        size = multiple or min(end - start, inner - rest)
        inside = ((rest, size),) if multiple else pieces(dim[1:], (rest, size), one_run)
        yield from ((start - rest + first, number) for first, number in inside)
        start += size


def store_on_chip(
    tile: NkiTensor, value: Placed, rows: tuple[Index, int], columns: tuple[Index, int]
) -> None:
    """Store a tile in a value on chip whose bytes it is not."""
    for start, count in pieces(value.view.matrix().dims[0], rows, one_run=True):
        piece = tile[start - rows[0] : start - rows[0] + count]
        pattern = value.pattern((start, count), columns)
        if pattern is not None:
            nisa.dma_copy(pattern, piece)
            continue
        for row in range(count):
            _store_folded(piece[row : row + 1], value, start + row, columns)


def _store_folded(line: NkiTensor, value: Placed, row: Index, columns: tuple[Index, int]) -> None:
    """Store columns of one row of a value whose rows lie on several partitions each."""
    width = value.columns
    assert not isinstance(row, Affine)
    assert not isinstance(columns[0], Affine)
    first = row * (value.shape[-1] // width) + columns[0] // width
    last = first + columns[1] // width
    for block in range(first // 128, -(-last // 128)):
        low, high = max(first, 128 * block), min(last, 128 * block + 128)
        part = line[:, (low - first) * width : (high - first) * width]
        nisa.dma_copy(value.storage[low - 128 * block : high - 128 * block, block], part)

"""Few wide rows, folded: 128 columns to a partition, so that one token fills the engines' lanes.

In the rows layout a row lies on one partition, and an engine takes its elements one after another.
A folded value holds columns 128·b … 128·b + 127 of row r at base row r·blocks + b.
"""

from __future__ import annotations

from math import prod

import numpy as np

from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa
from emuron.compiler.kernels.view import LogicalView
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float32

WIDTH = 128
_MOST_ROWS = 16  # with more, the rows themselves fill enough partitions (assumed)


def folds(rows: int, columns: int) -> bool:
    """Tell whether a matrix is folded: few wide rows, whose tiles of 128 do not cut a row."""
    blocks = columns // WIDTH
    if not 1 <= rows <= _MOST_ROWS or columns % WIDTH or blocks < 2:
        return False
    return rows * blocks <= WIDTH or WIDTH % blocks == 0


def matrix_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of a value seen as a matrix."""
    return prod(shape[:-1]), shape[-1] if shape else 1


def is_folded(value: Placed) -> bool:
    """Tell whether a value lies folded on chip."""
    wide = value.on_chip and value.columns == WIDTH and value.shape[-1] != WIDTH
    return wide and value.view.is_dense and folds(*matrix_of(value.shape))


def folded(k: KernelContext, value: Placed) -> Placed:
    """Return a matrix that folds as [rows · blocks, 128]: another view of it, or a copy."""
    rows, columns = matrix_of(value.shape)
    shape = (rows * (columns // WIDTH), WIDTH)
    if is_folded(value):
        return value.seen_as(LogicalView.dense(shape))
    stored = k.spill(value)
    view = stored.view.reshape(shape)
    if view is None:
        made = k.hbm(value.shape, value.dtype, "dense", "temporary")
        for row in range(rows):
            part = ((row, 1), (0, columns))
            nisa.dma_copy(made.pattern(*part), stored.pattern(*part))
        return made.seen_as(LogicalView.dense(shape))
    return stored.seen_as(view)


def repeated(value: Placed, rows: int) -> Placed:
    """Return a vector in HBM as [rows · blocks, 128]: the same for each of `rows` folded rows."""
    blocks = value.shape[-1] // WIDTH
    flat = value.view.reshape((blocks, WIDTH))
    spread = None if flat is None else flat.broadcast((rows, blocks, WIDTH), (1, 2))
    view = None if spread is None else spread.reshape((rows * blocks, WIDTH))
    assert view is not None
    return value.seen_as(view)


def sum_of_rows(k: KernelContext, partial: NkiTensor, blocks: int) -> NkiTensor:
    """Return on every partition of a folded row the sum of `partial` [n, 1] over its blocks."""
    count = partial.shape[0]
    product, total = k.psum((count, 1), float32), k.sbuf((count, 1), float32)
    nisa.nc_matmul(product, _same_row(k, count, blocks), partial, accumulate=False)
    nisa.tensor_copy(total, product, engine="vector")
    return total


def _same_row(k: KernelContext, count: int, blocks: int) -> NkiTensor:
    """Return [count, count] with ones where two partitions hold blocks of one row."""
    if count == blocks:
        return k.filled(1.0, count, count)
    rows = np.arange(count) // blocks
    ones = k.constant((rows[:, None] == rows).astype(np.float32), float32, "same_row")
    return k.read(ones, (0, count), (0, count), "same_row")


def transposed(k: KernelContext, value: Placed, dtype: DType) -> NkiTensor:
    """Return the rows of a folded value as `KernelContext.transposed` does: [128, blocks, rows]."""
    rows, columns = matrix_of(value.shape)
    blocks = columns // WIDTH
    base = folded(k, value)
    made = k.sbuf((WIDTH, blocks, rows), dtype, "transposed")
    for start in range(0, rows * blocks, WIDTH):
        count = min(WIDTH, rows * blocks - start)
        tile = k.read(base, (start, count), (0, WIDTH))
        if tile.dtype != dtype:
            narrow = k.sbuf((count, WIDTH), dtype)
            nisa.tensor_copy(narrow, tile, engine="vector")
            tile = narrow
        stage = k.psum((WIDTH, count), dtype)
        nisa.nc_transpose(stage, tile, engine="tensor")
        # Columns of the stage are rows · blocks; those of the result blocks · rows.
        first = start // blocks
        place = made[:, :, first : first + count // blocks]
        by_row = NkiTensor(
            place.tensor,
            (WIDTH, count // blocks, blocks),
            (place.strides[0], place.strides[2], place.strides[1]),
            place.offset,
            place.dtype,
        )
        k.evict(by_row, stage.reshape((WIDTH, count // blocks, blocks)))
    return made


def parts(rows: int, columns: int) -> list[Rows]:
    """Return (first base row, number) of the tiles of a folded matrix; each holds whole rows."""
    total = rows * (columns // WIDTH)
    return [(start, min(WIDTH, total - start)) for start in range(0, total, WIDTH)]

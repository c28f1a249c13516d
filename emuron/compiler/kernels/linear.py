"""Matrix products: a weight that is streamed, and two activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from emuron.compiler.kernels import folding
from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa, transposed_key
from emuron.compiler.kernels.view import LogicalView
from emuron.isa.affine import Index
from emuron.isa.tensor_engine import FP32_TYPES
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float32

_TILE_BYTES = 12 * 1024  # a partition's share of SBUF for a weight tile
_MOVED_BYTES = 24 * 1024  # and for the transposed rows that it meets
_ROWS_BYTES = 64 * 1024  # and for transposed rows where weights are streamed through them
_PSUM_COLUMNS = 512
_ROWS_AT_ONCE = 512  # half of PSUM's banks, so that a group may start before the last has left
_MANY_PARTS = 4  # ranges of rows from which they become a recorded loop
_LEAST_COLUMNS = 128  # fewer would leave the Tensor engine waiting for weights


@dataclass(frozen=True, slots=True)
class LinearPacking:
    """How a weight [outputs, inputs] lies in HBM: groups of columns, each [128, blocks, width].

    Element [p, b, n] of group g is weight[g·columns + n, 128·b + p], so that a DMA of a group reads
    one contiguous run; inputs beyond the weight are zero. Groups are about equally wide.
    """

    outputs: int
    inputs: int
    itemsize: int

    @property
    def blocks(self) -> int:
        """Blocks of 128 inputs."""
        return -(-self.inputs // 128)

    @property
    def columns(self) -> int:
        """Outputs in a group but the last: whole blocks of 128, as a tile's bytes allow."""
        fitting = _TILE_BYTES // (self.blocks * self.itemsize)
        most = max(_LEAST_COLUMNS, fitting // _LEAST_COLUMNS * _LEAST_COLUMNS)
        even = -(-self.outputs // -(-self.outputs // most))
        return min(self.outputs, -(-even // _LEAST_COLUMNS) * _LEAST_COLUMNS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in HBM."""
        return (128 * self.blocks * self.outputs,)

    def group(self, weight: Placed, index: Index, width: int) -> NkiTensor:
        """Return a group of `width` columns as [128, blocks, width]."""
        storage = weight.storage
        offset = storage.offset + index * (128 * self.blocks * self.columns)
        return NkiTensor(storage.tensor, (128, self.blocks, width), None, offset, storage.dtype)

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Return a weight [outputs, inputs] in the packed shape, same dtype."""
        padded = np.zeros((self.outputs, self.blocks * 128), weight.dtype)
        padded[:, : self.inputs] = weight
        split = padded.reshape(self.outputs, self.blocks, 128).transpose(2, 1, 0)
        starts = range(0, self.outputs, self.columns)
        return np.concatenate([split[..., s : s + self.columns].reshape(-1) for s in starts])


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """What happens to a product on its way out of PSUM, each in float32.

    First the scale, then the others in this order.
    """

    bias: Placed | None = None
    added: Placed | None = None
    activation: str | None = None
    scale: Placed | None = None


def linear(
    k: KernelContext,
    x: Placed,
    weight: Placed,
    packing: LinearPacking,
    out: Placed,
    epilogue: Epilogue,
) -> None:
    """Write out[r, n] = epilogue(sum x[r, c] · weight[n, c]).

    `weight` is packed; products are taken in its dtype, to which x is rounded, unless there is a
    scale: then in that of x, to which the weight is cast on chip where the PE array needs that.
    """
    rows = x.view.matrix().shape[0]
    x = x if folding.is_folded(x) else k.reachable(x, packing.inputs)
    if epilogue.added is not None:
        epilogue = replace(epilogue, added=k.reachable(epilogue.added, packing.outputs))
    if packing.blocks * packing.columns * packing.itemsize > _TILE_BYTES:
        _Streamed(k, x, weight, packing, epilogue, out).run()
        return
    dtype = _moved_dtype(k, x, weight, epilogue)
    fitting = _MOVED_BYTES // (packing.blocks * dtype.itemsize) // 128 * 128
    step = min(rows, max(128, fitting))
    whole, last = divmod(rows, step)
    parts: list[Rows] = [(whole * step, last)] if last else []
    regular = k.regular(x, out, *([epilogue.added] if epilogue.added is not None else []))
    loop = k.loop(whole, name="rows") if whole >= _MANY_PARTS and regular else range(whole)
    for index in loop:
        _part(k, x, weight, packing, out, epilogue, (index * step, step))
    for part in parts:
        _part(k, x, weight, packing, out, epilogue, part)


def _part(
    k: KernelContext,
    x: Placed,
    weight: Placed,
    packing: LinearPacking,
    out: Placed,
    epilogue: Epilogue,
    part: Rows,
) -> None:
    """Write all columns of a range of rows, whose transpose stays on chip."""
    moved = _turned(k, x, part, _moved_dtype(k, x, weight, epilogue))
    full, rest = divmod(packing.outputs, packing.columns)
    for group in k.loop(full, unroll=2, name="group"):
        _group(k, moved, weight, packing, (group, packing.columns), epilogue, out, part)
    if rest:
        _group(k, moved, weight, packing, (full, rest), epilogue, out, part)


def _moved_dtype(k: KernelContext, x: Placed, weight: Placed, epilogue: Epilogue) -> DType:
    """Return the dtype to which the rows are rounded that meet a weight."""
    return weight.dtype if epilogue.scale is None else k.operand(x.dtype)


def _multipliable(k: KernelContext, tile: NkiTensor, moved: NkiTensor) -> NkiTensor:
    """Return a tile of a weight as it may meet rows: cast to their dtype if it cannot as it is.

    8-bit floats meet any narrow float. Casts are shared by the engines that write no products
    out, so that those of the next group need not wait for this one.
    """
    narrow = {tile.dtype, moved.dtype}.isdisjoint(FP32_TYPES)
    meets = narrow and tile.dtype.is_float and str(tile.dtype) in k.core.matmul_dtypes
    if tile.dtype == moved.dtype or meets:
        return tile
    made = k.sbuf(tile.shape, moved.dtype, "cast_weight")
    cut = -(-tile.shape[2] // 2)
    nisa.activation(made[:, :, :cut], "copy", tile[:, :, :cut])
    nisa.tensor_copy(made[:, :, cut:], tile[:, :, cut:], engine="gpsimd")
    return made


def _turned(k: KernelContext, x: Placed, part: Rows, dtype: DType) -> NkiTensor:
    """Return a range of rows with their columns on partitions, kept for the next layer."""
    if not folding.is_folded(x):
        return k.transposed(x, part, dtype)
    key = transposed_key(x, part, dtype)
    return k.kept(key, lambda: folding.transposed(k, x, dtype))


def _group(
    k: KernelContext,
    moved: NkiTensor,
    weight: Placed,
    packing: LinearPacking,
    group: tuple[Index, int],
    epilogue: Epilogue,
    out: Placed,
    part: Rows,
) -> None:
    """Write one group of output columns for a range of rows."""
    index, width = group
    columns = (index * packing.columns, width)
    tile = k.sbuf((128, packing.blocks, width), weight.dtype, "weight")
    nisa.dma_copy(tile, packing.group(weight, index, width))
    tile = _multipliable(k, tile, moved)
    lines = _lines(k, epilogue, part, columns)
    added = epilogue.added
    for row, count in k.row_tiles(part[1], out, *([added] if added is not None else [])):
        rows = (part[0] + row, count)
        target = k.target(out, rows, columns)
        other = None if added is None else k.read(added, rows, columns)
        for column in range(0, width, _PSUM_COLUMNS):
            span = slice(column, min(width, column + _PSUM_COLUMNS))
            product = k.psum((count, span.stop - column), float32)
            contract(product, moved[:, :, row : row + count], tile[:, :, span], packing.inputs)
            pieces = [None if t is None else t[:count, span] for t in (*lines, other)]
            _evict(k, target[:, span], product, pieces, epilogue.activation)
        k.finish(target, out, rows, columns)


def _lines(
    k: KernelContext, epilogue: Epilogue, part: Rows, columns: tuple[Index, int]
) -> list[NkiTensor | None]:
    """Return the scale and the bias of a group's columns, the same in each row of a tile."""
    rows = min(128, part[1])
    given = (epilogue.scale, epilogue.bias)
    return [None if line is None else k.spread(line, rows, columns) for line in given]


@dataclass(frozen=True, slots=True, eq=False)
class _Streamed:
    """A product whose weight is too tall for a tile: pieces of it pass rows that wait in PSUM."""

    k: KernelContext
    x: Placed
    weight: Placed
    packing: LinearPacking
    epilogue: Epilogue
    out: Placed

    def run(self) -> None:
        """Write the rows in passes of as many as fit, in a recorded loop where they are regular."""
        rows = self.x.view.matrix().shape[0]
        most = _ROWS_BYTES // (self.packing.blocks * self._moved_dtype.itemsize) // 128 * 128
        step = min(rows, max(128, min(most, _ROWS_AT_ONCE)))
        full, rest = divmod(rows, step)
        values = [v for v in (self.x, self.out, self.epilogue.added) if v is not None]
        regular = step % 128 == 0 and all(len(v.view.matrix().dims[0]) == 1 for v in values)
        for part in self.k.loop(full, name="part") if regular else range(full):
            self._part((part * step, step))
        if rest:
            self._part((full * step, rest))

    @property
    def _moved_dtype(self) -> DType:
        return _moved_dtype(self.k, self.x, self.weight, self.epilogue)

    def _part(self, part: tuple[Index, int]) -> None:
        moved = _turned(self.k, self.x, part, self._moved_dtype)
        full, rest = divmod(self.packing.outputs, self.packing.columns)
        for group in self.k.loop(full, unroll=2, name="group"):
            self._group(moved, (group, self.packing.columns), part)
        if rest:
            self._group(moved, (full, rest), part)

    def _group(self, moved: NkiTensor, group: tuple[Index, int], part: tuple[Index, int]) -> None:
        k, packing, (index, width) = self.k, self.packing, group
        columns = (index * packing.columns, width)
        tiles = [(row, min(128, part[1] - row)) for row in range(0, part[1], 128)]
        products = [k.psum((count, width), float32) for _, count in tiles]
        step = max(1, _TILE_BYTES // (width * packing.itemsize))
        for first in range(0, packing.blocks, step):
            last = min(packing.blocks, first + step)
            piece = k.sbuf((128, last - first, width), self.weight.dtype, "weight")
            nisa.dma_copy(piece, packing.group(self.weight, index, width)[:, first:last])
            piece = _multipliable(k, piece, moved)
            inputs = min(packing.inputs, 128 * last) - 128 * first
            for (row, count), product in zip(tiles, products, strict=True):
                stationary = moved[:, first:last, row : row + count]
                contract(product, stationary, piece, inputs, begun=first > 0)
        for (row, count), product in zip(tiles, products, strict=True):
            self._write(product, (part[0] + row, count), columns)

    def _write(
        self, product: NkiTensor, rows: tuple[Index, int], columns: tuple[Index, int]
    ) -> None:
        k, added = self.k, self.epilogue.added
        target = k.target(self.out, rows, columns)
        lines = _lines(k, self.epilogue, rows, columns)
        other = None if added is None else k.read(added, rows, columns)
        _evict(k, target, product, [*lines, other], self.epilogue.activation)
        k.finish(target, self.out, rows, columns)


def contract(
    product: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    inputs: int,
    *,
    begun: bool = False,
) -> None:
    """Sum stationary[p, b, m] · moving[p, b, n] over p and blocks b into PSUM, b in order.

    With `begun` the product holds a sum to go on with.
    """
    for block in range(-(-inputs // 128)):
        width = min(128, inputs - 128 * block)
        nisa.nc_matmul(
            product, stationary[:width, block], moving[:width, block], accumulate=begun or block > 0
        )


def _evict(
    k: KernelContext,
    target: NkiTensor,
    product: NkiTensor,
    pieces: list[NkiTensor | None],
    activation: str | None,
) -> None:
    """Take a product out of PSUM: times the scale, plus the bias, plus a value, by a function."""
    operators = ("multiply", "add", "add")
    steps: list[Callable[[NkiTensor, NkiTensor], None]] = [
        partial(_combine, operator, piece)
        for operator, piece in zip(operators, pieces, strict=True)
        if piece is not None
    ]
    if activation is not None:
        steps.append(partial(_apply, activation))
    if not steps:
        steps.append(partial(_apply, "copy"))
    source = product
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        result = target if last else k.sbuf(target.shape, float32)
        step(result, source)
        source = result


def _combine(operator: str, piece: NkiTensor, target: NkiTensor, source: NkiTensor) -> None:
    nisa.tensor_tensor(target, source, piece, operator)


def _apply(function: str, target: NkiTensor, source: NkiTensor) -> None:
    nisa.activation(target, function, source)


def matmul(k: KernelContext, x: Placed, y: Placed, out: Placed, dtype: DType) -> None:
    """Write out[…, m, n] = sum x[…, m, c] · y[…, c, n], operands rounded to `dtype`."""
    *leading, rows, inputs = x.shape
    columns = y.shape[-1]
    batch = int(np.prod(leading)) if leading else 1
    for index in range(batch):
        one = [_entry(v, index) for v in (x, y, out)]
        moved = k.transposed(k.reachable(one[0], inputs), (0, rows), dtype)
        tile = _rows_on_partitions(k, one[1], dtype)
        for row, count in k.row_tiles(rows, one[2]):
            target = k.target(one[2], (row, count), (0, columns))
            for column in range(0, columns, _PSUM_COLUMNS):
                span = slice(column, min(columns, column + _PSUM_COLUMNS))
                product = k.psum((count, span.stop - column), float32)
                contract(product, moved[:, :, row : row + count], tile[:, :, span], inputs)
                k.evict(target[:, span], product)
            k.finish(target, one[2], (row, count), (0, columns))


def _rows_on_partitions(k: KernelContext, value: Placed, dtype: DType) -> NkiTensor:
    """Return what `on_partitions` does; a value that lies column by column is transposed on chip.

    A DMA would fetch it element by element.
    """
    rows, columns = value.view.matrix().dims
    if columns[-1][1] <= 1 or rows[-1][1] != 1:
        return on_partitions(k, value, dtype)
    inputs, outputs = value.shape
    swapped = value.seen_as(value.view.permute((1, 0)))
    return k.transposed(k.reachable(swapped, inputs), (0, outputs), dtype)


def _entry(value: Placed, index: int) -> Placed:
    """Return one matrix of a batch of matrices."""
    leading = value.shape[:-2]
    view = value.view
    position = np.unravel_index(index, leading) if leading else ()
    for dim, at in enumerate(position):
        sliced = view.slice(dim, int(at), 1)
        assert sliced is not None
        view = sliced
    return value.seen_as(LogicalView(view.dims[-2:], view.offset))


def on_partitions(k: KernelContext, value: Placed, dtype: DType) -> NkiTensor:
    """Return a matrix with its rows on partitions: [128, blocks, columns], rounded to `dtype`."""
    rows, columns = value.view.matrix().shape
    if value.dtype == dtype and (own := _own_rows(value, rows, columns)) is not None:
        return own
    made = k.sbuf((min(128, rows), -(-rows // 128), columns), dtype, "rows")
    for start in range(0, rows, 128):
        count = min(128, rows - start)
        part = made[:count, start // 128]
        pattern = None if value.on_chip else value.pattern((start, count), (0, columns))
        if value.dtype == dtype and pattern is not None:
            nisa.dma_copy(part, pattern)
        else:
            nisa.tensor_copy(part, k.read(value, (start, count), (0, columns)), engine="vector")
    return made


def _own_rows(value: Placed, rows: int, columns: int) -> NkiTensor | None:
    """Return a value's own bytes as [128, blocks, columns] if they lie so, else None."""
    first = value.pattern((0, min(128, rows)), (0, columns)) if value.on_chip else None
    if first is None or first.ndim > 2 or len(value.view.matrix().dims[0]) > 1:
        return None
    if rows > 128 and value.pattern((128, min(128, rows - 128)), (0, columns)) is None:
        return None
    return NkiTensor(
        first.tensor,
        (first.shape[0], -(-rows // 128), columns),
        (first.strides[0], value.columns, first.strides[1]),
        first.offset,
        first.dtype,
    )

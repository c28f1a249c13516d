"""What the compiler's kernels are given: where values lie, and tiles of them on chip."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from emuron.compiler.kernels import pieces, turned
from emuron.compiler.kernels.view import LogicalView, Run, take
from emuron.isa.affine import Affine, Index, base_of
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.nki import isa
from emuron.nki.recorder import Recorder
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, bfloat16, float32

Rows = tuple[Index, int]
"""(first row, number of rows) of a tile."""

_Begun = TypeVar("_Begun")

nisa: Any = isa  # its functions are made from the instruction classes
_BF16_PARTS = 3  # that hold a float32
_SHORT_LOOP = 16  # iterations up to which a loop is written out
_MOST_COPIES = 64  # of the innermost body of nested loops written out
_TILES_AHEAD = 2  # tiles begun before the oldest is finished
_KEPT_BYTES = (
    48 * 1024
)  # a partition's bytes of transposed tiles, and of rows, kept for the next kernel
_FEW_ROWS = 16  # so few copies of a row are cheaper by DMA than through the Tensor engine


@dataclass(slots=True, eq=False)
class Placed:
    """A value on the device: a logical view of a tensor in HBM or in the rows layout of SBUF.

    The rows layout holds base row r = 128·b + p (of `rows`) of `columns` elements at partition p,
    block b: `storage` is [128, blocks, columns]. In HBM `storage` is the row-major base.
    """

    storage: NkiTensor
    view: LogicalView
    columns: int = 0
    rows: int = 0
    homes: list[Placed] = field(default_factory=list)  # the copy in HBM, once made
    immediate: float | None = None  # the number that every element equals, if known
    packing: Any = None  # how a weight's elements are arranged in `storage`, if not row by row

    @property
    def dtype(self) -> DType:
        """Stored dtype."""
        return self.storage.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape."""
        return self.view.shape

    @property
    def on_chip(self) -> bool:
        """Whether the value lies in SBUF."""
        return self.storage.buffer is MemoryRegion.sbuf

    def seen_as(self, view: LogicalView) -> Placed:
        """Return the same storage under another view."""
        return Placed(self.storage, view, self.columns, self.rows, self.homes, self.immediate)

    def pattern(self, rows: tuple[Index, int], columns: tuple[Index, int]) -> NkiTensor | None:
        """Return the view of a tile of the value seen as a matrix, or None if not one pattern.

        `rows` and `columns` are (start, count). On chip the rows become partitions.
        """
        matrix = self.view.matrix()
        found_rows = take(matrix.dims[0], *rows)
        found_columns = take(matrix.dims[1], *columns)
        if found_rows is None or found_columns is None:
            return None
        offset = matrix.offset + found_rows[0] + found_columns[0]
        if self.on_chip:
            return self._on_chip(offset, found_rows[1], found_columns[1])
        runs = (*found_rows[1], *found_columns[1])
        return NkiTensor(
            self.storage.tensor,
            tuple(count for count, _ in runs),
            tuple(stride for _, stride in runs),
            self.storage.offset + offset,
            self.storage.dtype,
        )

    def _on_chip(
        self, offset: Index, rows: tuple[Run, ...], columns: tuple[Run, ...]
    ) -> NkiTensor | None:
        count, stride = rows[0]
        width = self.columns
        if len(rows) > 1 or (count > 1 and stride != width):
            return None
        start = base_of(offset)
        partition = start // width % 128
        free = _free(offset, width)
        runs = [1 if n == 1 else _free_stride(stride, width) for n, stride in columns]
        legal = partition + count <= 128 and _legal_start(partition, count)
        if free is None or not legal or any(run is None for run in runs):
            return None
        reach = sum((n - 1) * stride for n, stride in columns if n > 1 and stride < width)
        if start % width + reach >= width:
            return None  # the columns run on into the next row, on another partition
        return NkiTensor(
            self.storage.tensor,
            (count, *[n for n, _ in columns]),
            (self.storage.strides[0], *[r for r in runs if r is not None]),
            self.storage.offset + partition * self.storage.strides[0] + free,
            self.storage.dtype,
        )


def _legal_start(partition: int, count: int) -> bool:
    """Tell whether compute engines may start at a partition (trainium_inferentia2_arch, D)."""
    if count > 64:
        return partition == 0
    return partition in (0, 64) if count > 32 else partition % 32 == 0


def _free(offset: Index, width: int) -> Index | None:
    """Return the free offset in the rows layout of a base element, partitions left out."""
    base, block = base_of(offset), 128 * width
    free = base // block * width + base % width
    if not isinstance(offset, Affine):
        return free
    terms = []
    for index, slope in offset.terms:
        stride = _free_stride(slope, width)
        if stride is None:
            return None
        terms.append((index, stride))
    return Affine(free, tuple(terms))


def _free_stride(stride: int, width: int) -> int | None:
    """Return the free-dimension stride of a base stride, or None if it changes partition."""
    block = 128 * width
    if stride % block == 0:
        return stride // block * width
    return stride if 0 < stride < width else None


class KernelContext:
    """Tiles, tables of transposed operands and broadcast rows for the kernels of one program."""

    def __init__(self, recorder: Recorder, operand: Callable[[DType], DType]) -> None:
        """Write to `recorder`; `operand` gives the dtype in which a contraction reads a dtype."""
        self.recorder = recorder
        self.operand = operand
        self.core = recorder.core
        self.constants: dict[Tensor, np.ndarray] = {}
        self._transposed: dict[tuple[object, ...], NkiTensor] = {}
        self._spread: dict[tuple[object, ...], NkiTensor] = {}
        self._filled: dict[tuple[object, ...], NkiTensor] = {}
        self._known: dict[tuple[object, ...], Placed] = {}  # constants by what they hold
        self._copies = 1  # of what is being written, by loops written out around it

    def forget(self) -> None:
        """Drop cached tiles of values: the layer that follows finds others in their place."""
        self._transposed.clear()
        self._spread.clear()

    def loop(self, trip: int, *, unroll: int = 1, name: str = "i") -> Iterator[Index]:
        """Yield loop counters; tiles cached inside a recorded body are forgotten after it.

        Short loops are written out, so that the engines' instructions can be interleaved.
        """
        if self._copies * trip <= _MOST_COPIES and trip <= _SHORT_LOOP:
            self._copies *= max(1, trip)
            yield from range(trip)
            self._copies //= max(1, trip)
            return
        yield from self.recorded_loop(trip, unroll=unroll, name=name)

    def recorded_loop(self, trip: int, *, unroll: int = 1, name: str = "i") -> Iterator[Index]:
        """Yield loop counters of a loop that is never written out."""
        before = dict(self._transposed), dict(self._spread), dict(self._filled)
        yield from self.recorder.loop(trip, unroll=unroll, name=name)
        self._transposed, self._spread, self._filled = before

    def sbuf(self, shape: tuple[int, ...], dtype: DType, name: str = "") -> NkiTensor:
        """Return a new tile in SBUF."""
        return NkiTensor(self.recorder.tensor(shape, dtype, MemoryRegion.sbuf, name=name))

    def psum(self, shape: tuple[int, ...], dtype: DType, name: str = "") -> NkiTensor:
        """Return a new tile in PSUM (at most one 2 KiB bank a partition)."""
        return NkiTensor(self.recorder.tensor(shape, dtype, MemoryRegion.psum, name=name))

    def hbm(self, shape: tuple[int, ...], dtype: DType, name: str, role: str) -> Placed:
        """Return a new row-major value in HBM."""
        tensor = self.recorder.tensor(
            shape or (1,), dtype, MemoryRegion.private_hbm, name=name, role=role
        )
        return Placed(NkiTensor(tensor), LogicalView.dense(shape))

    def on_chip(self, rows: int, columns: int, dtype: DType, name: str) -> Placed:
        """Return a new value in the rows layout of SBUF."""
        shape = (min(128, rows), -(-rows // 128), columns)
        return Placed(
            self.sbuf(shape, dtype, name), LogicalView.dense((rows, columns)), columns, rows
        )

    def constant(self, array: np.ndarray, dtype: DType, name: str) -> Placed:
        """Return a constant in HBM, made once; its data belongs to the executable."""
        key = (array.shape, dtype, array.tobytes())
        if key not in self._known:
            made = self.hbm(array.shape, dtype, name, "parameter")
            self.constants[made.storage.tensor] = array
            self._known[key] = made
        return self._known[key]

    def row_tiles(self, rows: int, *values: Placed) -> Iterator[tuple[Index, int]]:
        """Yield (start, count) of tiles of up to 128 rows of matrices.

        Full tiles run in a recorded loop where every value's rows follow one stride.
        """
        full, rest = divmod(rows, 128)
        regular = self.regular(*values)
        yield from (
            (tile * 128, 128)
            for tile in (self.loop(full, unroll=2, name="row") if regular else range(full))
        )
        if rest:
            yield full * 128, rest

    def regular(self, *values: Placed) -> bool:
        """Tell whether the rows of every value, seen as a matrix, follow one stride."""
        return all(len(v.view.matrix().dims[0]) == 1 for v in values)

    def in_two_steps(
        self,
        tiles: Iterable[Rows],
        begin: Callable[[Rows], _Begun],
        finish: Callable[[Rows, _Begun], None],
    ) -> None:
        """Issue `begin` of the next tiles before `finish` of the oldest.

        Engines take instructions in order: between the steps the results of another engine have
        time to arrive. In a recorded loop a tile is finished in its own iteration.
        """
        due: deque[tuple[Rows, _Begun]] = deque()
        for rows in tiles:
            due.append((rows, begin(rows)))
            ahead = 0 if isinstance(rows[0], Affine) else _TILES_AHEAD
            while len(due) > ahead:
                finish(*due.popleft())
        while due:
            finish(*due.popleft())

    def reachable(self, value: Placed, columns: int) -> Placed:
        """Return the value, or its copy in HBM if its row tiles are no patterns of its storage."""
        rows = value.view.matrix().shape[0]
        starts = {0, rows // 128 * 128 if rows % 128 else max(0, rows - 128)}
        tiles = [(start, min(128, rows - start)) for start in starts]
        if not value.on_chip or turned.is_turned(value):
            return value
        if any(value.pattern(t, (0, columns)) is None for t in tiles):
            return self.spill(value)
        return value

    def read(
        self, value: Placed, rows: tuple[Index, int], columns: tuple[Index, int], name: str = ""
    ) -> NkiTensor:
        """Return an SBUF tile [rows, columns]: the value's own bytes on chip, else loaded."""
        if turned.is_turned(value):
            return turned.turned_rows(self, value, rows, columns)
        own = value.pattern(rows, columns)
        if own is not None and value.on_chip:
            return own
        tile = self.sbuf((rows[1], columns[1]), value.dtype, name)
        self.load(tile, self.spill(value), rows, columns)
        return tile

    def taken(
        self, value: Placed, rows: tuple[Index, int], columns: tuple[Index, int]
    ) -> NkiTensor:
        """Return what `read` does, as element-wise instructions take it.

        Elements that repeat along the columns are there once, under a view with stride 0.
        """
        repeats = any(stride == 0 for _, stride in value.view.matrix().dims[1])
        once = None
        if repeats:
            once = turned.stretched(self, self.spill(value), rows, columns)
        return self.read(value, rows, columns) if once is None else once

    def load(
        self, tile: NkiTensor, source: Placed, rows: tuple[Index, int], columns: tuple[Index, int]
    ) -> None:
        """Bring rows and columns of a value in HBM into a tile of its dtype."""
        for part, pattern in pieces.paired(tile, source, rows, columns):
            nisa.dma_copy(part, pattern)

    def spill(self, value: Placed) -> Placed:
        """Return the value in HBM, stored once however often it is asked for."""
        if not value.on_chip:
            return value
        if not value.homes:
            shape = (value.rows, value.columns)
            home = self.hbm(shape, value.dtype, f"{value.storage.name}.hbm", "temporary")
            for start in range(0, value.rows, 128):
                count = min(128, value.rows - start)
                target = home.pattern((start, count), (0, value.columns))
                nisa.dma_copy(target, value.storage[:count, start // 128])
            value.homes.append(home)
        return value.homes[0].seen_as(value.view)

    def materialize(self, value: Placed) -> Placed:
        """Return a value with its elements written, if it was but a number."""
        if value.immediate is None or value.homes:
            return value
        rows, columns = value.view.matrix().shape
        made = self.on_chip(1, 1, value.dtype, "number")
        nisa.memset(made.storage, value.immediate)
        home = self.spill(made)
        view = home.view.broadcast((rows, columns), (0, 1)).reshape(value.shape)
        assert view is not None
        return home.seen_as(view)

    def target(
        self, value: Placed, rows: tuple[Index, int], columns: tuple[Index, int]
    ) -> NkiTensor:
        """Return the SBUF tile to compute an output tile in; `finish` stores it."""
        own = value.pattern(rows, columns) if value.on_chip else None
        return own if own is not None else self.sbuf((rows[1], columns[1]), value.dtype)

    def finish(
        self, tile: NkiTensor, value: Placed, rows: tuple[Index, int], columns: tuple[Index, int]
    ) -> None:
        """Store a computed output tile unless it is the value's own bytes."""
        if tile.tensor is value.storage.tensor:
            return
        if value.on_chip:
            pieces.store_on_chip(tile, value, rows, columns)
            return
        for part, pattern in pieces.paired(tile, value, rows, columns):
            nisa.dma_copy(pattern, part)

    def evict(self, dst: NkiTensor, src: NkiTensor) -> None:
        """Copy a PSUM tile to SBUF on the Scalar engine (the Vector engine has more to do)."""
        nisa.activation(dst, "copy", src)

    def filled(
        self, value: float, columns: int, rows: int = 128, dtype: DType = float32
    ) -> NkiTensor:
        """Return [rows, columns] of one value, made once."""
        key = (value, columns, rows, dtype)
        if key not in self._filled:
            made = self.sbuf((rows, columns), dtype, "filled")
            nisa.memset(made, value)
            self._filled[key] = made
        return self._filled[key]

    def places(self, columns: int) -> NkiTensor:
        """Return [128, columns] float32 that counts 0 … columns − 1 on every partition."""
        key = ("places", columns)
        if key not in self._filled:
            self._filled[key] = self._count(columns)
        return self._filled[key]

    def _count(self, columns: int) -> NkiTensor:
        if not self.core.features.gpsimd:
            line = self.constant(np.arange(columns, dtype=np.float32), float32, "places")
            return self._spread_row(line, 128, (0, columns))
        made = self.sbuf((128, columns), float32, "places")
        nisa.iota(made, ((1, columns),))
        return made

    def spread(self, row: Placed, rows: int, columns: tuple[Index, int]) -> NkiTensor:
        """Return [rows, columns] with the same row of HBM values on every partition.

        Few rows are written by the DMA (stride 0); many by a matmul with ones, which is exact.
        """
        key = (row.storage.tensor, str(row.view), rows, str(columns))
        return _recent(self._spread, key, lambda: self._spread_row(row, rows, columns))

    def _spread_row(self, row: Placed, rows: int, columns: tuple[Index, int]) -> NkiTensor:
        count = columns[1]
        made = self.sbuf((rows, count), row.dtype, "spread")
        if rows <= _FEW_ROWS or row.dtype.itemsize == 1:
            pattern = row.pattern((0, 1), columns)
            assert pattern is not None
            repeated = NkiTensor(
                pattern.tensor,
                (rows, *pattern.shape[1:]),
                (0, *pattern.strides[1:]),
                pattern.offset,
                pattern.dtype,
            )
            nisa.dma_copy(made, repeated)
            return made
        line = self.read(row, (0, 1), columns, "row")
        parts = [line] if row.dtype in self.core.matmul_dtypes else self._in_parts(line)
        bank = self.core.moving_max
        for start in range(0, count, bank):
            width = min(bank, count - start)
            copies = self.psum((rows, width), float32)
            for number, part in enumerate(parts):
                ones = self.filled(1.0, rows, 1, part.dtype)
                moving = part[:, start : start + width]
                nisa.nc_matmul(copies, ones, moving, accumulate=number > 0)
            self.evict(made[:, start : start + width], copies)
        return made

    def _in_parts(self, line: NkiTensor) -> list[NkiTensor]:
        """Return bfloat16 values whose sum is a float32 one: three times 8 bits of its 24."""
        parts: list[NkiTensor] = []
        rest = line
        for number in range(_BF16_PARTS):
            parts.append(self.sbuf(line.shape, bfloat16, "part"))
            nisa.tensor_copy(parts[-1], rest, engine="vector")
            if number < _BF16_PARTS - 1:
                left = self.sbuf(line.shape, float32, "rest")
                nisa.tensor_tensor(left, rest, parts[-1], "subtract")
                rest = left
        return parts

    def transposed(self, value: Placed, rows: tuple[Index, int], dtype: DType) -> NkiTensor:
        """Return rows of a matrix with their columns on partitions: [128, blocks, rows].

        Element [p, b, r] is value[row r, column 128·b + p] rounded to `dtype`, as a contraction
        over the columns needs it. Kept for the next kernel that asks.
        """
        key = transposed_key(value, rows, dtype)
        return self.kept(key, lambda: turned.transpose(self, value, rows, dtype))

    def kept(self, key: tuple[object, ...], make: Callable[[], NkiTensor]) -> NkiTensor:
        """Return the tile of a key, made if need be; those used last are kept within a budget."""
        return _recent(self._transposed, key, make)


def _recent(
    table: dict[tuple[object, ...], NkiTensor],
    key: tuple[object, ...],
    make: Callable[[], NkiTensor],
) -> NkiTensor:
    """Return the tile of a key in a table of those used last, whose bytes are within a budget."""
    found = table.pop(key, None)
    if found is None:
        found = make()
    table[key] = found
    while len(table) > 1 and sum(t.tensor.partition_bytes for t in table.values()) > _KEPT_BYTES:
        table.pop(next(iter(table)))
    return found


def transposed_key(value: Placed, rows: Rows, dtype: DType) -> tuple[object, ...]:
    """Return the key under which the transpose of rows is kept."""
    return (value.storage.tensor, str(value.view), str(rows), dtype)

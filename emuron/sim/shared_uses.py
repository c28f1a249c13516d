"""What each core of a rank does to the tensors that they share, as columns of its program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Block, Program
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.sim.footprints import Rectangles, footprint, pitch_of, rectangles, rows_of

Column = npt.NDArray[np.int64]
Places = int | Column  # first element of an access, or of each of its rows

_AT_ONCE = 1 << 22  # pairs of uses that are compared at a time

_READS, _WRITES, _DYNAMIC, _LOW, _HIGH, _SIZE = range(6)  # what a table says of each operand


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """One access to a shared tensor: its row in the program, view, and place or places."""

    row: int
    like: AccessPattern
    reads: bool
    writes: bool
    places: Places


@dataclass(frozen=True, slots=True)
class Stretch:
    """The bytes of a tensor that a core may have touched, and whether it wrote any."""

    low: int
    high: int
    writes: bool


def stretch(like: AccessPattern) -> tuple[int, int]:
    """Return the first and past-the-end byte of a view, counted from its first element."""
    size = like.dtype.itemsize
    steps = [(n - 1) * s for n, s in zip(like.shape, like.strides, strict=True)]
    low, high = sum(s for s in steps if s < 0), sum(s for s in steps if s > 0)
    return low * size, (high + 1) * size


@dataclass(frozen=True, slots=True, eq=False)
class NearUses:
    """Uses of a tensor by each core that may clash, in order, and the bytes around them all."""

    uses: tuple[list[Use], list[Use]]
    low: int
    high: int


def near(tensor: Tensor, uses: Sequence[list[Use]]) -> NearUses | None:
    """Return the uses whose hull meets one of the other core's, one of them a write; None if none.

    What a core has written itself before it reads is no less known from them: a write to bytes
    that the other core uses is one of them.
    """
    hulls = [_hulls(tensor, own) for own in uses]
    writes = [np.array([use.writes for use in own], np.bool_) for own in uses]
    kept = np.zeros(len(uses[0]), np.bool_), np.zeros(len(uses[1]), np.bool_)
    step = max(1, _AT_ONCE // max(1, len(uses[1])))
    for first in range(0, len(uses[0]), step):
        part = slice(first, first + step)
        meets = writes[0][part, None] | writes[1]
        for start, end in ((0, 1), (2, 3)):
            meets &= hulls[0][start][part, None] < hulls[1][end]
            meets &= hulls[1][start] < hulls[0][end][part, None]
        kept[0][part] = meets.any(axis=1)
        kept[1][:] |= meets.any(axis=0)
    if not kept[0].any():
        return None
    first_row = min(int(hull.row[own].min()) for hull, own in zip(hulls, kept, strict=True))
    last_row = max(int(hull.row_end[own].max()) for hull, own in zip(hulls, kept, strict=True))
    one, two = (
        [use for use, stays in zip(own, chosen.tolist(), strict=True) if stays]
        for own, chosen in zip(uses, kept, strict=True)
    )
    pitch = pitch_of(tensor)
    return NearUses((one, two), first_row * pitch, min(last_row * pitch, tensor.nbytes))


def _hulls(tensor: Tensor, uses: list[Use]) -> Rectangles:
    """Return the rows and bytes of each use."""
    pitch, rows = pitch_of(tensor), rows_of(tensor)
    shapes, counts, places = [], [], []
    for use in uses:
        like, each = use.like, [use.places]
        if not isinstance(use.places, int):
            each = [int(place) for place in use.places.reshape(-1) if place >= 0] or [0]
            like = AccessPattern(tensor, like.shape[1:], like.strides[1:], 0, like.dtype)
        shapes.append(footprint(like, pitch, rows))
        counts.append(len(each))
        places += [place * like.dtype.itemsize for place in each]
    touched = rectangles(shapes, np.repeat(np.arange(len(uses)), counts), np.array(places))
    starts = np.cumsum([0, *counts[:-1]])
    row, byte = (np.minimum.reduceat(column, starts) for column in (touched.row, touched.byte))
    ends = (np.maximum.reduceat(column, starts) for column in (touched.row_end, touched.byte_end))
    return Rectangles(row, next(ends), byte, next(ends))


class CoreUses:
    """The uses of one core, epoch by epoch."""

    def __init__(self, number: int, program: Program) -> None:
        self.number = number
        self.program = program
        self._row = 0  # the first that belongs to no epoch yet
        self._addresses: list[Places] = []
        self._known = 0  # tensors of the program that were looked at
        self._shared: list[int] = []  # the numbers of those that are shared
        self._table = np.zeros((0, 6), np.int64)  # of each operand field of all forms
        self._first = np.zeros(0, np.int64)  # of each form: its first entry in the table

    def addressed(self, tensor: Tensor, places: Places) -> None:
        """Note where an operand lies that is addressed at run time."""
        if tensor.buffer is MemoryRegion.shared_hbm:
            self._addresses.append(places)

    def named(self, use: Use) -> str:
        """Return the instruction and the line of a use."""
        block = self._block()
        assert block is not None
        form = self.program.forms[block.form[use.row]]
        return f"{form.mnemonic} at {self.program.groups[block.group[use.row]]}"

    def epoch(self, rows_after: int) -> Epoch:
        """Return the uses in the rows since the last epoch but the latest `rows_after`."""
        block = self._block()
        if block is None:
            return Epoch(self.program, None, [], [])
        start, self._row = self._row, len(block)
        addresses, self._addresses[:] = list(self._addresses), []
        self._extend()
        operands = self._operands(block, start, len(block) - rows_after)
        return Epoch(self.program, block, operands, addresses)

    def _block(self) -> Block | None:
        """Return the program's rows; None if there are none or they are in loops."""
        body = self.program.body
        return body[0] if len(body) == 1 and isinstance(body[0], Block) else None

    def _extend(self) -> None:
        """Bring what is known of tensors and forms up to date."""
        tensors, forms = self.program.tensors, self.program.forms[len(self._first) :]
        for number in range(self._known, len(tensors)):
            if tensors[number].buffer is MemoryRegion.shared_hbm:
                self._shared.append(number)
        self._known = len(tensors)
        if forms:
            entries = [[_entry(f, name, kind) for name, kind in f.operand_fields] for f in forms]
            counts = np.array([len(own) for own in entries], np.int64)
            first = len(self._table) + np.cumsum(counts) - counts
            self._first = np.concatenate([self._first, first])
            added = np.array([entry for own in entries for entry in own], np.int64)
            self._table = np.concatenate([self._table, added.reshape(-1, 6)])

    def _operands(self, block: Block, start: int, stop: int) -> list[Column]:
        """Return columns of the operands in shared memory: number, row, tensor, table entry.

        There are none if the rows use no shared memory.
        """
        if start >= stop:
            return []
        first = np.array(block.first[start:stop], np.int64)
        end = block.first[stop] if stop < len(block) else len(block.tensor)
        tensors = np.array(block.tensor[first[0] : end], np.int64)
        number = np.flatnonzero(np.isin(tensors, self._shared)) + first[0]
        if not number.size:
            return []
        row = np.searchsorted(first, number, side="right") - 1
        form = np.array(block.form[start:stop], np.int64)[row]
        entry = self._first[form] + number - first[row]
        return [number, row + start, tensors[number - first[0]], *self._table[entry].T]


class Epoch:
    """The uses of shared tensors by one core between two meetings.

    `stretches` has the bytes of each tensor that it may have touched.
    """

    def __init__(
        self,
        program: Program,
        block: Block | None,
        operands: list[Column],
        addresses: list[Places],
    ) -> None:
        self.stretches: dict[Tensor, Stretch] = {}
        self._program = program
        self._block = block
        self._addresses = addresses
        if not operands or block is None:
            return
        self._number, self._row, self._tensor, *table = operands
        self._reads, self._writes, self._dynamic = (column == 1 for column in table[:3])
        first, last = int(self._number[0]), int(self._number[-1])
        offsets = np.array(block.offset[first : last + 1], np.int64)[self._number - first]
        self._low, self._high = (offsets * table[_SIZE] + edge for edge in table[_LOW:_SIZE])
        self._place = np.cumsum(self._dynamic) - 1  # of what is dynamic: its number among them
        self._find_stretches()

    def _find_stretches(self) -> None:
        tensors = self._program.tensors
        for position in np.flatnonzero(self._dynamic).tolist():  # it may go anywhere
            nbytes = tensors[int(self._tensor[position])].nbytes
            self._low[position], self._high[position] = 0, nbytes
        order = np.argsort(self._tensor, kind="stable")
        numbers, starts = np.unique(self._tensor[order], return_index=True)
        lows = np.minimum.reduceat(self._low[order], starts)
        highs = np.maximum.reduceat(self._high[order], starts)
        writes = np.maximum.reduceat(self._writes[order], starts)
        columns = (numbers.tolist(), lows.tolist(), highs.tolist(), writes.tolist())
        for number, *found in zip(*columns, strict=True):
            self.stretches[tensors[number]] = Stretch(*found)

    def uses(self, tensor: Tensor, low: int, high: int) -> list[Use]:
        """Return the uses of a tensor that may touch bytes `low` to `high`, in order.

        Those that are addressed at run time are left out where their places are not known.
        """
        inside = (self._low < high) & (low < self._high)
        chosen = inside & (self._tensor == self._program.tensor_numbers[tensor])
        positions = np.flatnonzero(chosen)
        # An instruction reads all its operands before it writes one.
        order = np.lexsort((self._writes[positions], self._row[positions]))
        found = (self._use(tensor, position) for position in positions[order].tolist())
        return [use for use in found if use is not None]

    def _use(self, tensor: Tensor, position: int) -> Use | None:
        block = self._block
        assert block is not None
        row, number = int(self._row[position]), int(self._number[position])
        form = self._program.forms[block.form[row]]
        name, _ = form.operand_fields[number - block.first[row]]
        like = _operand(form, name)
        places: Places = block.offset[number]
        if self._dynamic[position]:
            place = int(self._place[position])
            if place >= len(self._addresses):
                return None
            places = self._addresses[place]
        view = AccessPattern(tensor, like.shape, like.strides, 0, like.dtype)
        reads, writes = bool(self._reads[position]), bool(self._writes[position])
        return Use(row, view, reads, writes, places)


def _operand(form: Form, name: str) -> AccessPattern:
    owner, _, part = name.partition(".")
    like: AccessPattern = getattr(form.example, owner)
    if part and like.indirection is not None:
        return like.indirection.index
    return like


def _entry(form: Form, name: str, kind: str) -> list[int]:
    """Return what the table says of an operand field."""
    like = _operand(form, name)
    dynamic = like.indirection is not None
    return [kind in READ_KINDS, kind in WRITE_KINDS, dynamic, *stretch(like), like.dtype.itemsize]

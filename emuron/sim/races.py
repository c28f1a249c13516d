"""Races: accesses of the two cores of a rank to the same bytes, one a write, that nothing orders.

The cores share tensors in shared_hbm and are ordered only where they meet. What lies between two
meetings is an epoch: within it, each core's accesses may come before or after any of the other's.
Which races there can be at all: docs/decisions/races.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.meetings import Meeting
from emuron.isa.program import Block, Program
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine

Bytes = npt.NDArray[np.uint8]
Places = int | npt.NDArray[np.int64]  # first element of an access, or of each of its rows

_MARKS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_FOUND = 0x80


@dataclass(slots=True, eq=False)
class _Use:
    """One access of a core to a shared tensor: its row, operand and places (None: unknown)."""

    core: int
    row: int
    like: AccessPattern
    reads: bool
    writes: bool
    places: Places | None

    def bounds(self) -> tuple[int, int]:
        """Return the first and past-the-end byte that may be touched."""
        like, size = self.like, self.like.dtype.itemsize
        if not isinstance(self.places, int):
            return 0, like.tensor.nbytes
        steps = [(n - 1) * s for n, s in zip(like.shape, like.strides, strict=True)]
        low = self.places + sum(s for s in steps if s < 0)
        return low * size, (self.places + sum(s for s in steps if s > 0) + 1) * size

    def views(self, marks: Bytes) -> list[npt.NDArray[Any]]:
        """Return the marks of the touched elements, one integer each."""
        like, size = self.like, self.like.dtype.itemsize
        kind, strides = np.dtype(_MARKS[size]), [s * size for s in like.strides]
        if isinstance(self.places, int):
            return [np.ndarray(like.shape, kind, marks, self.places * size, strides)]
        assert self.places is not None
        return [
            np.ndarray(like.shape[1:], kind, marks, int(first) * size, strides[1:])
            for first in self.places.reshape(-1)
            if first >= 0
        ]


@dataclass(slots=True, eq=False)
class _Core:
    """What is known of one core: its program, the rows already checked, addresses not yet."""

    program: Program
    checked: int = 0
    addresses: list[Places] = field(default_factory=list)
    shared: list[bool] = field(default_factory=list)  # of each tensor of the program

    def addressed(self, tensor: Tensor, places: Places) -> None:
        """Note where an operand in shared_hbm lies that is addressed at run time."""
        if tensor.buffer is MemoryRegion.shared_hbm:
            self.addresses.append(places)


class RaceWatch:
    """Finds the races between the cores of a rank, at each of their meetings and at the end.

    `report` gets a message for each. `contents` returns the bytes of a shared tensor, with data;
    two writes of the same values are no race then, and without data never taken for one.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        report: Callable[[str], None],
        contents: Callable[[Tensor], Bytes] | None,
    ) -> None:
        self._cores = [_Core(program) for program in programs]
        self._report = report
        self._contents = contents
        self._writer: dict[Tensor, int] = {}
        self._before: dict[Tensor, Bytes] = {}

    def executor(self, core: int, machine: Machine) -> FunctionalSimulator:
        """Return a simulator of one core that tells the watch of what it needs to know."""
        machine.on_address = self._cores[core].addressed
        return _WatchedSimulator(machine, lambda tensor: self._writes(core, tensor))

    def _writes(self, core: int, tensor: Tensor) -> None:
        """Keep what the core that was first left in a tensor before the second writes to it."""
        first = self._writer.setdefault(tensor, core)
        if first != core and tensor not in self._before:
            assert self._contents is not None
            self._before[tensor] = self._contents(tensor).copy()

    def meet(self) -> None:
        """Check what lies before a meeting of the cores, which is the latest row of each."""
        self._check(last_row_meets=True)

    def finish(self) -> None:
        """Check what lies after the last meeting."""
        self._check(last_row_meets=False)

    def _check(self, last_row_meets: bool) -> None:
        uses = [self._epoch(number, last_row_meets) for number in range(len(self._cores))]
        for tensor, first in uses[0].items():
            second = uses[1].get(tensor)
            if second is not None and any(use.writes for use in (*first, *second)):
                self._check_tensor(tensor, first, second)
        self._writer.clear()
        self._before.clear()

    def _epoch(self, number: int, last_row_meets: bool) -> dict[Tensor, list[_Use]]:
        """Return the uses of shared tensors in the rows not yet checked, which are checked now."""
        found: dict[Tensor, list[_Use]] = {}
        core = self._cores[number]
        program = core.program
        if len(program.body) == 1 and isinstance(program.body[0], Block):
            block = program.body[0]
            start, stop = core.checked, len(block)
            core.checked = stop
            for use in _uses(number, core, block, start, stop - last_row_meets):
                found.setdefault(use.like.tensor, []).append(use)
        core.addresses.clear()
        return found

    def _check_tensor(self, tensor: Tensor, first: list[_Use], second: list[_Use]) -> None:
        if not _meet_in_bytes(first, second):
            return
        marks = np.zeros(-(-tensor.nbytes // 8) * 8, np.uint8)
        for use in (*first, *second):
            _mark(use, marks)
        wrote = [(marks & _wrote(core)) != 0 for core in (0, 1)]
        read = [(marks & _read(core)) != 0 for core in (0, 1)]
        differs = self._differs(tensor, marks.size)
        for one, two in ((0, 1), (1, 0)):
            _, other = (first, second) if one == 0 else (second, first)
            clash = wrote[one] & read[two]
            if clash.any():
                self._tell(tensor, clash, (first, second)[one], other, "reads")
                return
        clash = wrote[0] & wrote[1] & differs
        if clash.any():
            self._tell(tensor, clash, first, second, "writes")

    def _differs(self, tensor: Tensor, size: int) -> npt.NDArray[np.bool_]:
        """Return the bytes of elements that the core that was second left otherwise."""
        differs = np.zeros(size, np.bool_)
        before = self._before.get(tensor)
        if before is not None and self._contents is not None:
            changed = (self._contents(tensor) != before).reshape(-1, tensor.dtype.itemsize)
            differs[: tensor.nbytes] = np.repeat(changed.any(axis=1), tensor.dtype.itemsize)
        return differs

    def _tell(
        self,
        tensor: Tensor,
        clash: npt.NDArray[np.bool_],
        writers: list[_Use],
        others: list[_Use],
        does: str,
    ) -> None:
        byte = int(np.argmax(clash))
        writer = next(use for use in writers if use.writes and _touches(use, byte, clash.size))
        other = next(
            use
            for use in others
            if (use.reads if does == "reads" else use.writes) and _touches(use, byte, clash.size)
        )
        count = int(np.count_nonzero(clash))
        value = "other values to " if does == "writes" else ""
        self._report(
            f"Race: core {writer.core} writes '{tensor.name}' {list(tensor.shape)} {tensor.dtype} "
            f"({self._named(writer)}), and core {other.core} {does} {value}{count} of the same "
            f"bytes, from byte {byte} on ({self._named(other)}). Nothing orders the two: put "
            f"nisa.core_barrier({tensor.name}, (0, 1)) between them."
        )

    def _named(self, use: _Use) -> str:
        program = self._cores[use.core].program
        block = program.body[0]
        assert isinstance(block, Block)
        form = program.forms[block.form[use.row]]
        return f"{form.mnemonic} at {program.groups[block.group[use.row]]}"


def _wrote(core: int) -> int:
    return 1 << 2 * core


def _read(core: int) -> int:
    return 2 << 2 * core


def _repeated(mark: int, size: int) -> int:
    """Return an integer of `size` bytes that all are `mark`."""
    return int.from_bytes(bytes([mark] * size), "little")


def _mark(use: _Use, marks: Bytes) -> None:
    """Mark the bytes of an access; what its own core wrote before in the epoch is not read."""
    size = use.like.dtype.itemsize
    for view in use.views(marks):
        if use.reads:
            view |= (~view & view.dtype.type(_repeated(_wrote(use.core), size))) << 1
        if use.writes:
            view |= view.dtype.type(_repeated(_wrote(use.core), size))


def _touches(use: _Use, byte: int, size: int) -> bool:
    marks = np.zeros(size, np.uint8)
    for view in use.views(marks):
        view[...] = _repeated(_FOUND, use.like.dtype.itemsize)
    return bool(marks[byte])


def _meet_in_bytes(first: list[_Use], second: list[_Use]) -> bool:
    """Return whether the stretches of bytes that two cores were in overlap."""
    edges = [[use.bounds() for use in uses] for uses in (first, second)]
    lows = [min(low for low, _ in some) for some in edges]
    highs = [max(high for _, high in some) for some in edges]
    return max(lows) < min(highs)


def _uses(number: int, core: _Core, block: Block, start: int, stop: int) -> list[_Use]:
    """Return the uses of shared tensors in rows `start` to `stop` of a core's program."""
    program = core.program
    core.shared += [
        tensor.buffer is MemoryRegion.shared_hbm for tensor in program.tensors[len(core.shared) :]
    ]
    if start >= stop or not any(core.shared):
        return []
    first = np.array(block.first[start:stop], np.int64)
    end = block.first[stop] if stop < len(block) else len(block.tensor)
    tensors = np.array(block.tensor[first[0] : end], np.int64)
    operands = np.flatnonzero(np.array(core.shared, np.bool_)[tensors]) + first[0]
    rows = np.searchsorted(first, operands, side="right") - 1
    addresses = _Addresses(core, block, start, stop)
    found = []
    for operand, row in zip(operands.tolist(), (rows + start).tolist(), strict=True):
        form = program.forms[block.form[row]]
        name, kind = form.operand_fields[operand - block.first[row]]
        like = _seen(form, name, program.tensors[block.tensor[operand]])
        places = addresses.of(row, form, name, block.offset[operand])
        use = _Use(number, row, like, kind in READ_KINDS, kind in WRITE_KINDS, places)
        if places is not None:
            found.append(use)
    return found


def _seen(form: Form, name: str, tensor: Tensor) -> AccessPattern:
    owner, _, part = name.partition(".")
    like: AccessPattern = getattr(form.example, owner)
    if part and like.indirection is not None:
        like = like.indirection.index
    return AccessPattern(tensor, like.shape, like.strides, 0, like.dtype)


class _Addresses:
    """Where the operands of rows lie that are addressed at run time, as the core has told."""

    def __init__(self, core: _Core, block: Block, start: int, stop: int) -> None:
        self._told = list(core.addresses)
        self._start = start
        counts = [len(_dynamic(form)) for form in core.program.forms]
        of_rows = np.array(counts, np.int64)[np.array(block.form[start:stop], np.int64)]
        self._first = np.cumsum(of_rows) - of_rows

    def of(self, row: int, form: Form, name: str, offset: int) -> Places | None:
        """Return the first element of an operand, or of its rows; None if it is not known."""
        dynamic = _dynamic(form)
        if name not in dynamic:
            return offset
        place = int(self._first[row - self._start]) + dynamic.index(name)
        return self._told[place] if place < len(self._told) else None


def _dynamic(form: Form) -> list[str]:
    """Return the operands in shared_hbm that are addressed at run time."""
    named = [name.partition(".")[0] for name, _ in form.operand_fields if name.endswith(".index")]
    return [n for n in named if getattr(form.example, n).buffer is MemoryRegion.shared_hbm]


class _WatchedSimulator(FunctionalSimulator):
    """Tells of each write to a shared tensor before it happens."""

    def __init__(self, machine: Machine, on_write: Callable[[Tensor], None]) -> None:
        super().__init__(machine)
        self._on_write = on_write
        self._written: dict[Form, tuple[int, ...]] = {}

    def execute(self, form: Form, patterns: Sequence[AccessPattern]) -> None:
        written = self._written.get(form)
        if written is None:
            written = self._written[form] = _writes_shared(form)
        for k in written:
            self._on_write(patterns[k].tensor)
        super().execute(form, patterns)


def _writes_shared(form: Form) -> tuple[int, ...]:
    """Return the operands in shared_hbm that an instruction of one core writes."""
    if isinstance(form.example, Meeting):
        return ()
    return tuple(
        k
        for k, (name, kind) in enumerate(form.operand_fields)
        if kind in WRITE_KINDS and getattr(form.example, name).buffer is MemoryRegion.shared_hbm
    )

"""Races: accesses of the two cores of a rank to the same bytes, one a write, that nothing orders.

The cores share tensors in shared_hbm and are ordered only where they meet. What lies between two
meetings is an epoch: within it, each core's accesses may come before or after any of the other's.
Which races there can be at all: docs/decisions/races.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from emuron.isa.affine import base_of
from emuron.isa.instruction import WRITE_KINDS, Form
from emuron.isa.meetings import Meeting
from emuron.isa.program import Program
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine
from emuron.sim.shared_uses import CoreUses, NearUses, Use, near, stretch

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

_MARKS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_FOUND = 0x80


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
        self._cores = [CoreUses(number, program) for number, program in enumerate(programs)]
        self._report = report
        self._contents = contents
        self._written: dict[Tensor, _Written] = {}

    def executor(self, core: int, machine: Machine) -> FunctionalSimulator:
        """Return a simulator of one core that tells the watch of what it needs to know."""
        machine.on_address = self._cores[core].addressed
        return _WatchedSimulator(machine, partial(self._writes, core))

    def _writes(self, core: int, tensor: Tensor, low: int, high: int) -> None:
        """Note a write that is about to be done to bytes `low` to `high` of a tensor.

        What the core that was first left there is kept before the second writes to it.
        """
        known = self._written.get(tensor)
        if known is None:
            self._written[tensor] = _Written(core, low, high)
        elif known.core == core:
            known.low, known.high = min(known.low, low), max(known.high, high)
        elif known.left is None and low < known.high and known.low < high:
            assert self._contents is not None
            known.left = self._contents(tensor)[known.low : known.high].copy()

    def meet(self) -> None:
        """Check what lies before a meeting of the cores, which is the latest row of each."""
        self._check(rows_after=1)

    def finish(self) -> None:
        """Check what lies after the last meeting."""
        self._check(rows_after=0)

    def _check(self, rows_after: int) -> None:
        first, second = (core.epoch(rows_after) for core in self._cores)
        for tensor in [tensor for tensor in first.stretches if tensor in second.stretches]:
            one, two = first.stretches[tensor], second.stretches[tensor]
            low, high = max(one.low, two.low), min(one.high, two.high)
            if low < high and (one.writes or two.writes):
                uses = [epoch.uses(tensor, low, high) for epoch in (first, second)]
                found = near(tensor, uses) if all(uses) else None
                if found is not None:
                    self._check_tensor(tensor, found)
        self._written.clear()

    def _check_tensor(self, tensor: Tensor, found: NearUses) -> None:
        marks = _fresh_marks(found)
        for core in (0, 1):
            for use in found.uses[core]:
                _mark(use, core, marks, found.low)
        verdicts = _VERDICTS[marks]
        for writer, verdict in ((0, _READ_BY_1), (1, _READ_BY_0)):
            clash = verdicts == verdict
            if clash.any():
                self._tell(tensor, clash, found, writer, "reads")
                return
        clash = verdicts == _WRITTEN_BY_BOTH
        if clash.any():
            clash &= self._differs(tensor, found.low, marks.size)
        if clash.any():
            self._tell(tensor, clash, found, 0, "writes")

    def _differs(self, tensor: Tensor, low: int, size: int) -> Bools:
        """Return of bytes from `low` on those of elements that the second core left otherwise."""
        differs = np.zeros(size, np.bool_)
        known = self._written.get(tensor)
        if known is not None and known.left is not None and self._contents is not None:
            now = self._contents(tensor)[known.low : known.low + len(known.left)]
            changed = now != known.left
            start = max(known.low, low)
            end = min(known.low + len(changed), low + size)
            differs[start - low : end - low] = changed[start - known.low : end - known.low]
            elements = differs.reshape(-1, tensor.dtype.itemsize)
            elements[elements.any(axis=1)] = True
        return differs

    def _tell(self, tensor: Tensor, clash: Bools, found: NearUses, writer: int, does: str) -> None:
        """Report a race: the writer's first access to the first byte and the other core's."""
        byte, other = found.low + int(np.argmax(clash)), 1 - writer
        write = next(u for u in found.uses[writer] if u.writes and _touches(u, byte, found))
        access = next(
            use
            for use in found.uses[other]
            if (use.reads if does == "reads" else use.writes) and _touches(use, byte, found)
        )
        value = "other values to " if does == "writes" else ""
        self._report(
            f"Race: core {writer} writes '{tensor.name}' {list(tensor.shape)} {tensor.dtype} "
            f"({self._cores[writer].named(write)}), and core {other} {does} {value}"
            f"{int(np.count_nonzero(clash))} of the same bytes, from byte {byte} on "
            f"({self._cores[other].named(access)}). Nothing orders the two: put "
            f"nisa.core_barrier({tensor.name}, (0, 1)) between them."
        )


@dataclass(slots=True, eq=False)
class _Written:
    """The core that was first to write a tensor in an epoch, from where to where in bytes.

    `left` is what it left there, kept when the other core begins to write there too.
    """

    core: int
    low: int
    high: int
    left: Bytes | None = None


def _wrote(core: int) -> int:
    return 1 << 2 * core


def _read(core: int) -> int:
    return 2 << 2 * core


_READ_BY_1, _READ_BY_0, _WRITTEN_BY_BOTH = 1, 2, 3


def _verdict(marks: int) -> int:
    """Return what the marks of a byte mean: one core reads what the other writes, or both write."""
    if marks & _wrote(0) and marks & _read(1):
        return _READ_BY_1
    if marks & _wrote(1) and marks & _read(0):
        return _READ_BY_0
    return _WRITTEN_BY_BOTH if marks & _wrote(0) and marks & _wrote(1) else 0


_VERDICTS = np.array([_verdict(marks) for marks in range(16)], np.uint8)


def _repeated(mark: int, size: int) -> int:
    """Return an integer of `size` bytes that all are `mark`."""
    return int.from_bytes(bytes([mark] * size), "little")


def _fresh_marks(found: NearUses) -> Bytes:
    """Return no marks for the bytes around uses, a whole number of elements of any dtype."""
    return np.zeros(-(-(found.high - found.low) // 8) * 8, np.uint8)


def _views(use: Use, marks: Bytes, low: int) -> list[npt.NDArray[Any]]:
    """Return the marks of the elements that an access touches, one integer each.

    The marks are those of a tensor's bytes from `low` on.
    """
    like, size = use.like, use.like.dtype.itemsize
    kind, strides = np.dtype(_MARKS[size]), [s * size for s in like.strides]
    if isinstance(use.places, int):
        return [np.ndarray(like.shape, kind, marks, use.places * size - low, strides)]
    return [
        np.ndarray(like.shape[1:], kind, marks, int(first) * size - low, strides[1:])
        for first in use.places.reshape(-1)
        if first >= 0
    ]


def _mark(use: Use, core: int, marks: Bytes, low: int) -> None:
    """Mark the bytes of an access; what its own core wrote before in the epoch is not read."""
    size = use.like.dtype.itemsize
    for view in _views(use, marks, low):
        if use.reads:
            view |= (~view & view.dtype.type(_repeated(_wrote(core), size))) << 1
        if use.writes:
            view |= view.dtype.type(_repeated(_wrote(core), size))


def _touches(use: Use, byte: int, found: NearUses) -> bool:
    marks = _fresh_marks(found)
    for view in _views(use, marks, found.low):
        view[...] = _repeated(_FOUND, use.like.dtype.itemsize)
    return bool(marks[byte - found.low])


class _WatchedSimulator(FunctionalSimulator):
    """Tells of each write to a shared tensor, and its bytes, before it happens."""

    def __init__(self, machine: Machine, on_write: Callable[[Tensor, int, int], None]) -> None:
        super().__init__(machine)
        self._on_write = on_write
        self._written: dict[Form, tuple[tuple[int, int, int, int], ...]] = {}

    def execute(self, form: Form, patterns: Sequence[AccessPattern]) -> None:
        """Tell of the writes of one instruction, then execute it."""
        written = self._written.get(form)
        if written is None:
            written = self._written[form] = _shared_writes(form)
        for k, low, high, size in written:
            tensor = patterns[k].tensor
            if size:
                start = base_of(patterns[k].offset) * size
                self._on_write(tensor, start + low, start + high)
            else:
                self._on_write(tensor, 0, tensor.nbytes)
        super().execute(form, patterns)


def _shared_writes(form: Form) -> tuple[tuple[int, int, int, int], ...]:
    """Return the operands in shared_hbm that an instruction of one core writes.

    Each with the bytes before and after its first element, and the bytes of an element: 0 for
    operands that are addressed at run time, which may go anywhere.
    """
    if isinstance(form.example, Meeting):
        return ()
    found = []
    for k, (name, kind) in enumerate(form.operand_fields):
        if kind in WRITE_KINDS:
            like: AccessPattern = getattr(form.example, name)
            if like.buffer is MemoryRegion.shared_hbm:
                size = like.dtype.itemsize if like.indirection is None else 0
                found.append((k, *stretch(like), size))
    return tuple(found)

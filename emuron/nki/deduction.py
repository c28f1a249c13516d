"""What a register holds in a kernel recorded without data: the instructions that decide it are run.

Only those that wrote what the value rests on, directly or through others, and only where the
arguments have data. The other instructions, usually nearly all, stay unexecuted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from emuron.errors import EmuronError
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.meetings import Meeting
from emuron.isa.program import Block
from emuron.isa.tensor import AccessPattern
from emuron.nki.arrays import ShapeDtype, to_numpy
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine

if TYPE_CHECKING:
    from emuron.nki.recorder import Recorder

Slots = tuple[tuple[int, ...], tuple[int, ...]]  # of the operands that are read, and written


def deduced(recorder: Recorder, view: AccessPattern) -> NDArray[Any] | None:
    """Return what a view holds after the instructions recorded so far; None if that is unknown.

    It is if it rests on an argument without data, on another core, on random numbers or on
    accumulator registers.
    """
    body = recorder.program.body
    if len(body) != 1 or not isinstance(body[0], Block):
        return None
    if not isinstance(recorder.evidence, _Evidence):
        recorder.evidence = _Evidence(recorder, body[0])
    found = recorder.evidence.rows(view)
    return None if found is None else _run(recorder, body[0], found, view)


class _Evidence:
    """Finds the rows that a value rests on, by the tensors that they write and read."""

    def __init__(self, recorder: Recorder, block: Block) -> None:
        self._program = recorder.program
        self._block = block
        self._slots: dict[int, Slots | None] = {}
        self._writers: dict[int, list[int]] = {}
        self._known = 0  # rows

    def _catch_up(self) -> None:
        block = self._block
        for row in range(self._known, len(block)):
            form, first = block.form[row], block.first[row]
            slots = self._slots_of(form)
            for slot in slots[1] if slots else self._written(form):
                self._writers.setdefault(self._space(block.tensor[first + slot]), []).append(row)
        self._known = len(block)

    def rows(self, view: AccessPattern) -> list[int] | None:
        """Return the rows that decide a view, in order; None if one of them cannot be run alone."""
        self._catch_up()
        block, needed = self._block, set()
        done: dict[int, int] = {}
        open_ = [(self._space(self._program.tensor_number(view.tensor)), len(block))]
        while open_:
            space, before = open_.pop()
            after = done.get(space, 0)
            if before <= after:
                continue
            done[space] = before
            for row in self._writers.get(space, ()):
                if not after <= row < before:
                    continue
                slots = self._slots_of(block.form[row])
                if slots is None:
                    return None
                needed.add(row)
                first = block.first[row]
                open_ += [(self._space(block.tensor[first + slot]), row) for slot in slots[0]]
        return sorted(needed)

    def _space(self, number: int) -> int:
        """Return a number for what shares its bytes: a tensor, or all placed ones of a memory."""
        tensor = self._program.tensors[number]
        return -1 - list(type(tensor.buffer)).index(tensor.buffer) if tensor.aliases else number

    def _slots_of(self, form: int) -> Slots | None:
        """Return the operands that a form reads and writes; None if it cannot be run alone."""
        if form not in self._slots:
            made = self._program.forms[form]
            self._slots[form] = _slots(made) if _runs_alone(made) else None
        return self._slots[form]

    def _written(self, form: int) -> tuple[int, ...]:
        return _slots(self._program.forms[form])[1]


def _slots(form: Form) -> Slots:
    kinds = [kind for _, kind in form.operand_fields]
    reads = tuple(k for k, kind in enumerate(kinds) if kind in READ_KINDS)
    return reads, tuple(k for k, kind in enumerate(kinds) if kind in WRITE_KINDS)


def _runs_alone(form: Form) -> bool:
    example = form.example
    hidden = example.accumulator is not None or example.generator is not None
    return not hidden and not isinstance(example, Meeting)


def _run(
    recorder: Recorder, block: Block, rows: list[int], view: AccessPattern
) -> NDArray[Any] | None:
    program, machine = recorder.program, Machine(recorder.core)
    for tensor, array in recorder.constants.items():
        machine.bind(tensor, array)
    for tensor, value in recorder.given.items():
        if not isinstance(value, ShapeDtype):
            machine.bind(tensor, to_numpy(value).view(tensor.dtype.np))
    simulator = FunctionalSimulator(machine)
    try:
        with simulator.guard():
            for row in rows:
                simulator.execute(program.forms[block.form[row]], program.view(block, row))
        return simulator.look(view)
    except EmuronError:
        return None

"""What comes out: executes instructions on the contents of a machine's memories.

A form is prepared once into a plan (closures over views, casts and its `compute`); executing an
instruction then means to call the plan with its tensors' storage and offsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emuron.isa.affine import LoopIndex, base_of
from emuron.isa.instruction import Form
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import AccessPattern, Tensor
from emuron.numerics.blas import one_thread
from emuron.sim.access import Access
from emuron.sim.machine import Machine, Storage
from emuron.sim.plans import plan
from emuron.sim.stores import Step

Slopes = tuple[tuple[int, tuple[tuple[LoopIndex, int], ...]], ...]
Row = tuple[Step, list[Storage], list[int], Slopes]


class FunctionalSimulator:
    """Executes instructions and programs on one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._plans: dict[Form, Step] = {}

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Give the context to execute in: no warnings about NaN and overflow, one BLAS thread."""
        with np.errstate(all="ignore"), one_thread():
            yield

    def execute(self, form: Form, patterns: Sequence[AccessPattern]) -> None:
        """Execute one instruction at once; patterns follow the form's operand fields.

        Raises UninitializedReadError and OutOfBoundsError.
        """
        known = self.machine.storages
        try:
            storages = [known[p.tensor] for p in patterns]
        except KeyError:  # some are used for the first time
            storages = [self.machine.storage(p.tensor) for p in patterns]
        offsets: list[int] = [p.offset for p in patterns]  # type: ignore[misc]
        for offset in offsets:
            if offset.__class__ is not int:
                offsets = [base_of(p.offset) for p in patterns]
                break
        try:
            step = self._plans[form]
        except KeyError:
            step = self._plan(form)
        step(storages, offsets)

    def look(self, view: AccessPattern) -> NDArray[Any]:
        """Return a copy of what a view holds; raise UninitializedReadError if part was not written.

        The place of the view must be known: no run-time addressing.
        """
        machine, offset = self.machine, base_of(view.offset)
        access = Access("the host", "the tensor", view, machine.ops)
        storage = machine.storage(view.tensor)
        if storage.memory.unwritten:
            access.require_written(storage, offset)
        return np.array(machine.ops.numpy(access.view(storage, offset))).reshape(view.shape)

    def run(self, program: Program, release: bool = False) -> None:
        """Execute a program, walking its loops.

        With `release` the contents of on-chip tensors are dropped after their last use.
        """
        last = _last_uses(program) if release else {}
        with self.guard():
            for position, part in enumerate(program.body):
                self._run_body(program, [part], {})
                for tensor in last.get(position, ()):
                    self.machine.release(tensor)

    def _plan(self, form: Form) -> Step:
        found = self._plans.get(form)
        if found is None:
            found = self._plans[form] = plan(form, self.machine)
        return found

    def _run_body(
        self, program: Program, body: list[Block | Loop], counters: dict[LoopIndex, int]
    ) -> None:
        for part in body:
            if isinstance(part, Block):
                for step, storages, offsets, _ in self._rows(program, part):
                    step(storages, offsets)
            else:
                self._run_loop(program, part, counters)

    def _run_loop(self, program: Program, loop: Loop, counters: dict[LoopIndex, int]) -> None:
        """Run a loop; the rows of its own blocks are prepared once."""
        prepared = [
            list(self._rows(program, part)) if isinstance(part, Block) else part
            for part in loop.body
        ]
        for counter in range(loop.index.trip):
            counters[loop.index] = counter
            for part in prepared:
                if isinstance(part, Loop):
                    self._run_loop(program, part, counters)
                else:
                    _run_rows(part, counters)
        counters.pop(loop.index, None)

    def _rows(self, program: Program, block: Block) -> Iterator[Row]:
        tensors, forms, storage = program.tensors, program.forms, self.machine.storage
        ends = [*block.first[1:], len(block.tensor)]
        for number, first, end in zip(block.form, block.first, ends, strict=True):
            storages = [storage(tensors[t]) for t in block.tensor[first:end]]
            offsets = list(block.offset[first:end])
            slopes: Slopes = ()
            if block.slopes:
                slopes = tuple(
                    (k - first, block.slopes[k]) for k in range(first, end) if k in block.slopes
                )
            yield self._plan(forms[number]), storages, offsets, slopes


def _run_rows(rows: list[Row], counters: dict[LoopIndex, int]) -> None:
    for step, storages, offsets, slopes in rows:
        if slopes:
            offsets = offsets.copy()
            for k, terms in slopes:
                for index, coefficient in terms:
                    offsets[k] += coefficient * counters[index]
        step(storages, offsets)


def _last_uses(program: Program) -> dict[int, list[Tensor]]:
    """Return the on-chip tensors that each top-level part is the last to use."""
    last: dict[Tensor, int] = {}
    for position, part in enumerate(program.body):
        for number in _tensors_of(part):
            last[program.tensors[number]] = position
    by_position: dict[int, list[Tensor]] = {}
    for tensor, position in last.items():
        if tensor.buffer.is_on_chip:
            by_position.setdefault(position, []).append(tensor)
    return by_position


def _tensors_of(part: Block | Loop) -> set[int]:
    if isinstance(part, Block):
        return set(part.tensor)
    return set().union(*(_tensors_of(inner) for inner in part.body))

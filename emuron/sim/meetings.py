"""How the functional simulator carries out instructions that several cores meet in.

The data of all cores move at the meeting: everything is read, then everything is written, so that
sources may be destinations. Cores wait meanwhile, so that this equals reading at the issue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.meetings import Meeting, Pieces
from emuron.isa.tensor import AccessPattern
from emuron.numerics.dtypes import float32
from emuron.sim.access import Access
from emuron.sim.machine import Machine, Storage
from emuron.sim.stores import Step, Store, scatter, store_function


def meeting_plan(form: Form, machine: Machine) -> Step:
    """Return the prepared execution of a meeting: it hands the core's operands over."""
    example = form.example
    assert isinstance(example, Meeting)
    reads: list[tuple[int, Access]] = []
    writes: list[tuple[int, Access, Store]] = []
    for k, (name, kind) in enumerate(form.operand_fields):
        if name in example.untouched or name.endswith(".index"):
            continue
        access = Access(form.mnemonic, name, getattr(example, name), machine.ops)
        if kind in READ_KINDS and name not in example.unread:
            reads.append((k, access))
        if kind in WRITE_KINDS:
            writes.append((k, access, store_function(machine, access.dtype, example.raw)))

    def step(storages: list[Storage], offsets: list[int]) -> None:
        machine.meet(example, Operands(machine.ops, reads, writes, storages, offsets, example.raw))

    return step


@dataclass(slots=True, eq=False)
class Operands:
    """What one core brings to a meeting: operands to read and, afterwards, to write."""

    ops: Any
    reads: list[tuple[int, Access]]
    writes: list[tuple[int, Access, Store]]
    storages: list[Storage]
    offsets: list[int]
    raw: bool

    def read(self) -> tuple[Any, ...]:
        """Return copies of the operands that are read: fp32, or stored bits if raw."""
        return tuple(self._read(k, access) for k, access in self.reads)

    def _read(self, k: int, access: Access) -> Any:
        storage, offset = self.storages[k], self.offsets[k]
        x = access.view(storage, offset)
        if storage.memory.unwritten:
            access.require_written(storage, offset)
        x = self.ops.concatenate([x])
        if not self.raw and access.dtype != float32:
            x = self.ops.widen(x, access.dtype)
        return self.ops.reshape(x, access.flat)

    def write(self, values: tuple[Any, ...]) -> None:
        """Write a value into each operand that is written: an array, Pieces, or None for none."""
        for (k, access, store), value in zip(self.writes, values, strict=True):
            storage, offset = self.storages[k], self.offsets[k]
            if isinstance(value, Pieces):
                self._write_pieces(storage, offset, access, store, value)
            elif value is not None:
                scatter(self.ops, access, store, storage, offset, value)

    def _write_pieces(
        self, storage: Storage, offset: int, whole: Access, store: Store, pieces: Pieces
    ) -> None:
        for first, values in pieces:
            shape = (int(values.shape[0]),)
            if shape[0]:
                run = AccessPattern(storage.tensor, shape, (1,), 0, whole.dtype)
                access = Access(whole.instruction, whole.name, run, self.ops)
                scatter(self.ops, access, store, storage, offset + first, values)

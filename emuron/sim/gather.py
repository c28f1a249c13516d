"""Operands that an index tile gathers or scatters: gathered before, scattered after the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from emuron.errors import OutOfBoundsError
from emuron.isa.gathered import group_size, is_gathered
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.tensor import AccessPattern, Indirection, Tensor
from emuron.sim.access import Access
from emuron.sim.indirect import Indices, bytes_of, mark
from emuron.sim.machine import Machine, Memory, Storage, unwritten_error
from emuron.sim.stores import Step


@dataclass(frozen=True, slots=True, eq=False)
class _Gathered:
    """One such operand: where it stands among the patterns, and a dense tensor in its place."""

    position: int
    name: str
    pattern: AccessPattern
    stand_in: Tensor
    index: Access
    reads: bool
    writes: bool

    @property
    def rule(self) -> Indirection:
        """How the index counts."""
        assert self.pattern.indirection is not None
        return self.pattern.indirection

    def dense(self) -> Storage:
        """Return a new storage of the stand-in."""
        return Storage(self.stand_in, Memory(self.stand_in.nbytes, self.stand_in.partition_bytes))


def gather_plan(form: Form, machine: Machine, plan: Callable[[Form, Machine], Step]) -> Step:
    """Return the execution of a form with gathered operands, by `plan` on dense ones."""
    found = [
        _prepared(form, machine, position, name, kind)
        for position, (name, kind) in enumerate(form.operand_fields)
        if is_gathered(getattr(form.example, name, None))
    ]
    dropped = {g.position + 1 for g in found}
    kept = [k for k in range(len(form.operand_fields)) if k not in dropped]
    dense = replace(form.example, **{g.name: AccessPattern(g.stand_in) for g in found})
    fields = tuple(form.operand_fields[k] for k in kept)
    step = plan(Form(form.id, dense, form.core, form.engine, form.cost, fields), machine)
    group = group_size(form.core, form.engine)

    def run(storages: list[Storage], offsets: list[int]) -> None:
        inner, places = [storages[k] for k in kept], [offsets[k] for k in kept]
        scattered = []
        for g in found:
            elements, stand_in = _elements(machine, g, storages, offsets, group), g.dense()
            if g.reads:
                _gather(form, g, storages[g.position], elements, stand_in)
            slot = kept.index(g.position)
            inner[slot], places[slot] = stand_in, 0
            if g.writes:
                scattered.append((g, elements, stand_in))
        step(inner, places)
        for g, elements, stand_in in scattered:
            _scatter(g, storages[g.position], elements, stand_in)

    return run


def _prepared(form: Form, machine: Machine, position: int, name: str, kind: str) -> _Gathered:
    pattern: AccessPattern = getattr(form.example, name)
    assert pattern.indirection is not None
    return _Gathered(
        position,
        name,
        pattern,
        # In the same partitions: accumulator registers and generators belong to lanes.
        Tensor(name, pattern.shape, pattern.dtype, pattern.buffer, (pattern.start_partition, 0)),
        Access(form.mnemonic, f"{name}.index", pattern.indirection.index, machine.ops),
        kind in READ_KINDS and name not in form.example.unread,
        kind in WRITE_KINDS,
    )


def _elements(
    machine: Machine, g: _Gathered, storages: list[Storage], offsets: list[int], group: int
) -> Indices:
    """Return the place in its tensor of each element [partition, column]."""
    k, like = g.position + 1, g.pattern
    if storages[k].memory.unwritten:
        g.index.require_written(storages[k], offsets[k])
    index = machine.ops.numpy(g.index.view(storages[k], offsets[k])).astype(np.int64)
    partitions, count = like.shape
    columns = np.empty((partitions, count), np.int64)
    for first in range(0, partitions, group):
        rows = index[first : first + group]
        columns[first : first + group] = rows.T.reshape(-1)[:count]
    limit = g.rule.limit
    if columns.min() < 0 or columns.max() >= limit:
        bad = columns[(columns < 0) | (columns >= limit)][0]
        raise OutOfBoundsError(
            f"{g.index.instruction}: the index of {g.name} holds {bad}; legal offsets in a "
            f"partition of '{like.tensor.name}' are 0 to {limit - 1}. Correct the index."
        )
    starts = offsets[g.position] + np.arange(partitions)[:, None] * like.strides[0]
    elements: Indices = starts + columns * g.rule.stride
    return elements


def _gather(form: Form, g: _Gathered, source: Storage, elements: Indices, into: Storage) -> None:
    memory, places = source.memory, bytes_of(g.pattern, source, elements)
    if memory.unwritten:
        bad = (memory.make_mask()[places] == 0).any(axis=-1)
        if bad.any():
            byte = int(elements[bad][0]) * g.pattern.dtype.itemsize
            raise unwritten_error(source.tensor, f"{form.mnemonic} reads {g.name}", byte)
    into.memory.buffer[: into.nbytes] = memory.buffer[places].reshape(-1)
    into.memory.fill()


def _scatter(g: _Gathered, target: Storage, elements: Indices, values: Storage) -> None:
    """Write the elements in ascending order: of equal offsets the last one stays."""
    mark(g.pattern, target, elements)
    places = bytes_of(g.pattern, target, elements)
    target.memory.buffer[places] = values.memory.buffer[: values.nbytes].reshape(places.shape)

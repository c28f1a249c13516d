"""The instructions of a program where they stand: their queue and what they touch, as columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from emuron.isa.affine import LoopIndex
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import AccessPattern
from emuron.sim.aliases import Spaces
from emuron.sim.footprints import (
    Cells,
    Column,
    Footprint,
    anywhere,
    cut,
    footprint,
    pitch_of,
    rectangles,
    rows_of,
)
from emuron.sim.queues import assign

Terms = tuple[tuple[LoopIndex, int], ...]

# Offsets that a loop nest may give one operand before its tensor counts as touched anywhere.
_MOST_OFFSETS = 1 << 18


@dataclass(slots=True, eq=False)
class Run:
    """Sites `first` to `last` - 1, which follow each other; `moving` are accesses in a loop."""

    first: int
    last: int
    moving: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class SiteLoop:
    """A loop of the program text; `issues` counts its instructions per iteration and queue."""

    index: LoopIndex
    body: list[Run | SiteLoop]
    issues: dict[int, int]
    sites: int


class Sites:
    """The sites (instructions of the text) of a program and their accesses, in order.

    `form`, `group` and `queue` have an entry for each site, `first` one more: the accesses of site
    i are numbers `first[i]` to `first[i + 1]` - 1. Only accesses whose tensor needs order are kept:
    not those of tensors that are only read from HBM. `tensor`, `space`, `reads`, `writes` and
    `place` have an entry for each access. `cells` has one for each place: an access that moves with
    loop counters (by `steps`, in bytes) has a place for each of their values, `strides` apart.
    """

    def __init__(self, program: Program, repetitions: int = 1) -> None:
        self.program = program
        self.steps: dict[int, dict[LoopIndex, int]] = {}
        self.strides: dict[int, Terms] = {}
        blocks = [block for block, _ in program.leaves()]
        self.form = _joined([block.form for block in blocks])
        self.group = _joined([block.group for block in blocks])
        slots = _Slots(program.forms)
        counts = np.diff(slots.first)[self.form]
        ends = np.cumsum(counts)
        self._site = np.repeat(np.arange(len(self.form)), counts)
        slot = slots.first[self.form][self._site]
        slot += np.arange(len(slot)) - (ends - counts)[self._site]
        tensor = _joined([block.tensor for block in blocks])
        self.queue, self.queue_names = assign(program, self.form, self._site, slot, tensor)
        self._keep(blocks, slots, slot, tensor)
        self._next_site = 0
        body = self._body(program.body)
        if repetitions > 1:
            body = [self._loop(LoopIndex("repetition", repetitions), body)]
        self.body = body

    def __len__(self) -> int:
        return len(self.form)

    def mnemonic(self, site: int) -> str:
        """Return the name of a site's instruction."""
        mnemonic: str = self.program.forms[self.form[site]].mnemonic
        return mnemonic

    def is_ring(self, queue: int) -> bool:
        """Whether a queue is a DMA ring."""
        return self.queue_names[queue].startswith("dma-")

    def accesses(self, run: Run) -> range:
        """Return the accesses of a run."""
        return range(int(self.first[run.first]), int(self.first[run.last]))

    def shift(self, access: int, counters: dict[LoopIndex, int]) -> int:
        """Return the place of an access at loop counters."""
        shifts = sum(counters[index] * stride for index, stride in self.strides.get(access, ()))
        return int(self.place[access]) + shifts

    def cells_at(self, place: int) -> list[int]:
        """Return the numbers of the cells of a place."""
        cells, across = self.cells, int(self.cells.across[place])
        first, columns = int(cells.first[place]), int(cells.columns[place])
        return [
            first + row * across + column
            for row in range(int(cells.rows[place]))
            for column in range(columns)
        ]

    def _keep(self, blocks: list[Block], slots: _Slots, slot: Column, tensor: Column) -> None:
        """Keep the accesses that need order, and work out their cells."""
        tensors = self.program.tensors
        tracked = np.array([t.buffer.is_on_chip for t in tensors], np.bool_)
        tracked[tensor[slots.writes[slot]]] = True
        kept = tracked[tensor]
        counts = np.bincount(self._site[kept], minlength=len(self.form))
        self.first = np.concatenate([[0], np.cumsum(counts)])
        numbers = np.cumsum(kept) - 1  # of each operand: its number among the accesses kept
        offset = (_joined([block.offset for block in blocks]) * slots.size[slot])[kept]
        slot, self.tensor = slot[kept], tensor[kept]
        self.reads, self.writes = slots.reads[slot], slots.writes[slot]
        operand, terms = 0, {}
        for block in blocks:
            for k, found in block.slopes.items():
                if kept[operand + k]:
                    access = int(numbers[operand + k])
                    size = int(slots.size[slot[access]])
                    terms[access] = tuple((index, c * size) for index, c in found)
            operand += len(block.tensor)
        shapes, number = slots.footprints(slot, self.tensor, self.program)
        self._cut(shapes, number, offset, terms)

    def _cut(
        self, shapes: list[Footprint], number: Column, offset: Column, terms: dict[int, Terms]
    ) -> None:
        places = np.ones(len(offset), np.int64)
        for access, found in terms.items():
            places[access] = prod(index.trip for index, _ in found)
            if places[access] > _MOST_OFFSETS:
                shape = shapes[number[access]]
                number[access] = len(shapes)
                shapes.append(anywhere(shape.pitch, shape.all_rows))
                places[access] = 1
        self.place = np.cumsum(places) - places
        moved = np.repeat(offset, places)
        for access, found in terms.items():
            if places[access] > 1:
                self._move(access, found, moved)
        owner = np.repeat(self.tensor, places)
        touched = rectangles(shapes, np.repeat(number, places), moved)
        spaces = Spaces(self.program.tensors)
        self.space = spaces.number[self.tensor]
        touched = spaces.moved(owner, touched)
        self.cells: Cells
        self.cells, self.cell_count = cut(spaces.number[owner], touched, len(spaces.number))

    def _move(self, access: int, terms: Terms, offset: Column) -> None:
        """Add to the offsets of an access's places what its loops move it by."""
        strides, stride = [], 1
        shifts = np.zeros(1, np.int64)
        for index, coefficient in reversed(terms):
            steps = np.arange(index.trip) * coefficient
            shifts = (steps[:, None] + shifts).ravel()
            strides.append((index, stride))
            stride *= index.trip
        self.strides[access] = tuple(reversed(strides))
        self.steps[access] = dict(terms)
        first = int(self.place[access])
        offset[first : first + len(shifts)] += shifts

    def _body(self, parts: list[Block | Loop]) -> list[Run | SiteLoop]:
        found: list[Run | SiteLoop] = []
        for part in parts:
            if isinstance(part, Loop):
                found.append(self._loop(part.index, self._body(part.body)))
            elif len(part):
                run = Run(self._next_site, self._next_site + len(part))
                self._next_site = run.last
                if self.strides:
                    run.moving = [k for k in self.accesses(run) if k in self.strides]
                found.append(run)
        return found

    def _loop(self, index: LoopIndex, body: list[Run | SiteLoop]) -> SiteLoop:
        issues: dict[int, int] = {}
        sites = 0
        for part in body:
            if isinstance(part, Run):
                queues, counts = np.unique(self.queue[part.first : part.last], return_counts=True)
                added = dict(zip(queues.tolist(), counts.tolist(), strict=True))
                sites += part.last - part.first
            else:
                added = {queue: n * part.index.trip for queue, n in part.issues.items()}
                sites += part.sites * part.index.trip
            for queue, count in added.items():
                issues[queue] = issues.get(queue, 0) + count
        return SiteLoop(index, body, issues, sites)


class _Slots:
    """The operand fields of all forms, one after the other; those of form i from `first[i]`."""

    def __init__(self, forms: list[Form]) -> None:
        self.first = np.concatenate(
            [[0], np.cumsum([len(form.operand_fields) for form in forms], dtype=np.int64)]
        )
        fields = [(form, name, kind) for form in forms for name, kind in form.operand_fields]
        self._patterns = [pattern_of(form, name) for form, name, _ in fields]
        self.size = np.array([p.dtype.itemsize for p in self._patterns], np.int64)
        self.reads = np.array([kind in READ_KINDS for _, _, kind in fields], np.bool_)
        self.writes = np.array([kind in WRITE_KINDS for _, _, kind in fields], np.bool_)

    def footprints(
        self, slot: Column, tensor: Column, program: Program
    ) -> tuple[list[Footprint], Column]:
        """Return the distinct footprints of accesses, and the number of each access's own."""
        sizes: dict[tuple[int, int], int] = {}
        kinds = [sizes.setdefault((pitch_of(t), rows_of(t)), len(sizes)) for t in program.tensors]
        keys = slot * len(sizes) + np.array(kinds, np.int64)[tensor]
        known = np.zeros(len(self._patterns) * len(sizes), np.int64)
        known[keys] = 1
        used = np.flatnonzero(known)
        known[used] = np.arange(len(used))
        by_size = list(sizes)
        found = [
            footprint(self._patterns[key // len(sizes)], *by_size[key % len(sizes)])
            for key in used.tolist()
        ]
        return found, known[keys]


def pattern_of(form: Form, name: str) -> AccessPattern:
    """Return the access pattern of an operand field of a form ("x.index" is x's index)."""
    owner, _, part = name.partition(".")
    pattern: AccessPattern = getattr(form.example, owner)
    if part and pattern.indirection is not None:
        return pattern.indirection.index
    return pattern


def _joined(columns: list[object]) -> Column:
    """Return columns of blocks as one."""
    parts = [np.asarray(column).astype(np.int64) for column in columns]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)

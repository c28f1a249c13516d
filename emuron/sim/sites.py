"""The instructions of a program where they stand: their queue and what they touch, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from emuron.isa.affine import LoopIndex
from emuron.isa.meetings import CoreId
from emuron.isa.program import Block, Loop, Program
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
from emuron.sim.kinds import Kinds
from emuron.sim.queues import Operands, assign

Terms = tuple[tuple[LoopIndex, int], ...]
Partner = tuple[int, int, Terms]  # queue, position, and that one's slopes (`partners`)

_FIRST_CORE = CoreId(0, 0)

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
    """The sites of a program and their accesses, in order.

    A site is an instruction of the text, or a stage of one that several cores meet in. `kind`,
    `group` and `queue` have an entry for each site, `first` one more: the accesses of site i are
    numbers `first[i]` to `first[i + 1]` - 1. Only accesses whose tensor needs order are kept: not
    those of tensors that are only read from HBM. `tensor`, `space`, `reads`, `writes` and `place`
    have an entry for each access. `cells` has one for each place: an access that moves with loop
    counters (by `steps`, in bytes) has a place for each of their values, `strides` apart.

    The program is run `repetitions` times by the core `here`, one of `cores` of its rank.
    """

    def __init__(
        self,
        program: Program,
        repetitions: int = 1,
        *,
        here: CoreId = _FIRST_CORE,
        cores: int = 1,
    ) -> None:
        self.program, self.here = program, here
        self.steps: dict[int, dict[LoopIndex, int]] = {}
        self.strides: dict[int, Terms] = {}
        self.awaits: dict[int, list[Partner]] = {}  # of a site: what else it waits for
        self.further: list[Sites] = []  # those of the rank's other cores, the next one first
        self.kinds = kinds = Kinds(program.forms, here, cores)
        blocks = [block for block, _ in program.leaves()]
        form = _joined([block.form for block in blocks])
        stages = np.diff(kinds.first)[form]
        row = np.repeat(np.arange(len(form)), stages)
        self._ends = np.cumsum(stages)  # sites up to the last of each row
        self.kind = kinds.first[form][row] + np.arange(len(row)) - (self._ends - stages)[row]
        self.group = _joined([block.group for block in blocks])[row]
        counts = np.diff(kinds.slots)[self.kind]
        site = np.repeat(np.arange(len(row)), counts)
        within = np.arange(len(site)) - (np.cumsum(counts) - counts)[site]
        operand = (_firsts(blocks)[row])[site] + within
        tensor = _joined([block.tensor for block in blocks])[operand]
        operands = Operands(site, kinds.slots[self.kind][site] + within, tensor)
        self.queue, self.queue_names = assign(
            program.core, kinds, self.kind, operands, program.tensors
        )
        self._keep(blocks, operands, operand)
        self._rows = 0
        body = self._body(program.body)
        if repetitions > 1:
            body = [self._loop(LoopIndex("repetition", repetitions), body)]
        self.body = body

    def __len__(self) -> int:
        return len(self.kind)

    def label(self, site: int) -> str:
        """Return the name of a site's instruction."""
        label: str = self.kinds.all[self.kind[site]].label
        return label

    def of_row(self, row: int) -> range:
        """Return the sites of a row of the program's text."""
        return range(int(self._ends[row - 1]) if row else 0, int(self._ends[row]))

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

    def _keep(self, blocks: list[Block], operands: Operands, operand: Column) -> None:
        """Keep the accesses that need order, and work out their cells."""
        kinds, slot, tensor = self.kinds, operands.slot, operands.tensor
        tracked = np.array([t.buffer.is_on_chip for t in self.program.tensors], np.bool_)
        tracked[tensor[kinds.writes[slot]]] = True
        kept = tracked[tensor] & (kinds.reads | kinds.writes)[slot]
        counts = np.bincount(operands.site[kept], minlength=len(self))
        self.first = np.concatenate([[0], np.cumsum(counts)])
        slot, self.tensor, operand = slot[kept], tensor[kept], operand[kept]
        self.reads, self.writes = kinds.reads[slot], kinds.writes[slot]
        offset = _joined([block.offset for block in blocks])[operand] * kinds.size[slot]
        terms = {
            access: tuple((index, c * int(kinds.size[slot[access]])) for index, c in found)
            for access, found in _terms(blocks, operand)
        }
        shapes, number = self._footprints(slot)
        self._cut(shapes, number, offset, terms)

    def _footprints(self, slot: Column) -> tuple[list[Footprint], Column]:
        """Return the distinct footprints of accesses, and the number of each access's own."""
        sizes: dict[tuple[int, int], int] = {}
        tensors = self.program.tensors
        size = [sizes.setdefault((pitch_of(t), rows_of(t)), len(sizes)) for t in tensors]
        keys = slot * len(sizes) + np.array(size, np.int64)[self.tensor]
        known = np.zeros(len(self.kinds.fields) * len(sizes), np.int64)
        known[keys] = 1
        used = np.flatnonzero(known)
        known[used] = np.arange(len(used))
        by_size = list(sizes)
        found = [
            footprint(self.kinds.fields[key // len(sizes)].pattern, *by_size[key % len(sizes)])
            for key in used.tolist()
        ]
        return found, known[keys]

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
                first = self.of_row(self._rows).start
                self._rows += len(part)
                run = Run(first, self.of_row(self._rows - 1).stop)
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


def _joined(columns: Sequence[object]) -> Column:
    """Return columns of blocks as one."""
    parts = [np.asarray(column).astype(np.int64) for column in columns]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _firsts(blocks: list[Block]) -> Column:
    """Return the number of each row's first operand, those of all blocks counted."""
    starts = np.cumsum([0, *(len(block.tensor) for block in blocks)]).tolist()
    return _joined(
        [np.asarray(block.first) + start for block, start in zip(blocks, starts, strict=False)]
    )


def _terms(blocks: list[Block], operand: Column) -> list[tuple[int, Terms]]:
    """Return the accesses that loops move, with their terms (in elements); given their operands."""
    slopes: dict[int, Terms] = {}
    start = 0
    for block in blocks:
        slopes.update((start + k, terms) for k, terms in block.slopes.items())
        start += len(block.tensor)
    if not slopes:
        return []
    return [(a, slopes[k]) for a, k in enumerate(operand.tolist()) if k in slopes]

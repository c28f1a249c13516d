"""The instructions of a program where they stand: their queue and what they touch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from emuron.isa.affine import LoopIndex
from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import Tensor
from emuron.sim.dma import RingChooser, ring_use
from emuron.sim.footprints import Cells, Footprint, Rectangle, footprint

Terms = tuple[tuple[LoopIndex, int], ...]

# Offsets that a loop nest may give one operand before its tensor counts as touched anywhere.
_MOST_OFFSETS = 1 << 18


@dataclass(slots=True, eq=False)
class Access:
    """One operand of a site: a tensor, where in it (bytes), and whether it reads and writes."""

    tensor: int
    offset: int
    terms: Terms
    shape: Footprint
    reads: bool
    writes: bool

    def rectangle(self, counters: dict[LoopIndex, int]) -> Rectangle:
        """Return what is touched at the given loop counters."""
        offset = self.offset
        for index, coefficient in self.terms:
            offset += coefficient * counters[index]
        return self.shape.at(offset)

    def rectangles(self) -> Iterator[Rectangle]:
        """Yield all that is touched, over all iterations."""
        steps = [[c * i for i in range(index.trip)] for index, c in self.terms]
        for shifts in product(*steps):
            yield self.shape.at(self.offset + sum(shifts))


@dataclass(slots=True, eq=False)
class Site:
    """An instruction of the program text: its number there, form, group, queue and accesses."""

    number: int
    form: Form
    group: int
    queue: int
    accesses: tuple[Access, ...]


@dataclass(slots=True, eq=False)
class SiteLoop:
    """A loop of the program text; `issues` counts its instructions per iteration and queue."""

    index: LoopIndex
    body: list[Site | SiteLoop]
    issues: dict[int, int]
    sites: int


class Sites:
    """The sites of a program, in the order and the loops of its text."""

    def __init__(self, program: Program, repetitions: int = 1) -> None:
        self.program = program
        # DMA rings follow the engines, each from its first transfer on.
        self.queue_names = [engine.name for engine in program.core.engines]
        self.all: list[Site] = []
        self._rings = RingChooser(program.core.dma)
        self._shapes: dict[tuple[int, int, Tensor], Footprint] = {}
        body = self._body(program.body)
        if repetitions > 1:
            body = [self._loop(LoopIndex("repetition", repetitions), body)]
        self.body = body
        self.tracked = self._tracked()
        self.cells: dict[int, Cells] = self._cut()

    @property
    def cell_count(self) -> int:
        """Number of cells of all tensors."""
        return sum(len(cells) for cells in self.cells.values())

    def is_ring(self, queue: int) -> bool:
        """Whether a queue is a DMA ring."""
        return self.queue_names[queue].startswith("dma-")

    def _body(self, parts: list[Block | Loop]) -> list[Site | SiteLoop]:
        found: list[Site | SiteLoop] = []
        for part in parts:
            if isinstance(part, Loop):
                found.append(self._loop(part.index, self._body(part.body)))
            else:
                found.extend(self._site(part, row) for row in range(len(part)))
        return found

    def _loop(self, index: LoopIndex, body: list[Site | SiteLoop]) -> SiteLoop:
        issues: dict[int, int] = {}
        sites = 0
        for part in body:
            if isinstance(part, Site):
                issues[part.queue] = issues.get(part.queue, 0) + 1
                sites += 1
                continue
            sites += part.sites * part.index.trip
            for queue, count in part.issues.items():
                issues[queue] = issues.get(queue, 0) + count * part.index.trip
        return SiteLoop(index, body, issues, sites)

    def _site(self, block: Block, row: int) -> Site:
        program = self.program
        form = program.forms[block.form[row]]
        accesses = []
        roles: dict[str, str] = {}
        for k, (name, kind) in enumerate(form.operand_fields, start=block.first[row]):
            number = block.tensor[k]
            tensor = program.tensors[number]
            roles[name] = tensor.role
            size, shape = self._shape(form, k - block.first[row], name, tensor)
            terms = tuple((i, c * size) for i, c in block.slopes.get(k, ()))
            reads, writes = kind in READ_KINDS, kind in WRITE_KINDS
            accesses.append(Access(number, block.offset[k] * size, terms, shape, reads, writes))
        queue = form.engine
        if form.cost.dma is not None:
            queue = self._rings.choose(ring_use(form, roles))
        if queue not in self.queue_names:
            self.queue_names.append(queue)
        number = self.queue_names.index(queue)
        site = Site(len(self.all), form, block.group[row], number, tuple(accesses))
        self.all.append(site)
        return site

    def _shape(self, form: Form, operand: int, name: str, tensor: Tensor) -> tuple[int, Footprint]:
        owner, _, part = name.partition(".")
        like = getattr(form.example, owner)
        pattern = like.indirection.index if part else like
        key = (form.id, operand, tensor)
        if key not in self._shapes:
            self._shapes[key] = footprint(pattern, tensor)
        return pattern.dtype.itemsize, self._shapes[key]

    def _tracked(self) -> set[int]:
        """Return the tensors whose accesses need order: not those that are only read from HBM."""
        tensors = self.program.tensors
        found = {n for n, tensor in enumerate(tensors) if tensor.buffer.is_on_chip}
        for site in self.all:
            found.update(a.tensor for a in site.accesses if a.writes)
        return found

    def _cut(self) -> dict[int, Cells]:
        rectangles: dict[int, set[Rectangle]] = {}
        for site in self.all:
            for access in site.accesses:
                if access.tensor not in self.tracked:
                    continue
                count = 1
                for index, _ in access.terms:
                    count *= index.trip
                if count > _MOST_OFFSETS:
                    whole = (0, access.shape.all_rows, 0, access.shape.pitch)
                    rectangles.setdefault(access.tensor, set()).add(whole)
                    access.shape = Footprint(access.shape.pitch, 0, 0, 0, True, whole[1])
                else:
                    rectangles.setdefault(access.tensor, set()).update(access.rectangles())
        cells: dict[int, Cells] = {}
        first = 0
        for tensor, found in rectangles.items():
            cells[tensor] = Cells(first, found)
            first += len(cells[tensor])
        return cells

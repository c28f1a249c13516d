"""Reorders the straight runs of a program, so that engines find work while others compute.

A kernel's instructions come one after another, and an engine takes its own in order: the layer norm
of the first rows would wait for the product of the last. List scheduling: whenever an engine is
free, it takes the earliest instruction of the text whose operands are there, within a window that
bounds what memory holds more than the text as it was written.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, deque
from dataclasses import dataclass, field

from emuron.compiler.passes.hazards import hazards
from emuron.hardware.chip import NeuronCore
from emuron.isa.instruction import Form
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import MemoryRegion
from emuron.sim.dma import transfer

_LOADS, _STORES = "loads", "stores"
_WINDOW = 64  # rows of the text by which an instruction may overtake the first that is left
_SPARE_BANKS = 4  # of PSUM, left to an engine's oldest instruction by those that overtake it
_MOST_ROWS = 40_000  # of a run; longer ones stay as they are


def interleave(program: Program) -> Program:
    """Return the program with each straight run in the order in which engines would start it.

    Every instruction still follows those that touched its bytes before, so that results are the
    same. Programs with orders of their own, such as collectives, stay as they are.
    """
    if program.orders or any(form.cost.collective is not None for form in program.forms):
        return program
    made = Program(program.name, program.core)
    made.table, made.tensors, made.groups = program.table, program.tensors, program.groups
    made.tensor_numbers = program.tensor_numbers
    made.labels, made.files = program.labels, program.files
    made.body = _Body(program).reordered(program.body)
    return made.freeze()


class _Body:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.works = [_work(form, program.core) for form in program.forms]
        self.accesses: Counter[int] = Counter()
        for block, _ in program.leaves():
            self.accesses.update(block.tensor)

    def reordered(self, body: list[Block | Loop]) -> list[Block | Loop]:
        made: list[Block | Loop] = []
        for part in body:
            if isinstance(part, Loop):
                made.append(Loop(part.index, self.reordered(part.body)))
            else:
                made.append(self._block(part))
        return made

    def _block(self, block: Block) -> Block:
        if not 2 < len(block) <= _MOST_ROWS:
            return block
        order = _List(self, block).run()
        return block if order is None else _permuted(self.program, block, order)


@dataclass(frozen=True, slots=True)
class _Work:
    """What an instruction of a form takes: its queue, busy until, and when its result is there."""

    queue: str
    busy_ps: int
    latency_ps: int


def _work(form: Form, core: NeuronCore) -> _Work:
    if form.cost.dma is not None:
        moved = transfer(form.cost.dma, core.dma)
        outputs = [getattr(form.example, n) for n, kind in form.operand_fields if "Out" in kind]
        loads = bool(outputs) and outputs[0].buffer.is_on_chip
        return _Work(_LOADS if loads else _STORES, moved.work_ps, moved.before_ps + moved.after_ps)
    engine = core.engine(form.engine)
    wait_ns = core.timing.latency_ns(form.engine) + core.timing.semaphore_ns
    extra_ps = engine.ps(form.cost.extra_latency_cycles)
    return _Work(form.engine, engine.ps(form.cost.cycles), round(wait_ns * 1000) + extra_ps)


def _permuted(program: Program, block: Block, order: list[int]) -> Block:
    made = Block()
    for row in order:
        form = block.form[row]
        first, count = block.first[row], len(program.forms[form].operand_fields)
        start = len(made.tensor)
        made.form.append(form)
        made.group.append(block.group[row])
        made.first.append(start)
        made.tensor.extend(block.tensor[first : first + count])
        made.offset.extend(block.offset[first : first + count])
        for k in range(count):
            if first + k in block.slopes:
                made.slopes[start + k] = block.slopes[first + k]
    return made


@dataclass(slots=True)
class _Queue:
    """An engine: when it is free, what is left for it, and what has all it waits for."""

    free_ps: int = 0
    rows: deque[int] = field(default_factory=deque)  # by the text, some started
    fed: list[int] = field(default_factory=list)  # rows whose operands are under way, by the text


class _List:
    """List scheduling of one block."""

    def __init__(self, body: _Body, block: Block) -> None:
        self.works = [body.works[form] for form in block.form]
        after = hazards(body.program, block)
        self.left = [len(needed) for needed in after]
        self.followers: list[list[int]] = [[] for _ in after]
        for row, needed in enumerate(after):
            for earlier in needed:
                self.followers[earlier].append(row)
        self.there_ps = [0] * len(after)
        self.started = [False] * len(after)
        self.first = 0  # row of the text that is left
        self.banks = _Banks(body, block)
        self.queues: dict[str, _Queue] = {work.queue: _Queue() for work in self.works}
        for row, work in enumerate(self.works):
            self.queues[work.queue].rows.append(row)
            if not self.left[row]:
                self.queues[work.queue].fed.append(row)

    def run(self) -> list[int] | None:
        """Return the rows in the order in which they start; None if PSUM leaves no way on."""
        order: list[int] = []
        while len(order) < len(self.left):
            while self.started[self.first]:
                self.first += 1
            found = [c for q in self.queues.values() if (c := self._candidate(q)) is not None]
            if not found:
                return None
            start_ps, row = min(found)
            self._start(row, start_ps)
            order.append(row)
        return order

    def _candidate(self, queue: _Queue) -> tuple[int, int] | None:
        """Return when an engine could start which instruction: the first in the text by then."""
        while queue.rows and self.started[queue.rows[0]]:
            queue.rows.popleft()
        now_ps = queue.free_ps
        while True:
            later = []
            for row in queue.fed:
                if row > self.first + _WINDOW:
                    break
                there_ps = self.there_ps[row]
                if there_ps > now_ps:
                    later.append(there_ps)
                    continue
                room_ps = self.banks.room_ps(row, now_ps, row == queue.rows[0])
                if room_ps is not None:
                    return room_ps, row
            if not later:
                return None
            now_ps = min(later)

    def _start(self, row: int, start_ps: int) -> None:
        work = self.works[row]
        queue, done_ps = self.queues[work.queue], start_ps + work.busy_ps
        queue.free_ps = done_ps
        queue.fed.remove(row)
        self.started[row] = True
        self.banks.take(row, start_ps, done_ps)
        for follower in self.followers[row]:
            other = self.works[follower]
            # An engine's own results are there for it sooner than those of others.
            there_ps = done_ps + (work.latency_ps if other.queue != work.queue else 0)
            self.there_ps[follower] = max(self.there_ps[follower], there_ps)
            self.left[follower] -= 1
            if not self.left[follower]:
                insort(self.queues[other.queue].fed, follower)


class _Banks:
    """The banks of PSUM: opened by the first instruction that touches a tensor, freed by the last.

    Tensors that other blocks touch too do not count.
    """

    def __init__(self, body: _Body, block: Block) -> None:
        program = body.program
        self.free = program.core.psum_banks
        self.leaving: list[tuple[int, int]] = []  # (time, banks), by time
        self.left = Counter(block.tensor)
        self.open: set[int] = set()
        self.banks: dict[int, int] = {}
        for number, count in self.left.items():
            tensor = program.tensors[number]
            if tensor.buffer is MemoryRegion.psum and count == body.accesses[number]:
                self.banks[number] = -(-tensor.partition_bytes // program.core.psum_bank_bytes)
        self.rows: list[tuple[int, ...]] = []
        for row in range(len(block)):
            first = block.first[row]
            count = len(program.forms[block.form[row]].operand_fields)
            touched = block.tensor[first : first + count]
            self.rows.append(tuple(n for n in touched if n in self.banks))

    def room_ps(self, row: int, start_ps: int, oldest: bool) -> int | None:
        """Return when there is room for what an instruction opens; None if it is not known yet.

        Unless it is the oldest of its engine some banks stay free.
        """
        needed = sum(self.banks[number] for number in {*self.rows[row]} - self.open)
        if not needed:
            return start_ps
        needed += 0 if oldest else _SPARE_BANKS
        free = self.free
        for time_ps, banks in self.leaving:
            if free >= needed:
                break
            free += banks
            start_ps = max(start_ps, time_ps)
        return start_ps if free >= needed else None

    def take(self, row: int, start_ps: int, done_ps: int) -> None:
        """Open what an instruction touches first, and let go of what it touches last."""
        while self.leaving and self.leaving[0][0] <= start_ps:
            self.free += self.leaving.pop(0)[1]
        for number in self.rows[row]:
            if number not in self.open:
                self.open.add(number)
                self.free -= self.banks[number]
            self.left[number] -= 1
            if not self.left[number]:
                insort(self.leaving, (done_ps, self.banks[number]))

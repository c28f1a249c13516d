"""From a scheduled program to the code of one core's queues: rows, waits and loops as columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emuron.hardware.chip import NeuronCore
from emuron.isa.instruction import CollectiveCost
from emuron.sim import timing_layout as at
from emuron.sim.dependencies import Node, Repeated, Steps
from emuron.sim.dma import transfer
from emuron.sim.footprints import Column
from emuron.sim.kinds import Kind
from emuron.sim.partners import OTHER_CORE
from emuron.sim.redundancy import redundant_rows
from emuron.sim.sites import Sites
from emuron.sim.tracking_kernel import WAIT, WAIT_POSITION, WAIT_QUEUE


def _idle_row() -> Column:
    row = np.zeros(at.ROW, np.int64)
    row[at.KIND], row[at.TABLE_NEEDED] = at.PLAIN, -1
    return row


_NO_WORK = _idle_row()
"""The row of what takes no time."""


@dataclass(slots=True, eq=False)
class QueueCode:
    """The rows, waits and loops of one queue; pointers count from its own start.

    `levels` has the slopes of the waits that are in loops, by the number of the wait. Waits name
    queues by their number in their core.
    """

    rows: list[Column] = field(default_factory=list)
    waits: list[Column] = field(default_factory=list)
    levels: dict[int, tuple[int, ...]] = field(default_factory=dict)
    loops: list[list[int]] = field(default_factory=list)
    open: list[int] = field(default_factory=list)  # numbers of the enclosing loops
    rows_size: int = 0
    waits_size: int = 0
    issued: int = 0

    def add(self, rows: Column, waits: Column, slopes: list[tuple[int, ...]]) -> None:
        """Append rows with their waits; pointers in `rows` count from the first of `waits`."""
        rows[:, at.WAIT_END] += self.waits_size
        first = self.waits_size // at.WAIT
        self.levels.update(enumerate(slopes, start=first))
        self.rows.append(rows)
        self.waits.append(waits)
        self.rows_size += rows.size
        self.waits_size += waits.size
        self.issued += len(rows)

    def does_the_same(self, other: QueueCode) -> bool:
        """Return whether two queues have equal code."""
        if self.levels != other.levels or self.loops != other.loops:
            return False
        own, others = [*self.rows, *self.waits], [*other.rows, *other.waits]
        return len(own) == len(others) and all(map(np.array_equal, own, others))

    def add_back_edge(self, loop: int) -> None:
        """Append the back edge of a loop."""
        row = np.zeros((1, at.ROW), np.int64)
        row[0, at.KIND], row[0, at.LOOP] = at.BACK_EDGE, loop
        self.rows.append(row)
        self.rows_size += at.ROW


class CoreCode:
    """The code of all queues of a core, and its loops; `search` says where to look for repeats.

    `collective_ps` tells how long collectives take.
    """

    def __init__(
        self,
        sites: Sites,
        nodes: list[Node],
        collective_ps: Callable[[CollectiveCost], int],
        *,
        search: bool,
    ) -> None:
        self.sites = sites
        self.queues = [QueueCode() for _ in sites.queue_names]
        self.nests: list[list[int]] = []
        self._search = search
        core = sites.program.core
        self._semaphore_ps = round(core.timing.semaphore_ns * 1000)
        self._is_ring = _rings([sites, *sites.further])
        self._own_delay_ps = np.array([_own_delay_ps(core, q) for q in sites.queue_names], np.int64)
        self._is_redundant = np.zeros(len(sites), np.bool_)
        for row in redundant_rows(sites.program):
            self._is_redundant[sites.of_row(row)] = True
        tables: dict[str, int] = {}
        rows = [_row(kind, core, tables, collective_ps) for kind in sites.kinds.all]
        self._row_of_kind = np.array(rows, np.int64).reshape(-1, at.ROW)
        self._build(nodes)

    def does_the_same(self, other: CoreCode) -> bool:
        """Return whether another core's code is equal, so that both take equal times."""
        if self is other:
            return True
        if len(self.queues) != len(other.queues) or self.nests != other.nests:
            return False
        pairs = zip(self.queues, other.queues, strict=True)
        return self.sites.queue_names == other.sites.queue_names and all(
            one.does_the_same(two) for one, two in pairs
        )

    def _build(self, nodes: list[Node]) -> None:
        for node in nodes:
            if isinstance(node, Steps):
                self._steps(node)
            else:
                self._repeated(node)

    def _steps(self, steps: Steps) -> None:
        """Add a run, its rows and waits sorted by queue."""
        run, sites = steps.run, self.sites
        queue = sites.queue[run.first : run.last]
        rows = self._row_of_kind[sites.kind[run.first : run.last]]
        rows[self._is_redundant[run.first : run.last]] = _NO_WORK
        rows[:, at.LABEL] = np.arange(run.first, run.last)
        ends = np.asarray(steps.ends, np.int64)
        counts = np.diff(ends, prepend=0)
        order = np.argsort(queue, kind="stable")
        owner = np.repeat(queue, counts)
        wait_order = np.argsort(owner, kind="stable")
        waits = self._waits(steps, owner)[wait_order]
        rows, counts = rows[order], counts[order]
        found, starts = np.unique(queue[order], return_index=True)
        wait_starts = np.searchsorted(owner[wait_order], found)
        for number, q in enumerate(found.tolist()):
            own = slice(starts[number], _next(starts, number, len(rows)))
            own_waits = slice(wait_starts[number], _next(wait_starts, number, len(waits)))
            part = rows[own]
            part[:, at.WAIT_END] = np.cumsum(counts[own]) * at.WAIT
            slopes = []
            if steps.slopes is not None:
                slopes = [steps.slopes[i] for i in wait_order[own_waits].tolist()]
            self.queues[q].add(part, waits[own_waits], slopes)

    def _waits(self, steps: Steps, owner: Column) -> Column:
        found = np.asarray(steps.waits, np.int64).reshape(-1, WAIT)
        waits = np.zeros((len(found), at.WAIT), np.int64)
        other = waits[:, at.WAIT_QUEUE] = found[:, WAIT_QUEUE]
        waits[:, at.POSITION] = found[:, WAIT_POSITION]
        if steps.slopes is not None:
            waits[:, at.STEP] = [levels[-1] for levels in steps.slopes]
        is_ring = self._is_ring[np.divmod(other, OTHER_CORE)]
        delay = np.where(is_ring, 0, self._semaphore_ps)
        waits[:, at.DELAY] = np.where(other == owner, self._own_delay_ps[owner], delay)
        return waits

    def _repeated(self, node: Repeated) -> None:
        nest = len(self.nests)
        queues = self._queues_of(node)
        starts = {q: self.queues[q].issued for q in queues}
        for queue in queues:
            code = self.queues[queue]
            parent = code.open[-1] if code.open else -1
            record = [node.trip, 0, code.rows_size, 0, code.waits_size, 0, 0, parent, nest, 0]
            code.open.append(len(code.loops))
            code.loops.append(record)
        self.nests.append([])
        self._build(node.body)
        for queue in queues:
            code = self.queues[queue]
            number = code.open.pop()
            record = code.loops[number]
            record[at.BODY_END] = code.rows_size
            record[at.WAITS_TO] = code.waits_size
            record[at.ISSUES] = code.issued - starts[queue]
            code.add_back_edge(number)
            code.issued += record[at.ISSUES] * (node.trip - 1)
        leader = max(queues, key=lambda q: (self.queues[q].issued - starts[q], -q))
        searching = int(self._search and node.trip > 2)
        self.nests[nest] = [leader, searching, 0, 0, 0, 0, 0, 0]

    def _queues_of(self, node: Repeated) -> list[int]:
        found: set[int] = set()
        for inner in node.body:
            if isinstance(inner, Repeated):
                found.update(self._queues_of(inner))
            else:
                queue = self.sites.queue[inner.run.first : inner.run.last]
                found.update(np.unique(queue).tolist())
        return sorted(found)


def _next(starts: Column, number: int, end: int) -> int:
    return int(starts[number + 1]) if number + 1 < len(starts) else end


def _rings(cores: list[Sites]) -> npt.NDArray[np.bool_]:
    """Return whether a queue is a DMA ring, at [core, queue]; cores may differ in their queues."""
    found = np.zeros((len(cores), max(len(sites.queue_names) for sites in cores)), np.bool_)
    for number, sites in enumerate(cores):
        found[number, : len(sites.queue_names)] = [
            sites.is_ring(queue) for queue in range(len(sites.queue_names))
        ]
    return found


def _own_delay_ps(core: NeuronCore, queue: str) -> int:
    """Return what an instruction waits less for its own queue's results than others do."""
    engine = next((engine for engine in core.engines if engine.name == queue), None)
    if engine is None:
        return 0
    latency_ps = round(core.timing.latency_ns(queue) * 1000)
    return min(0, engine.ps(core.timing.dependent_overhead_cycles) - latency_ps)


def _row(
    kind: Kind,
    core: NeuronCore,
    tables: dict[str, int],
    collective_ps: Callable[[CollectiveCost], int],
) -> list[int]:
    """Return the row of a kind, but for its waits and label; `tables` numbers its table."""
    row: list[int] = _NO_WORK.tolist()
    form, timing = kind.form, core.timing
    cost = form.cost
    if not kind.takes_time:
        return row
    if cost.dma is not None:
        moved = transfer(cost.dma, core.dma)
        row[at.KIND] = at.TRANSFER
        row[at.BUSY_PS], row[at.LATENCY_PS] = moved.issue_ps, moved.after_ps
        row[at.SETUP_PS], row[at.TABLE_NEEDED] = moved.work_ps, moved.largest_share
        row[at.HBM_RATE], row[at.BEFORE_PS] = moved.hbm_rate, moved.before_ps
        return row
    if cost.collective is not None:
        row[at.KIND], row[at.BUSY_PS] = at.PLAIN, collective_ps(cost.collective)
        row[at.TABLE_NEEDED] = -1
        return row
    engine = core.engine(form.engine)
    latency = round(timing.latency_ns(form.engine) * 1000)
    row[at.BUSY_PS] = engine.ps(cost.cycles)
    row[at.LATENCY_PS] = latency + engine.ps(cost.extra_latency_cycles)
    row[at.SETUP_PS] = engine.ps(cost.setup_cycles)
    row[at.TABLE_NEEDED] = -1
    if cost.table is not None:
        row[at.TABLE_NEEDED] = tables.setdefault(cost.table, len(tables))
    row[at.THROTTLED] = int(form.engine == "tensor" and timing.throttle is not None)
    plain = row[at.SETUP_PS] == 0 and row[at.TABLE_NEEDED] < 0 and not row[at.THROTTLED]
    row[at.KIND] = at.PLAIN if plain else at.SPECIAL
    return row

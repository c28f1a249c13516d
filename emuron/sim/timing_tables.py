"""From a scheduled program to the flat tables of the timing engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from emuron.hardware.chip import NeuronCore
from emuron.isa.instruction import Form
from emuron.sim import timing_layout as at
from emuron.sim.dependencies import Node, Repeated, Step
from emuron.sim.dma import transfer
from emuron.sim.sites import Sites


@dataclass(slots=True, eq=False)
class _QueueCode:
    """The rows, waits and loops of one queue; pointers count from its own start until placed."""

    rows: list[int] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)
    levels: list[tuple[int, ...]] = field(default_factory=list)  # slopes of each wait
    loops: list[list[int]] = field(default_factory=list)
    open: list[int] = field(default_factory=list)  # numbers of the enclosing loops
    issued: int = 0


class _Builder:
    def __init__(self, sites: Sites, core: NeuronCore, search: bool) -> None:
        self._core = core
        self._sites = sites
        self._search = search
        self._codes = [_QueueCode() for _ in sites.queue_names]
        self._columns: dict[tuple[int, int], tuple[int, ...]] = {}
        self._tables: dict[str, int] = {}
        self._nests: list[list[int]] = []

    def build(self, nodes: list[Node]) -> None:
        for node in nodes:
            if isinstance(node, Step):
                self._step(node)
            else:
                self._repeated(node)

    def _step(self, step: Step) -> None:
        site = step.site
        code = self._codes[site.queue]
        ring = self._sites.is_ring(site.queue)
        semaphore = round(self._core.timing.semaphore_ns * 1000)
        for queue, position, slopes in step.waits:
            own = queue == site.queue or self._sites.is_ring(queue)
            last = slopes[-1] if slopes else 0
            code.waits.extend((queue * at.QUEUE, position, last, 0 if own else semaphore))
            code.levels.append(slopes)
        key = (site.form.id, site.queue)
        if key not in self._columns:
            form = site.form
            self._columns[key] = self._ring_row(form) if ring else self._engine_row(form)
        kind, busy, latency, *rest = self._columns[key]
        code.rows.extend((kind, busy, latency, len(code.waits), *rest, site.number))
        code.issued += 1

    def _ring_row(self, form: Form) -> tuple[int, ...]:
        assert form.cost.dma is not None
        cost = transfer(form.cost.dma, self._core.dma)
        return (
            at.TRANSFER,
            cost.issue_ps,
            cost.after_ps,
            cost.work_ps,
            cost.largest_share,
            cost.hbm_rate,
            cost.before_ps,
        )

    def _engine_row(self, form: Form) -> tuple[int, ...]:
        engine, timing, cost = self._core.engine(form.engine), self._core.timing, form.cost
        latency = round(timing.latency_ns(form.engine) * 1000)
        latency += engine.ps(cost.extra_latency_cycles)
        setup = engine.ps(cost.setup_cycles)
        table = -1 if cost.table is None else self._tables.setdefault(cost.table, len(self._tables))
        throttled = int(form.engine == "tensor" and timing.throttle is not None)
        special = setup > 0 or table >= 0 or throttled == 1
        kind = at.SPECIAL if special else at.PLAIN
        return kind, engine.ps(cost.cycles), latency, setup, table, 0, throttled

    def _repeated(self, node: Repeated) -> None:
        nest = len(self._nests)
        queues = _queues_of(node)
        starts = {q: self._codes[q].issued for q in queues}
        for queue in queues:
            code = self._codes[queue]
            parent = code.open[-1] if code.open else -1
            record = [node.trip, 0, len(code.rows), 0, len(code.waits), 0, 0, parent, nest, 0]
            code.open.append(len(code.loops))
            code.loops.append(record)
        self._nests.append([])
        self.build(node.body)
        for queue in queues:
            code = self._codes[queue]
            number = code.open.pop()
            record = code.loops[number]
            record[at.BODY_END] = len(code.rows)
            record[at.WAITS_TO] = len(code.waits)
            record[at.ISSUES] = code.issued - starts[queue]
            back_edge = [at.BACK_EDGE, number, *[0] * (at.ROW - 2)]
            code.rows.extend(back_edge)
            code.issued += record[at.ISSUES] * (node.trip - 1)
        leader = max(queues, key=lambda q: (self._codes[q].issued - starts[q], -q))
        searching = int(self._search and node.trip > 2)
        self._nests[nest] = [leader * at.QUEUE, searching, 0, -1, 0, 0, node.trip]

    def tables(self, core_hbm: int, history: int) -> at.Tables:
        """Return the tables, with room for `history` instructions of each queue."""
        rows: list[int] = []
        waits: list[int] = []
        slopes: list[int] = []
        loops: list[int] = []
        queues: list[int] = []
        projections = [-1] * (len(self._nests) * len(self._codes))
        for number, code in enumerate(self._codes):
            queue = _queue_record(number, len(rows), len(code.rows), len(waits), history)
            queue[at.IS_DMA] = int(self._sites.is_ring(number))
            queues.extend(queue)
            first_loop = len(loops)
            _relocate_rows(code.rows, first_loop, len(waits))
            for depth, record in _with_depth(code.loops):
                projections[record[at.NEST] * len(self._codes) + number] = len(loops)
                first, last = (record[k] // at.WAIT for k in (at.WAITS_FROM, at.WAITS_TO))
                loops.extend(_relocated(record, first_loop, len(rows), len(waits), len(slopes)))
                slopes.extend(levels[depth] for levels in code.levels[first:last])
            rows.extend(code.rows)
            waits.extend(code.waits)
        size = history * len(self._codes)
        return at.Tables(
            queues=queues,
            rows=rows,
            waits=waits,
            slopes=slopes,
            loops=loops,
            nests=[value for record in self._nests for value in record],
            projections=projections,
            clock=self._clock(core_hbm),
            done=[0] * size,
            row_of=[0] * size,
            start=[0] * size,
            end=[0] * size,
            segments=[],
            repeats=[],
            states=[],
            scratch=[0] * (at.STATE_PER_QUEUE * len(self._codes)),
            stack=[0] * (len(self._codes) + 1),
        )

    def _clock(self, hbm_share: int) -> list[int]:
        timing = self._core.timing
        clock = [0] * at.CLOCK
        clock[at.HBM_SHARE] = hbm_share
        clock[at.TABLE_LOAD] = round(timing.act_table_load_ns * 1000)
        clock[at.DEPTH] = timing.queue_depth
        clock[at.STATE_SIZE] = at.STATE_PER_QUEUE * len(self._codes)
        throttle = timing.throttle
        if throttle is not None:
            clock[at.RAMP] = round(throttle.ramp_us * 1_000_000)
            clock[at.FLOOR] = round(throttle.initial_utilisation * at.ONE)
            # At the utilisation that re-arms the limit, work and idle time cancel out.
            rearm = throttle.rearm_below_utilisation
            clock[at.IDLE_WEIGHT] = round(rearm / (1 - rearm) * at.ONE)
        return clock


def build_tables(
    sites: Sites, nodes: list[Node], hbm_share: int, *, search: bool, history: int
) -> at.Tables:
    """Return the engine's tables; `hbm_share` is in bytes/ps << FRACTION."""
    builder = _Builder(sites, sites.program.core, search)
    builder.build(nodes)
    return builder.tables(hbm_share, history)


def _queue_record(number: int, rows: int, length: int, waits: int, history: int) -> list[int]:
    record = [0] * at.QUEUE
    record[at.PC] = rows
    record[at.END] = rows + length
    record[at.HISTORY] = record[at.FIRST] = number * history
    record[at.HISTORY_END] = (number + 1) * history
    record[at.NEXT_WAIT] = waits
    record[at.TABLE] = -1
    record[at.SEGMENTS] = -1
    record[at.NUMBER] = number
    return record


def _queues_of(node: Repeated) -> list[int]:
    found: set[int] = set()
    for inner in node.body:
        found.update(_queues_of(inner) if isinstance(inner, Repeated) else [inner.site.queue])
    return sorted(found)


def _relocate_rows(rows: list[int], first_loop: int, waits: int) -> None:
    """Let a queue's rows name their loops and waits by place in the common tables."""
    for row in range(0, len(rows), at.ROW):
        if rows[row] == at.BACK_EDGE:
            rows[row + at.LOOP] = first_loop + rows[row + at.LOOP] * at.LOOP_RECORD
        else:
            rows[row + at.WAIT_END] += waits


def _relocated(
    record: list[int], first_loop: int, rows: int, waits: int, slopes: int
) -> tuple[int, ...]:
    """Return a queue's loop record as it stands in the common tables."""
    parent = record[at.PARENT]
    return (
        record[at.TRIP],
        0,
        record[at.BODY] + rows,
        record[at.BODY_END] + rows,
        record[at.WAITS_FROM] + waits,
        record[at.WAITS_TO] + waits,
        slopes,
        -1 if parent < 0 else first_loop + parent * at.LOOP_RECORD,
        record[at.NEST] * at.NEST_RECORD,
        record[at.ISSUES],
    )


def _with_depth(loops: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
    """Yield loop records with the number of loops around each."""
    depths: list[int] = []
    for record in loops:
        parent = record[at.PARENT]
        depths.append(0 if parent < 0 else depths[parent] + 1)
        yield depths[-1], record

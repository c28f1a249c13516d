"""From a scheduled program to the flat tables of the timing engine."""

from __future__ import annotations

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
            code.waits.extend((queue, position, last, 0 if own else semaphore))
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
        self._nests[nest] = [leader, searching, 0, 0, 0, 0, 0, 0]

    def tables(self, hbm_share: int, history: int) -> at.Tables:
        """Return the engine's lists, with room for `history` instructions of each queue."""
        count = len(self._codes)
        queues = at.HEAD
        rows = queues + count * at.QUEUE
        waits = rows + sum(len(code.rows) for code in self._codes)
        loops = waits + sum(len(code.waits) for code in self._codes)
        nests = loops + at.LOOP_RECORD * sum(len(code.loops) for code in self._codes)
        projections = nests + at.NEST_RECORD * len(self._nests)
        slopes = projections + count * len(self._nests)
        m = self._head(hbm_share) + [0] * (rows - queues)
        placed = [_Placed(code) for code in self._codes]
        for number, part in enumerate(placed):
            record = at.HEAD + number * at.QUEUE
            m[record : record + at.QUEUE] = _queue_record(
                number, rows, len(part.code.rows), waits, history
            )
            m[record + at.IS_DMA] = int(self._sites.is_ring(number))
            part.place(rows, waits, loops, nests, queues)
            rows, waits = rows + len(part.code.rows), waits + len(part.code.waits)
            loops += at.LOOP_RECORD * len(part.code.loops)
        for part in placed:
            m += part.code.rows
        for part in placed:
            m += part.code.waits
        for part in placed:
            slopes = part.place_slopes(slopes)
            m += [value for record in part.code.loops for value in record]
        for number, nest in enumerate(self._nests):
            nest[at.LEADER] = queues + nest[at.LEADER] * at.QUEUE
            nest[at.PROJECTIONS] = projections + number * count
            m += nest
        m += [part.pointers.get(n, -1) for n in range(len(self._nests)) for part in placed]
        for part in placed:
            m += part.slopes
        self._finish(m, sum(len(part.code.loops) for part in placed), loops)
        return at.Tables(m, [0] * (history * count * at.EVENT), [])

    def _head(self, hbm_share: int) -> list[int]:
        timing, count = self._core.timing, len(self._codes)
        head = [0] * at.HEAD
        head[at.HBM_SHARE] = hbm_share
        head[at.TABLE_LOAD] = round(timing.act_table_load_ns * 1000)
        head[at.DEPTH] = timing.queue_depth
        head[at.LAST_REPEAT] = -1
        head[at.QUEUES_FROM] = at.HEAD
        head[at.QUEUES_TO] = at.HEAD + count * at.QUEUE
        rings = sum(self._sites.is_ring(number) for number in range(count))
        head[at.RINGS_FROM] = at.HEAD + (count - rings) * at.QUEUE
        head[at.QUEUE_COUNT] = count
        throttle = timing.throttle
        if throttle is not None:
            head[at.RAMP] = round(throttle.ramp_us * 1_000_000)
            head[at.FLOOR] = round(throttle.initial_utilisation * at.ONE)
            # At the utilisation that re-arms the limit, work and idle time cancel out.
            rearm = throttle.rearm_below_utilisation
            head[at.IDLE_WEIGHT] = round(rearm / (1 - rearm) * at.ONE)
        return head

    def _finish(self, m: list[int], loops: int, loops_to: int) -> None:
        """Add the engine's working room to `m`, and note where it is."""
        count = len(self._codes)
        m[at.LOOPS_TO] = loops_to
        m[at.STACK] = len(m)
        m[at.SCRATCH] = len(m) + count
        per_queue = at.STATE_FIELDS + at.MOST_HISTORY + 2 * m[at.DEPTH]
        m[at.STATE_SIZE] = 2 + count * per_queue + loops
        m += [0] * (count + m[at.STATE_SIZE])


class _Placed:
    """The code of a queue while its pointers get their final values."""

    def __init__(self, code: _QueueCode) -> None:
        self.code = code
        self.pointers: dict[int, int] = {}  # of a loop's number: its record for this queue
        self.slopes: list[int] = []

    def place(self, rows: int, waits: int, loops: int, nests: int, queues: int) -> None:
        """Turn pointers that count from the queue's own start into final ones."""
        code = self.code
        for row in range(0, len(code.rows), at.ROW):
            if code.rows[row] == at.BACK_EDGE:
                code.rows[row + at.LOOP] = loops + code.rows[row + at.LOOP] * at.LOOP_RECORD
            else:
                code.rows[row + at.WAIT_END] += waits
        for wait in range(0, len(code.waits), at.WAIT):
            code.waits[wait] = queues + code.waits[wait] * at.QUEUE
        for number, record in enumerate(code.loops):
            self.pointers[record[at.NEST]] = loops + number * at.LOOP_RECORD
            record[at.SLOPES] = record[at.WAITS_FROM] // at.WAIT
            for pointer, start in (
                (at.BODY, rows),
                (at.BODY_END, rows),
                (at.WAITS_FROM, waits),
                (at.WAITS_TO, waits),
            ):
                record[pointer] += start
            if record[at.PARENT] >= 0:
                record[at.PARENT] = loops + record[at.PARENT] * at.LOOP_RECORD
            record[at.NEST] = nests + record[at.NEST] * at.NEST_RECORD

    def place_slopes(self, start: int) -> int:
        """Lay out the slopes of the loops from `start`; return where they end."""
        depths: dict[int, int] = {-1: -1}
        pointers = list(self.pointers.values())
        for pointer, record in zip(pointers, self.code.loops, strict=True):
            depths[pointer] = depth = depths[record[at.PARENT]] + 1
            first = record[at.SLOPES]
            last = first + (record[at.WAITS_TO] - record[at.WAITS_FROM]) // at.WAIT
            record[at.SLOPES] = start + len(self.slopes)
            self.slopes += [levels[depth] for levels in self.code.levels[first:last]]
        return start + len(self.slopes)


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

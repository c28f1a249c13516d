"""The timing simulator: when each instruction of a Program happens."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from emuron.errors import DeadlockError, UsageError
from emuron.hardware.chip import Chip, NeuronCore
from emuron.isa.program import Program
from emuron.sim import timing_layout as at
from emuron.sim.blockers import Blockers
from emuron.sim.dependencies import schedule
from emuron.sim.sites import Sites
from emuron.sim.timing_compiled import has_numba, kernel
from emuron.sim.timing_tables import build_tables
from emuron.trace.trace import Trace, TraceBuilder

Column = NDArray[np.int64]

# From about this many executed instructions on, compiled code makes up for its start-up.
_COMPILE_FROM = 200_000
_FIRST_HISTORY = 1 << 10
_NO_LIMIT = 1 << 40  # an HBM share beyond what any core's DMA can use


@dataclass(frozen=True, slots=True, eq=False)
class TimingResult:
    """When a program ends, and what its queues did until then.

    `busy_ps` is the total busy time of each queue; `executed` counts the instructions simulated
    one by one, `instructions` all of them. `trace` is None unless it was asked for.
    """

    total_ps: int
    busy_ps: dict[str, int]
    instructions: int
    executed: int
    trace: Trace | None = None


class TimingSimulator:
    """Times programs on one core of a chip (or on a bare core, whose HBM is then no limit).

    `sharing` cores use one HBM stack and do the same, so that each gets its share. `numba` says
    whether to run compiled: "auto" goes over to it in long runs if numba is installed. With
    `skip`, iterations of loops that repeat the state of earlier ones are not executed; the result
    is the same.
    """

    def __init__(
        self,
        target: NeuronCore | Chip,
        *,
        sharing: int = 1,
        numba: bool | str = "auto",
        skip: bool = True,
    ) -> None:
        if numba not in (True, False, "auto"):
            raise UsageError(f'numba is {numba!r}; it can be True, False or "auto"')
        if sharing < 1:
            raise UsageError(f"sharing is {sharing}; at least one core uses the memory")
        self.core = target.core if isinstance(target, Chip) else target
        self._numba = numba
        self._skip = skip
        self._hbm_share = _NO_LIMIT
        self._hbm_gb_per_s: float | None = None
        if isinstance(target, Chip):
            self._hbm_gb_per_s = target.hbm_stack_gb_per_s / sharing
            usable_gb_per_s = self._hbm_gb_per_s * target.hbm_efficiency
            self._hbm_share = round(usable_gb_per_s / 1000 * at.ONE)

    def run(self, program: Program, *, collect: bool = True) -> TimingResult:
        """Return the time of a program and, if `collect`, its trace."""
        return self.time_repeated(program, 1, collect=collect)

    def time_repeated(self, program: Program, count: int, *, collect: bool = True) -> TimingResult:
        """Return the time of a program run `count` times, back to back, on the same tensors."""
        sites = Sites(program, count)
        nodes = schedule(sites)
        instructions = len(program) * count
        tables = build_tables(
            sites, nodes, self._hbm_share, search=self._skip, history=_FIRST_HISTORY
        )
        tables = simulate(tables, self._numba, sites)
        return _result(
            sites, tables, instructions, self._metadata(program, count) if collect else None
        )

    def _metadata(self, program: Program, count: int) -> dict[str, object]:
        """Return what the observers of a trace want to know besides its events."""
        known: dict[str, object] = {
            "program": program.name,
            "core": self.core.version,
            "pe_peak_tflops": self.core.tensor_tflops("bfloat16"),
            "hbm_bytes_moved": count * _hbm_bytes(program),
        }
        if self._hbm_gb_per_s is not None:
            known["hbm_gb_per_s"] = self._hbm_gb_per_s
        return known


def _hbm_bytes(program: Program) -> int:
    """Return the HBM traffic of a program in bytes."""
    total = 0
    for block, indices in program.leaves():
        costs = (program.forms[form].cost.dma for form in block.form)
        moved = sum(cost.hbm_bytes for cost in costs if cost is not None)
        total += moved * prod(index.trip for index in indices)
    return total


def simulate(tables: at.Tables, numba: bool | str, sites: Sites) -> at.Tables:
    """Run the engine to the end; with numba "auto", compiled once the run has become long."""
    compiled = numba is True
    if compiled and not isinstance(tables.m, np.ndarray):
        tables = as_arrays(tables)
    while True:
        status = kernel(compiled)(*tables)
        if status == at.GROW:
            tables = _with_more_history(tables)
            long = len(tables.h) >= _COMPILE_FROM * at.EVENT
            if long and numba == "auto" and not compiled and has_numba():
                compiled, tables = True, as_arrays(tables)
        elif status == at.GROW_STATES:
            more = int(tables.m[at.STATE_SIZE]) * 2 + len(tables.g)
            tables = tables._replace(g=_longer(tables.g, more))
        elif status == at.DONE:
            return tables
        else:
            raise DeadlockError(_stuck(tables, sites))


def as_arrays(tables: at.Tables) -> at.Tables:
    """Return the tables as int64 arrays, for the compiled engine."""
    return at.Tables(*(np.asarray(column, np.int64) for column in tables))


def _queues(m: at.Ints) -> range:
    """Return the pointers to the queues."""
    return range(int(m[at.QUEUES_FROM]), int(m[at.QUEUES_TO]), at.QUEUE)


def _with_more_history(t: at.Tables) -> at.Tables:
    """Return the tables with twice the room for each queue that filled its history."""
    m, parts, size = t.m, [], 0  # of each queue: first event, end, added room
    for queue in _queues(m):
        first, last = int(m[queue + at.FIRST]), int(m[queue + at.HISTORY_END])
        full = m[queue + at.STATE] == at.FULL
        room = (last - first) * int(full)
        for pointer in (at.FIRST, at.HISTORY, at.HISTORY_END):
            m[queue + pointer] += size - first
        m[queue + at.HISTORY_END] += room
        segment = m[queue + at.SEGMENTS]
        while segment >= 0:
            t.g[segment + at.SEGMENT_BASE] += size - first
            segment = t.g[segment + at.PREVIOUS]
        if full:
            m[queue + at.STATE] = at.RUNNABLE
        parts.append((first, last, room))
        size += last - first + room
    h = _longer(t.h[:0], 0)
    for first, last, room in parts:
        h = _longer(h, t.h[first * at.EVENT : last * at.EVENT])
        h = _longer(h, room * at.EVENT)
    return t._replace(h=h)


def _longer(column: at.Ints, more: at.Ints) -> at.Ints:
    """Return a column with other integers, or so many zeros, at its end."""
    if isinstance(more, int):
        more = [0] * more
    if isinstance(column, np.ndarray):
        return np.concatenate([column, np.asarray(more, np.int64)])
    return [*column, *more]


def _stuck(t: at.Tables, sites: Sites) -> str:
    m, first = t.m, int(t.m[at.QUEUES_FROM])
    blocked = []
    for queue, name in zip(_queues(m), sites.queue_names, strict=True):
        if m[queue + at.STATE] != at.FINISHED:
            site = sites.all[m[m[queue + at.PC] + at.LABEL]]
            other = sites.queue_names[(m[queue + at.BLOCK_QUEUE] - first) // at.QUEUE]
            blocked.append(f"{name} ({site.form.mnemonic}) waits for {other}")
    return f"program {sites.program.name}: no queue can go on; {'; '.join(blocked)}"


def _result(
    sites: Sites, t: at.Tables, instructions: int, metadata: dict[str, object] | None
) -> TimingResult:
    pointers = _queues(t.m)
    queues = np.asarray(t.m[pointers.start : pointers.stop], np.int64).reshape(-1, at.QUEUE)
    total = int(queues[:, at.LAST_DONE].max(initial=0))
    busy = {
        name: int(record[at.BUSY])
        for name, record in zip(sites.queue_names, queues, strict=True)
        if record[at.ISSUED]
    }
    trace = None
    if metadata is not None:
        trace = _trace(sites, t, queues, total, metadata)
    return TimingResult(total, busy, instructions, instructions - int(t.m[at.SKIPPED]), trace)


def _trace(
    sites: Sites, t: at.Tables, queues: Column, total_ps: int, metadata: dict[str, object]
) -> Trace:
    builder = TraceBuilder(metadata)
    forms = [site.form for site in sites.all]
    labels = np.array([builder.label(form.mnemonic) for form in forms], np.int64)
    names = sites.program.groups
    groups = np.array([builder.group(names[s.group] if names else "") for s in sites.all], np.int64)
    moved = np.array([f.cost.dma.bytes if f.cost.dma else 0 for f in forms], np.int64)
    flops = np.array([form.cost.flops for form in forms], np.int64)
    m, events = np.asarray(t.m, np.int64), np.asarray(t.h, np.int64).reshape(-1, at.EVENT)
    rows: dict[int, int] = {}  # of each queue: its first row in the trace
    blockers = Blockers(m, events, _repeats(t))
    numbers = [
        builder.queue(name) if record[at.ISSUED] else -1
        for name, record in zip(sites.queue_names, queues, strict=True)
    ]
    for number, record in enumerate(queues):
        first, last = record[at.FIRST], record[at.HISTORY] + record[at.ISSUED]
        if first == last:
            continue
        own = events[first:last]
        site = m[own[:, at.EVENT_ROW] + at.LABEL]
        blocker, lag_ps = blockers.of(number)
        columns = (labels[site], groups[site], moved[site], flops[site])
        waits = (np.append(numbers, -1)[blocker], lag_ps)
        start, end = own[:, at.EVENT_START], own[:, at.EVENT_END]
        rows[number] = builder.add_columns(numbers[number], start, end, *columns, *waits)
    for number, begin, stop, period, count in _repeats(t):
        at_ps = int(events[begin + queues[number, at.FIRST], at.EVENT_START])
        row = rows[number]
        builder.repeat(at_ps, period, count, first=row + begin, stop=row + stop)
    return builder.finish(total_ps)


def _repeats(t: at.Tables) -> list[tuple[int, ...]]:
    """Return (queue, first event, end, period, count) of each skip, in order."""
    found = []
    entry = int(t.m[at.LAST_REPEAT])
    while entry >= 0:
        found.append(tuple(int(value) for value in t.g[entry : entry + at.REPEAT - 1]))
        entry = int(t.g[entry + at.REPEAT_PREVIOUS])
    return found[::-1]

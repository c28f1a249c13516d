"""The timing simulator: when each instruction of a Program happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import prod

import numpy as np

from emuron.errors import DeadlockError, UsageError
from emuron.hardware.chip import Chip, NeuronCore
from emuron.hardware.instance import Instance
from emuron.isa.instruction import CollectiveCost, Cost
from emuron.isa.meetings import CoreId
from emuron.isa.program import Program
from emuron.sim import (
    loop_skip,
    loop_state,
    timing_kernel,
    timing_layout,
    transfer_kernel,
)
from emuron.sim import timing_layout as at
from emuron.sim.blockers import Blockers
from emuron.sim.collection import paused_collection
from emuron.sim.collectives import duration_us
from emuron.sim.compiled import Numba, checked, compiled, pays
from emuron.sim.dependencies import schedule
from emuron.sim.footprints import Column
from emuron.sim.partners import connect
from emuron.sim.sites import Sites
from emuron.sim.timing_code import CoreCode
from emuron.sim.timing_tables import Queues, build_tables
from emuron.sim.tracker import TRACKING
from emuron.trace.trace import Trace, TraceBuilder

_NO_LIMIT = 1 << 40  # an HBM share beyond what any core's DMA can use

_ENGINE = ("simulate", timing_layout, loop_state, loop_skip, transfer_kernel, timing_kernel)


@dataclass(frozen=True, slots=True, eq=False)
class TimingResult:
    """When a program ends, and what its queues did until then.

    `busy_ps` is the total busy time of each queue; `executed` counts the instructions simulated
    one by one, `instructions` all of them. `trace` is None unless it was asked for. With several
    cores the names of queues begin with the core's ("nc0/tensor"); where all cores do the same,
    one is simulated and shown, and stands for `cores`.
    """

    total_ps: int
    busy_ps: dict[str, int]
    instructions: int
    executed: int
    trace: Trace | None = None
    cores: int = 1


class TimingSimulator:
    """Times programs on one core of a chip (or on a bare core, whose HBM is then no limit).

    Collectives go over the links of an instance; of a chip alone, over one ring.

    `sharing` cores use one HBM stack and do the same, so that each gets its share. `numba` says
    whether to run compiled: "auto" goes over to it in long runs if numba is installed. With
    `skip`, iterations of loops that repeat the state of earlier ones are not executed; the result
    is the same.
    """

    def __init__(
        self,
        target: NeuronCore | Chip | Instance,
        *,
        sharing: int = 1,
        numba: Numba = "auto",
        skip: bool = True,
    ) -> None:
        if sharing < 1:
            raise UsageError(f"sharing is {sharing}; at least one core uses the memory")
        self._topology = target.topology if isinstance(target, Instance) else None
        if isinstance(target, Instance):
            target = target.chip
        self.core = target.core if isinstance(target, Chip) else target
        self._chip = target if isinstance(target, Chip) else None
        self._numba = checked(numba)
        self._skip = skip
        self._hbm_share = _NO_LIMIT
        self._hbm_gb_per_s: float | None = None
        if isinstance(target, Chip):
            self._hbm_gb_per_s = target.hbm_stack_gb_per_s / sharing
            usable_gb_per_s = self._hbm_gb_per_s * target.hbm_efficiency
            self._hbm_share = round(usable_gb_per_s / 1000 * at.ONE)

    def run(self, program: Program, *, collect: bool = True) -> TimingResult:
        """Return the time of a program and, if `collect`, its trace."""
        return self._time([Sites(program)], 1, collect)

    def run_cores(
        self, programs: Sequence[Program], *, rank: int = 0, collect: bool = True
    ) -> TimingResult:
        """Return the time of the programs of a rank's cores, which share one HBM stack.

        Cores that do the same are simulated once, each with its part of the stack. Raises
        DeadlockError where a core waits for one that never comes.
        """
        count, first = len(programs), programs[0]
        if all(_interchangeable(first, program) for program in programs[1:]):
            cores = [Sites(first, here=CoreId(rank, 0), cores=count)] * count
        else:
            cores = [
                Sites(program, here=CoreId(rank, number), cores=count)
                for number, program in enumerate(programs)
            ]
        return self._time(cores, 1, collect)

    def time_repeated(self, program: Program, count: int, *, collect: bool = True) -> TimingResult:
        """Return the time of a program run `count` times, back to back, on the same tensors."""
        return self._time([Sites(program, count)], count, collect)

    @paused_collection()
    def _time(self, cores: Sequence[Sites], count: int, collect: bool) -> TimingResult:
        programs = [sites.program for sites in cores]
        connect(cores)
        made = {id(sites): self._code(sites, len(cores)) for sites in cores}
        codes = [made[id(sites)] for sites in cores]
        alike = all(code.does_the_same(codes[0]) for code in codes[1:])
        stands_for = len(codes) if alike else 1
        queues = Queues(codes[:1] if alike else codes)
        tables = build_tables(queues, self.core, self._hbm_share // stands_for)
        tables = simulate(tables, self._numba, queues)
        shown = [code.sites.program for code in queues.codes]
        instructions = sum(len(program) for program in shown) * count
        metadata = self._metadata(programs, count) if collect else None
        return _result(queues, tables, (instructions, stands_for), metadata)

    def _code(self, sites: Sites, cores: int) -> CoreCode:
        nodes = schedule(sites, numba=pays(self._numba, len(sites), *TRACKING))
        return CoreCode(sites, nodes, partial(self._collective_ps, cores), search=self._skip)

    def _collective_ps(self, cores: int, cost: CollectiveCost) -> int:
        """Return the time of a collective among ranks of so many cores."""
        if self._chip is None:
            raise UsageError(f"{cost.kind} runs over the links of a chip: time it on a Chip.")
        return round(duration_us(cost, self._chip, cores, self._topology) * 1e6)

    def _metadata(self, programs: Sequence[Program], count: int) -> dict[str, object]:
        """Return what the observers of a trace want to know besides its events."""
        known: dict[str, object] = {
            "program": programs[0].name,
            "core": self.core.version,
            "pe_peak_tflops": self.core.tensor_tflops("bfloat16"),
            "hbm_bytes_moved": count * sum(_hbm_bytes(program) for program in programs),
        }
        if self._hbm_gb_per_s is not None:
            known["hbm_gb_per_s"] = self._hbm_gb_per_s
        return known


def _interchangeable(one: Program, other: Program) -> bool:
    """Return whether two placed programs are equal in all that takes time."""
    places = ([tensor.address for tensor in program.tensors] for program in (one, other))
    return one is other or (one.is_like(other) and next(places) == next(places))


def _hbm_bytes(program: Program) -> int:
    """Return the HBM traffic of a program in bytes."""
    costs = [form.cost.dma for form in program.forms]
    moved = np.array([0 if cost is None else cost.hbm_bytes for cost in costs], np.int64)
    total = 0
    for block, indices in program.leaves():
        total += int(moved[np.asarray(block.form)].sum()) * prod(i.trip for i in indices)
    return total


def simulate(tables: at.Tables, numba: Numba, queues: Queues) -> at.Tables:
    """Run the engine to the end; with numba "auto", compiled if the run is or becomes long."""
    instructions = len(tables.h) // at.EVENT
    runs_compiled = pays(numba, instructions, *_ENGINE)
    tables = _as_arrays(tables) if runs_compiled else _as_lists(tables)
    while True:
        run = compiled(*_ENGINE) if runs_compiled else timing_kernel.simulate
        status = run(*tables)
        if status == at.GROW:
            tables = _with_more_history(tables)
            if not runs_compiled and pays(numba, _recorded(tables), *_ENGINE):
                runs_compiled, tables = True, _as_arrays(tables)
        elif status == at.GROW_STATES:
            more = int(tables.m[at.STATE_SIZE]) * 2 + len(tables.g)
            tables = tables._replace(g=_joined(tables.g, [tables.g, [0] * more]))
        elif status == at.DONE:
            return tables
        else:
            raise DeadlockError(_stuck(tables, queues))


def _as_arrays(tables: at.Tables) -> at.Tables:
    """Return the tables as int64 arrays, for the compiled engine."""
    return at.Tables(*(np.asarray(column, np.int64) for column in tables))


def _as_lists(tables: at.Tables) -> at.Tables:
    """Return the tables as lists of ints, for the engine as it is."""
    return at.Tables(*(column.tolist() for column in tables))


def _queues(m: at.Ints) -> range:
    """Return the pointers to the queues."""
    return range(int(m[at.QUEUES_FROM]), int(m[at.QUEUES_TO]), at.QUEUE)


def _recorded(t: at.Tables) -> int:
    """Return the events so far: there may be room for several times as many."""
    return sum(
        int(t.m[queue + at.HISTORY] + t.m[queue + at.ISSUED] - t.m[queue + at.FIRST])
        for queue in _queues(t.m)
    )


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
    pieces = []
    for first, last, room in parts:
        pieces += [t.h[first * at.EVENT : last * at.EVENT], [0] * (room * at.EVENT)]
    return t._replace(h=_joined(t.h, pieces))


def _joined(like: at.Ints, pieces: list[at.Ints]) -> at.Ints:
    """Return runs of integers as one, a list or an array as `like` is."""
    if isinstance(like, np.ndarray):
        return np.concatenate([np.asarray(piece, np.int64) for piece in pieces])
    return list(chain.from_iterable(pieces))


def _stuck(t: at.Tables, queues: Queues) -> str:
    m, first = t.m, int(t.m[at.QUEUES_FROM])
    blocked = []
    for number, queue in enumerate(_queues(m)):
        if m[queue + at.STATE] != at.FINISHED:
            sites = queues.codes[queues.all[number][0]].sites
            name = sites.label(m[m[queue + at.PC] + at.LABEL])
            other = queues.name((m[queue + at.BLOCK_QUEUE] - first) // at.QUEUE)
            blocked.append(f"{queues.name(number)} ({name}) waits for {other}")
    program = queues.codes[0].sites.program.name
    return f"program {program}: no queue can go on; {'; '.join(blocked)}"


def _result(
    queues: Queues, t: at.Tables, counts: tuple[int, int], metadata: dict[str, object] | None
) -> TimingResult:
    instructions, cores = counts
    pointers = _queues(t.m)
    records = np.asarray(t.m[pointers.start : pointers.stop], np.int64).reshape(-1, at.QUEUE)
    total = int(records[:, at.LAST_DONE].max(initial=0))
    busy = {
        queues.name(number): int(record[at.BUSY])
        for number, record in enumerate(records)
        if record[at.ISSUED]
    }
    trace = None
    if metadata is not None:
        trace = _trace(queues, t, records, total, metadata)
    executed = instructions - int(t.m[at.SKIPPED])
    return TimingResult(total, busy, instructions, executed, trace, cores)


def _trace(
    queues: Queues, t: at.Tables, records: Column, total_ps: int, metadata: dict[str, object]
) -> Trace:
    builder = TraceBuilder(metadata)
    columns_of = [_Columns(builder, code.sites) for code in queues.codes]
    m, events = np.asarray(t.m, np.int64), np.asarray(t.h, np.int64).reshape(-1, at.EVENT)
    rows: dict[int, int] = {}  # of each queue: its first row in the trace
    blockers = Blockers(m, events, _repeats(t))
    numbers = [
        builder.queue(queues.name(number)) if record[at.ISSUED] else -1
        for number, record in enumerate(records)
    ]
    for number, record in enumerate(records):
        first, last = record[at.FIRST], record[at.HISTORY] + record[at.ISSUED]
        if first == last:
            continue
        own = events[first:last]
        columns = columns_of[queues.all[number][0]].of(m[own[:, at.EVENT_ROW] + at.LABEL])
        blocker, lag_ps = blockers.of(number)
        waits = (np.append(numbers, -1)[blocker], lag_ps)
        start, end = own[:, at.EVENT_START], own[:, at.EVENT_END]
        rows[number] = builder.add_columns(numbers[number], start, end, *columns, *waits)
    for number, begin, stop, period, count in _repeats(t):
        at_ps = int(events[begin + records[number, at.FIRST], at.EVENT_START])
        row = rows[number]
        builder.repeat(at_ps, period, count, first=row + begin, stop=row + stop)
    return builder.finish(total_ps)


class _Columns:
    """What a trace says of the sites of a program besides their times."""

    def __init__(self, builder: TraceBuilder, sites: Sites) -> None:
        program, self._sites = sites.program, sites
        kinds, groups = sites.kinds.all, program.groups or [""]
        self._labels = np.array([builder.label(kind.label) for kind in kinds], np.int64)
        self._groups = np.array([builder.group(name) for name in groups], np.int64)
        costs = [kind.form.cost if kind.takes_time else Cost() for kind in kinds]
        self._bytes = np.array([c.dma.bytes if c.dma else 0 for c in costs], np.int64)
        self._flops = np.array([cost.flops for cost in costs], np.int64)

    def of(self, site: Column) -> tuple[Column, Column, Column, Column]:
        """Return the label, group, bytes and operations of sites."""
        kind = self._sites.kind[site]
        group = self._groups[self._sites.group[site]]
        return self._labels[kind], group, self._bytes[kind], self._flops[kind]


def _repeats(t: at.Tables) -> list[tuple[int, ...]]:
    """Return (queue, first event, end, period, count) of each skip, in order."""
    found = []
    entry = int(t.m[at.LAST_REPEAT])
    while entry >= 0:
        found.append(tuple(int(value) for value in t.g[entry : entry + at.REPEAT - 1]))
        entry = int(t.g[entry + at.REPEAT_PREVIOUS])
    return found[::-1]

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
    if compiled and not isinstance(tables.queues, np.ndarray):
        tables = as_arrays(tables)
    while True:
        status = kernel(compiled)(tables)
        if status == at.GROW:
            tables = _with_more_history(tables)
            long = len(tables.done) >= _COMPILE_FROM
            if long and numba == "auto" and not compiled and has_numba():
                compiled, tables = True, as_arrays(tables)
        elif status == at.GROW_SEGMENTS:
            tables = _with_more_room(tables)
        elif status == at.DONE:
            return tables
        else:
            raise DeadlockError(_stuck(tables, sites))


def as_arrays(tables: at.Tables) -> at.Tables:
    """Return the tables as int64 arrays, for the compiled engine."""
    return at.Tables(*(np.asarray(column, np.int64) for column in tables))


def _with_more_history(t: at.Tables) -> at.Tables:
    """Return the tables with twice the room for each queue that filled its history."""
    parts: list[tuple[int, int, int]] = []  # of each queue: first, last, added room
    size = 0
    for queue in range(0, len(t.queues), at.QUEUE):
        first, last = int(t.queues[queue + at.FIRST]), int(t.queues[queue + at.HISTORY_END])
        full = t.queues[queue + at.STATE] == at.FULL
        room = (last - first) * int(full)
        for pointer in (at.FIRST, at.HISTORY, at.HISTORY_END):
            t.queues[queue + pointer] += size - first
        t.queues[queue + at.HISTORY_END] += room
        segment = t.queues[queue + at.SEGMENTS]
        while segment >= 0:
            t.segments[segment + at.SEGMENT_BASE] += size - first
            segment = t.segments[segment + at.PREVIOUS]
        if full:
            t.queues[queue + at.STATE] = at.RUNNABLE
        parts.append((first, last, room))
        size += last - first + room
    done, row_of, start, end = (
        _spread(column, parts) for column in (t.done, t.row_of, t.start, t.end)
    )
    return t._replace(done=done, row_of=row_of, start=start, end=end)


def _spread(column: list[int] | Column, parts: list[tuple[int, int, int]]) -> list[int] | Column:
    """Return a history column with room added after each of its parts."""
    if isinstance(column, np.ndarray):
        zeros = [np.zeros(room, np.int64) for *_, room in parts]
        pieces = [(column[a:b], zero) for (a, b, _), zero in zip(parts, zeros, strict=True)]
        return np.concatenate([piece for pair in pieces for piece in pair])
    spread: list[int] = []
    for first, last, room in parts:
        spread += column[first:last]
        spread += [0] * room
    return spread


def _with_more_room(t: at.Tables) -> at.Tables:
    """Return the tables with room for more skips and saved states."""
    number = len(t.queues) // at.QUEUE
    return t._replace(
        segments=_longer(t.segments, number * at.SEGMENT),
        repeats=_longer(t.repeats, number * at.REPEAT),
        states=_longer(t.states, int(t.clock[at.STATE_SIZE])),
    )


def _longer(column: list[int] | Column, least: int) -> list[int] | Column:
    return _like(column, [*column, *[0] * (least + len(column))])


def _like(example: object, values: list[int]) -> list[int] | Column:
    return np.array(values, np.int64) if isinstance(example, np.ndarray) else values


def _stuck(t: at.Tables, sites: Sites) -> str:
    blocked = []
    for number, name in enumerate(sites.queue_names):
        queue = number * at.QUEUE
        if t.queues[queue + at.STATE] != at.FINISHED:
            site = sites.all[t.rows[t.queues[queue + at.PC] + at.LABEL]]
            other = sites.queue_names[t.queues[queue + at.BLOCK_QUEUE] // at.QUEUE]
            blocked.append(f"{name} ({site.form.mnemonic}) waits for {other}")
    return f"program {sites.program.name}: no queue can go on; {'; '.join(blocked)}"


def _result(
    sites: Sites, t: at.Tables, instructions: int, metadata: dict[str, object] | None
) -> TimingResult:
    queues = np.asarray(t.queues, np.int64).reshape(-1, at.QUEUE)
    total = int(queues[:, at.LAST_DONE].max(initial=0))
    busy = dict(zip(sites.queue_names, queues[:, at.BUSY].tolist(), strict=True))
    skipped = int(t.clock[at.SKIPPED])
    trace = None
    if metadata is not None:
        trace = _trace(sites, t, queues, total, metadata)
    return TimingResult(total, busy, instructions, instructions - skipped, trace)


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
    rows, row_of = np.asarray(t.rows, np.int64), np.asarray(t.row_of, np.int64)
    start, end = np.asarray(t.start, np.int64), np.asarray(t.end, np.int64)
    origin = np.zeros(len(queues), np.int64)
    for number, name in enumerate(sites.queue_names):
        first = int(queues[number, at.FIRST])
        last = int(queues[number, at.HISTORY] + queues[number, at.ISSUED])
        site = rows[row_of[first:last] + at.LABEL]
        columns = (labels[site], groups[site], moved[site], flops[site])
        row = builder.add_columns(builder.queue(name), start[first:last], end[first:last], *columns)
        origin[number] = row
    used = int(t.clock[at.REPEATS])
    for number, first, stop, period, count in np.asarray(t.repeats[:used]).reshape(-1, at.REPEAT):
        rows_from, rows_to = int(first + origin[number]), int(stop + origin[number])
        at_ps = int(start[first + queues[number, at.FIRST]])
        builder.repeat(at_ps, int(period), int(count), first=rows_from, stop=rows_to)
    return builder.finish(total_ps)

"""Repetition: the repeats of a trace written out (`unfold`), or folded into few events (`fold`).

Folding keeps, of a repeat, as many copies as it takes to reach its steady state, takes the others
out of time, and weighs one period of that steady state with their number. Weighted lengths on
folded time equal the true ones: each period taken out held exactly what the weighted one holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from emuron.errors import UsageError
from emuron.trace.trace import Repeat, Trace

Times = NDArray[np.int64]

MOST_EVENTS = 8_000_000
"""Up to so many events, a repeat that cannot be folded is written out; lengths stay exact."""


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Events in folded time (`row` of the trace, start, end), and the true time it stands for.

    From `bounds[i]` to `bounds[i + 1]` one picosecond stands for `weight[i]`. `exact` is False
    only where repeats overlap in time without a common period and are too many to write out.
    """

    row: Times
    start_ps: Times
    end_ps: Times
    bounds: Times
    weight: Times
    exact: bool

    def measure(self, t_ps: Times) -> Times:
        """Return the true time that folded time up to `t_ps` stands for."""
        before = np.concatenate([[0], np.cumsum(np.diff(self.bounds) * self.weight[:-1])])
        segment = np.searchsorted(self.bounds, t_ps, side="right") - 1
        return np.asarray(before[segment] + self.weight[segment] * (t_ps - self.bounds[segment]))


def unfold(trace: Trace, most_events: int = 1_000_000) -> Trace:
    """Return the trace with every repetition written out, by start; a UsageError if too long.

    Counters repeat what they show in the first period of each repeat.
    """
    size = int(trace.multiplicity().sum())
    if size > most_events:
        raise UsageError(
            f"The trace stands for {size} events, more than the {most_events} to write out. "
            "Raise most_events, or keep the repeats."
        )
    row, start = np.arange(len(trace)), trace.start_ps
    for repeat in trace.repeats:
        inside = trace.selects(repeat, row)
        shifts = np.arange(1, repeat.count, dtype=np.int64) * repeat.period_ps
        copies = start[inside][None, :] + shifts[:, None]
        row = np.concatenate([row, np.tile(row[inside], len(shifts))])
        start = np.concatenate([start, copies.ravel()])
    order = np.lexsort((row, start))
    row, start = row[order], start[order]
    return replace(
        trace,
        counters={name: _repeated(*samples, trace) for name, samples in trace.counters.items()},
        queue=trace.queue[row],
        start_ps=start,
        end_ps=start + trace.duration_ps[row],
        label=trace.label[row],
        group=trace.group[row],
        bytes=trace.bytes[row],
        flops=trace.flops[row],
        blocker=trace.blocker[row],
        lag_ps=trace.lag_ps[row],
        repeats=(),
    )


def _repeated(
    t_ps: Times, value: NDArray[np.float64], trace: Trace
) -> tuple[Times, NDArray[np.float64]]:
    """Return a counter's samples with those in the first period of each repeat written out."""
    first = t_ps
    for repeat in loops(trace):
        inside = (first >= repeat.start_ps) & (first < repeat.start_ps + repeat.period_ps)
        shifts = np.arange(1, repeat.count, dtype=np.int64) * repeat.period_ps
        t_ps = np.concatenate([t_ps, (t_ps[inside][None, :] + shifts[:, None]).ravel()])
        value = np.concatenate([value, np.tile(value[inside], len(shifts))])
        first = np.concatenate([first, np.tile(first[inside], len(shifts))])
    order = np.argsort(t_ps, kind="stable")
    return t_ps[order], value[order]


def loops(trace: Trace) -> tuple[Repeat, ...]:
    """Return one repeat for each loop, where each queue of the loop may have its own; by start."""
    found: dict[tuple[int, int], list[Repeat]] = {}
    for repeat in sorted(r for r in trace.repeats if r.count > 1):
        same = found.setdefault((repeat.period_ps, repeat.count), [])
        if not same or repeat.start_ps >= same[-1].start_ps + repeat.period_ps * repeat.count:
            same.append(repeat)
    return tuple(sorted(r for same in found.values() for r in same))


def unfold_if_small(trace: Trace, most_events: int) -> Trace:
    """Return the trace written out if it then has at most `most_events`, else as it is."""
    small = int(trace.multiplicity().sum()) <= most_events
    return unfold(trace, most_events) if trace.repeats and small else trace


def fold(trace: Trace, most_events: int = MOST_EVENTS) -> Folded:
    """Return the events in folded time; their number does not grow with the repeats' counts."""
    folding = _Folding(trace, most_events)
    while folding.pending:
        folding.step()
    return folding.result()


@dataclass(slots=True, eq=False)
class _Loop:
    """Events that repeat together, of all queues, and the loops inside; `rows` ascend."""

    rows: Times
    period_ps: int
    count: int
    inner: list[_Loop] = field(default_factory=list)

    def moved(self, base: int, outer: Times) -> _Loop:
        """Return the loop in a copy of `outer` (which holds its rows) that begins at row `base`."""
        rows = base + np.searchsorted(outer, self.rows)
        inner = [loop.moved(base, outer) for loop in self.inner]
        return _Loop(rows, self.period_ps, self.count, inner)


def _nested(trace: Trace, reach: Times) -> list[_Loop]:
    """Return the outermost loops.

    Repeats of equal period and count that overlap in time are one loop, such as one of each queue.
    A repeat that lies in another only in part is split: what counts is which repeats an event has.
    """
    outermost: list[_Loop] = []
    owner: list[_Loop | None] = [None]
    last: dict[tuple[int, int, int], tuple[int, int]] = {}
    deepest = np.zeros(len(trace), np.int64)
    outer_first = sorted(
        (r for r in trace.repeats if r.count > 1),
        key=lambda r: (-r.period_ps * r.count, -r.period_ps, r.start_ps),
    )
    for repeat in outer_first:
        rows = trace.members(repeat)
        around = deepest[rows]
        for outer in np.unique(around).tolist():
            part = rows[around == outer]
            key = (outer, repeat.period_ps, repeat.count)
            number, until = last.get(key, (0, -1))
            loop = owner[number]
            if loop is not None and trace.start_ps[part].min() < until:
                loop.rows = np.union1d(loop.rows, part)
            else:
                loop, number = _Loop(part, repeat.period_ps, repeat.count), len(owner)
                parent = owner[outer]
                (outermost if parent is None else parent.inner).append(loop)
                owner.append(loop)
            deepest[part] = number
            last[key] = number, max(until, int(reach[part].max()))
    return outermost


@dataclass(slots=True)
class _Window:
    """One period of a steady state, which stands for `factor` periods."""

    start_ps: int
    end_ps: int
    factor: int


@dataclass(slots=True)
class _Folding:
    """The state of folding one trace, from the outermost repeat inwards."""

    trace: Trace
    most_events: int
    row: Times = field(init=False)
    start: Times = field(init=False)
    end: Times = field(init=False)
    # The end of an event's last copy, of all repeats still to fold.
    reach: Times = field(init=False)
    pending: list[_Loop] = field(init=False)
    windows: list[_Window] = field(default_factory=list)
    exact: bool = True

    def __post_init__(self) -> None:
        self.row = np.arange(len(self.trace))
        self.start, self.end = self.trace.start_ps.copy(), self.trace.end_ps.copy()
        self.reach = self.end.copy()
        for repeat in self.trace.repeats:
            rows = self.trace.members(repeat)
            self.reach[rows] += (repeat.count - 1) * repeat.period_ps
        self.pending = _nested(self.trace, self.reach)

    def step(self) -> None:
        """Fold an outermost loop."""
        repeat = self.pending.pop()
        self.reach[repeat.rows] -= (repeat.count - 1) * repeat.period_ps
        first = int(self.start[repeat.rows].min())
        last = np.maximum(self.reach, self.end)[repeat.rows].max()
        span = int(last) - first
        # A period is steady once all copies that reach into it exist: ceil(span / period) of them.
        copies = -(-span // repeat.period_ps) + 1
        hidden = max(repeat.count - copies, 0)
        if hidden and not self._regular(repeat, first + copies * repeat.period_ps, hidden):
            if len(self.row) + repeat.count * len(repeat.rows) <= self.most_events:
                hidden = 0
            else:
                self.exact = False
        copies = repeat.count - hidden
        if hidden:
            self._take_out(repeat, first + copies * repeat.period_ps, hidden)
        self._write_out(repeat, copies)

    def _others(self, repeat: _Loop) -> NDArray[np.bool_]:
        others = np.ones(len(self.row), bool)
        others[repeat.rows] = False
        return others

    def _regular(self, repeat: _Loop, cut: int, hidden: int) -> bool:
        """Return whether nothing else begins or ends in the steady period or the hidden ones."""
        low, high = cut - repeat.period_ps, cut + hidden * repeat.period_ps
        others = self._others(repeat)
        start, end, reach = self.start[others], self.end[others], self.reach[others]
        repeated = reach > end
        if bool((repeated & (start < high) & (reach > low)).any()):
            return False
        windows = np.array([(w.start_ps, w.end_ps) for w in self.windows], np.int64).ravel()
        edges = np.concatenate([start, end, windows])
        return not bool(((edges > low) & (edges < high)).any())

    def _take_out(self, repeat: _Loop, cut: int, hidden: int) -> None:
        """Take `hidden` periods after `cut` out of time, and weigh the period before it instead."""
        length = hidden * repeat.period_ps
        others = self._others(repeat)

        def moved(t_ps: Times) -> Times:
            return np.where(t_ps <= cut, t_ps, np.maximum(t_ps - length, cut))

        for times in (self.start, self.end, self.reach):
            times[others] = moved(times[others])
        for window in self.windows:
            edges = moved(np.array([window.start_ps, window.end_ps], np.int64))
            window.start_ps, window.end_ps = int(edges[0]), int(edges[1])
        self.windows.append(_Window(cut - repeat.period_ps, cut, hidden + 1))

    def _write_out(self, repeat: _Loop, copies: int) -> None:
        size, per_copy = len(self.row), len(repeat.rows)
        shifts = np.arange(1, copies, dtype=np.int64)[:, None] * repeat.period_ps
        self.pending += repeat.inner
        for copy in range(copies - 1):
            base = size + copy * per_copy
            self.pending += [loop.moved(base, repeat.rows) for loop in repeat.inner]
        self.row = np.concatenate([self.row, np.tile(self.row[repeat.rows], copies - 1)])
        self.start = np.concatenate([self.start, (self.start[repeat.rows] + shifts).ravel()])
        self.end = np.concatenate([self.end, (self.end[repeat.rows] + shifts).ravel()])
        self.reach = np.concatenate([self.reach, (self.reach[repeat.rows] + shifts).ravel()])

    def result(self) -> Folded:
        """Return the folded events with the weight of every stretch of time."""
        edges = [t for w in self.windows for t in (w.start_ps, w.end_ps)]
        bounds = np.unique(np.array([0, *edges], np.int64))
        weight = np.ones(len(bounds), np.int64)
        for window in self.windows:
            low, high = np.searchsorted(bounds, [window.start_ps, window.end_ps])
            weight[low:high] *= window.factor
        return Folded(self.row, self.start, self.end, bounds, weight, self.exact)

"""Trace: what happened when, as frozen NumPy columns; the one thing that observers read.

Time is in picoseconds from the start of the run. An event belongs to a queue (an engine or a DMA
ring), carries a label (the instruction), a group (the layer or source line), the bytes it moved,
the FLOPs it did, and the queue that it waited for last. A `Repeat` says that some events happened
`count` times, `period_ps` apart, of which the trace holds the first: skipped iterations and
repeated layers are exact, yet not stored.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emuron.errors import UsageError

Column: TypeAlias = NDArray[Any]
Counter: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]

COLUMN_TYPES: Mapping[str, Any] = MappingProxyType(
    {
        "queue": np.int16,
        "start_ps": np.int64,
        "end_ps": np.int64,
        "label": np.int32,
        "group": np.int32,
        "bytes": np.int64,
        "flops": np.int64,
        "blocker": np.int16,
        "lag_ps": np.int64,
    }
)
"""The columns of a trace, in the order of its text form, and their types."""


class Repeat(NamedTuple):
    """Events that happen `count` times in all, `period_ps` apart; the trace holds the first time.

    They are the events of rows `first` to `stop` - 1; with `first` = -1, the events that start in
    [start_ps, start_ps + period_ps). An event of several repeats happens at all sums of their
    shifts: nested loops multiply. Each queue of a loop may have a repeat of its own.
    """

    start_ps: int
    period_ps: int
    count: int  # type: ignore[assignment]  # a number here, a method of tuple
    first: int = -1
    stop: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Events in columns of equal length (in the order of recording), names, counters and repeats.

    `total_ps` counts every repetition. `counters` maps a name to (t_ps, value), a level that holds
    until the next sample. `metadata` is json-able; `summarize` reads `pe_peak_tflops`,
    `hbm_gb_per_s` and `hbm_bytes_moved` from it.

    `blocker` is the queue whose event an event could not start before, its own where only its turn
    counted, -1 where nothing held it up or it is not known; that event ended `lag_ps` before the
    start.
    """

    queue_names: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    queue: NDArray[np.int16]
    start_ps: NDArray[np.int64]
    end_ps: NDArray[np.int64]
    label: NDArray[np.int32]
    group: NDArray[np.int32]
    bytes: NDArray[np.int64]
    flops: NDArray[np.int64]
    blocker: NDArray[np.int16]
    lag_ps: NDArray[np.int64]
    counters: Mapping[str, Counter]
    total_ps: int
    metadata: Mapping[str, Any]
    repeats: tuple[Repeat, ...] = ()

    def __post_init__(self) -> None:
        """Check that the columns agree and freeze them; a UsageError names one that does not."""
        for name, dtype in COLUMN_TYPES.items():
            object.__setattr__(self, name, _frozen(np.asarray(getattr(self, name), dtype)))
        counters = {
            name: (_frozen(np.asarray(t, np.int64)), _frozen(np.asarray(v, np.float64)))
            for name, (t, v) in self.counters.items()
        }
        object.__setattr__(self, "counters", MappingProxyType(counters))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        _check_columns(self)
        _check_repeats(self)

    def __len__(self) -> int:
        """Return the number of events held, repetitions not counted."""
        return len(self.start_ps)

    @property
    def duration_ps(self) -> NDArray[np.int64]:
        """The length of each event held."""
        return np.asarray(self.end_ps - self.start_ps)

    def selects(self, repeat: Repeat, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each of `rows` whether `repeat` repeats it."""
        if repeat.first >= 0:
            return np.asarray((rows >= repeat.first) & (rows < repeat.stop))
        start = self.start_ps[rows]
        return np.asarray((start >= repeat.start_ps) & (start < repeat.start_ps + repeat.period_ps))

    def members(self, repeat: Repeat) -> NDArray[np.int64]:
        """Return the rows of the events that `repeat` repeats."""
        if repeat.first >= 0:
            return np.arange(repeat.first, repeat.stop, dtype=np.int64)
        return np.flatnonzero(self.selects(repeat, np.arange(len(self))))

    def multiplicity(self) -> NDArray[np.int64]:
        """Return how many times each event happened."""
        times = np.ones(len(self), np.int64)
        for repeat in self.repeats:
            times[self.members(repeat)] *= repeat.count
        return times

    def to_text(self) -> str:
        """Return the stable, diffable text form: one line a name, event, repeat and counter."""
        return "\n".join(_text_lines(self)) + "\n"


class TraceBuilder:
    """Grows a trace, event by event or column by column, until `finish` freezes it."""

    def __init__(self, metadata: Mapping[str, Any] | None = None) -> None:
        self.metadata: dict[str, Any] = dict(metadata or {})
        self._names: tuple[dict[str, int], ...] = ({}, {}, {})
        self._rows = array("q")
        self._blocks: list[dict[str, Column]] = []
        self._block_events = 0
        self._counters: dict[str, tuple[list[int], list[float]]] = {}
        self._repeats: list[Repeat] = []

    def __len__(self) -> int:
        """Return the number of events so far: the row that the next one gets."""
        return self._block_events + len(self._rows) // len(COLUMN_TYPES)

    def queue(self, name: str) -> int:
        """Return the number of a queue, a new one on first use (tracks are shown in that order)."""
        return self._names[0].setdefault(name, len(self._names[0]))

    def label(self, name: str) -> int:
        """Return the number of a label."""
        return self._names[1].setdefault(name, len(self._names[1]))

    def group(self, name: str) -> int:
        """Return the number of a group; the empty name stands for work of no layer."""
        return self._names[2].setdefault(name, len(self._names[2]))

    def add(
        self,
        queue: str,
        label: str,
        start_ps: int,
        end_ps: int,
        *,
        group: str = "",
        bytes: int = 0,
        flops: int = 0,
    ) -> int:
        """Record one event and return its row."""
        row = len(self)
        ids = (self.label(label), self.group(group))
        self._rows.extend((self.queue(queue), start_ps, end_ps, *ids, bytes, flops, -1, 0))
        return row

    def add_columns(
        self,
        queue: ArrayLike,
        start_ps: ArrayLike,
        end_ps: ArrayLike,
        label: ArrayLike,
        group: ArrayLike,
        bytes: ArrayLike = 0,
        flops: ArrayLike = 0,
        blocker: ArrayLike = -1,
        lag_ps: ArrayLike = 0,
    ) -> int:
        """Record events given as columns of numbers (scalars broadcast); return the first row."""
        first = len(self)
        self._flush()
        given = (queue, start_ps, end_ps, label, group, bytes, flops, blocker, lag_ps)
        columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(c, np.int64)) for c in given))
        self._blocks.append(
            {name: c.astype(t) for (name, t), c in zip(COLUMN_TYPES.items(), columns, strict=True)}
        )
        self._block_events += len(columns[0])
        return first

    def counter(self, name: str, t_ps: int, value: float) -> None:
        """Record that the level `name` is `value` from `t_ps` on."""
        times, values = self._counters.setdefault(name, ([], []))
        times.append(t_ps)
        values.append(value)

    def repeat(
        self,
        start_ps: int,
        period_ps: int,
        count: int,
        *,
        first: int = -1,
        stop: int = -1,
    ) -> None:
        """Say that events happen `count` times in all, `period_ps` apart (see Repeat for which)."""
        self._repeats.append(Repeat(start_ps, period_ps, count, first, stop))

    def extend(
        self, trace: Trace, at_ps: int = 0, *, count: int = 1, period_ps: int | None = None
    ) -> None:
        """Append `trace` at `at_ps`, `count` times, `period_ps` apart (its total by default)."""
        ids = [
            np.array([number(name) for name in names], np.int64)
            for number, names in (
                (self.queue, trace.queue_names),
                (self.label, trace.labels),
                (self.group, trace.groups),
            )
        ]
        first = self.add_columns(
            ids[0][trace.queue],
            trace.start_ps + at_ps,
            trace.end_ps + at_ps,
            ids[1][trace.label],
            ids[2][trace.group],
            trace.bytes,
            trace.flops,
            np.append(ids[0], -1)[trace.blocker],
            trace.lag_ps,
        )
        for name, (times, values) in trace.counters.items():
            own = self._counters.setdefault(name, ([], []))
            own[0].extend((times + at_ps).tolist())
            own[1].extend(values.tolist())
        period = trace.total_ps if period_ps is None else period_ps
        if count > 1 and len(trace):
            self.repeat(at_ps, period, count, first=first, stop=len(self))
        self._extend_repeats(trace, at_ps, first)

    def finish(self, total_ps: int | None = None) -> Trace:
        """Freeze what was recorded; `total_ps` is the end of the last repetition by default."""
        self._flush()
        columns = {
            name: np.concatenate([np.empty(0, dtype), *(b[name] for b in self._blocks)])
            for name, dtype in COLUMN_TYPES.items()
        }
        counters = {name: _counter(*samples) for name, samples in self._counters.items()}
        repeats = tuple(self._repeats)
        queues, labels, groups = (tuple(names) for names in self._names)
        if total_ps is None:
            total_ps = _last_end(columns["start_ps"], columns["end_ps"], repeats)
        return Trace(
            queue_names=queues,
            labels=labels,
            groups=groups,
            counters=counters,
            total_ps=total_ps,
            metadata=self.metadata,
            repeats=repeats,
            **columns,
        )

    def _flush(self) -> None:
        if not self._rows:
            return
        rows = np.array(self._rows, np.int64).reshape(-1, len(COLUMN_TYPES))
        self._blocks.append(
            {name: rows[:, i].astype(t) for i, (name, t) in enumerate(COLUMN_TYPES.items())}
        )
        self._block_events += len(rows)
        self._rows = array("q")

    def _extend_repeats(self, trace: Trace, at_ps: int, first: int) -> None:
        for repeat in trace.repeats:
            rows = trace.members(repeat)
            if not len(rows):
                continue
            if rows[-1] - rows[0] + 1 != len(rows):
                raise UsageError(
                    f"{repeat} of the trace to append selects rows that are not contiguous. "
                    "Give its rows (first, stop) when it is recorded."
                )
            self.repeat(
                repeat.start_ps + at_ps,
                repeat.period_ps,
                repeat.count,
                first=first + int(rows[0]),
                stop=first + int(rows[-1]) + 1,
            )


def _frozen(column: Column) -> Column:
    view = column.view()
    view.flags.writeable = False
    return view


def _counter(times: Sequence[int], values: Sequence[float]) -> Counter:
    t_ps, level = np.array(times, np.int64), np.array(values, np.float64)
    order = np.argsort(t_ps, kind="stable")
    return t_ps[order], level[order]


def _last_end(start_ps: Column, end_ps: Column, repeats: Iterable[Repeat]) -> int:
    ends = end_ps.copy()
    for repeat in repeats:
        rows: Any = slice(repeat.first, repeat.stop)
        if repeat.first < 0:
            rows = (start_ps >= repeat.start_ps) & (start_ps < repeat.start_ps + repeat.period_ps)
        ends[rows] += (repeat.count - 1) * repeat.period_ps
    return int(ends.max(initial=0))


def _check_columns(trace: Trace) -> None:
    size = len(trace.start_ps)
    for name in COLUMN_TYPES:
        shape = getattr(trace, name).shape
        if shape != (size,):
            raise UsageError(
                f"Trace column '{name}' has shape {shape}; 'start_ps' has {size} rows."
            )
    for name, names, least in (
        ("queue", trace.queue_names, 0),
        ("label", trace.labels, 0),
        ("group", trace.groups, 0),
        ("blocker", trace.queue_names, -1),
    ):
        ids = getattr(trace, name)
        if size and not least <= int(ids.min()) <= int(ids.max()) < len(names):
            raise UsageError(
                f"Trace column '{name}' holds {ids.min()} to {ids.max()}; "
                f"there are {len(names)} names."
            )
    backwards = np.flatnonzero((trace.end_ps < trace.start_ps) | (trace.start_ps < 0))
    if len(backwards):
        row = int(backwards[0])
        raise UsageError(
            f"Event {row} of the trace runs from {trace.start_ps[row]} to {trace.end_ps[row]} ps. "
            "An event starts at 0 or later and ends no earlier than it starts."
        )


def _check_repeats(trace: Trace) -> None:
    for repeat in trace.repeats:
        rows_ok = repeat.first == -1 or 0 <= repeat.first <= repeat.stop <= len(trace)
        if repeat.count < 1 or repeat.period_ps < 1 or not rows_ok:
            raise UsageError(
                f"{repeat} is no repeat of a trace of {len(trace)} events: count and period_ps are "
                "at least 1, and the rows lie in the trace."
            )


def _text_lines(trace: Trace) -> Iterable[str]:
    yield f"trace total_ps={trace.total_ps} events={len(trace)}"
    yield f"metadata {json.dumps(dict(trace.metadata), sort_keys=True)}"
    for kind, names in (
        ("queue", trace.queue_names),
        ("label", trace.labels),
        ("group", trace.groups),
    ):
        for number, name in enumerate(names):
            yield f"{kind} {number} {json.dumps(name)}"
    for repeat in trace.repeats:
        rows = f" rows={repeat.first}:{repeat.stop}" if repeat.first >= 0 else ""
        times = f"start_ps={repeat.start_ps} period_ps={repeat.period_ps} count={repeat.count}"
        yield f"repeat {times}{rows}"
    for name, (t_ps, values) in sorted(trace.counters.items()):
        samples = " ".join(f"{t}:{v:.17g}" for t, v in zip(t_ps, values, strict=True))
        yield f"counter {json.dumps(name)} {samples}"
    yield f"events {' '.join(COLUMN_TYPES)}"
    columns = [getattr(trace, name).tolist() for name in COLUMN_TYPES]
    for row in zip(*columns, strict=True):
        yield " ".join(map(str, row))

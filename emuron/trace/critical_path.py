"""Critical path: the chain of events, each held up by the one before, that ends last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emuron.trace.summary import UNGROUPED, queue_kind
from emuron.trace.trace import Trace
from emuron.trace.waits import Causes


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """The time of a run, all of it, by the (group, kind of queue) on the path.

    `busy_ps` is time in which the path's event runs, `latency_ps` the time from the end of what an
    event waited for to its start (pipelines, semaphores, the fixed time of a DMA, set-ups).
    """

    events: int
    busy_ps: Mapping[tuple[str, str], int]
    latency_ps: Mapping[tuple[str, str], int]


def find_critical_path(trace: Trace, causes: Causes) -> CriticalPath:
    """Return the path that ends with the last event of a trace without repeats."""
    busy: Counter[tuple[str, str]] = Counter()
    latency: Counter[tuple[str, str]] = Counter()
    if not len(trace):
        return CriticalPath(0, busy, latency)
    kinds = [queue_kind(name) for name in trace.queue_names]
    row, until, events = int(np.argmax(trace.end_ps)), trace.total_ps, 0
    while row >= 0:
        key = (trace.groups[trace.group[row]] or UNGROUPED, kinds[trace.queue[row]])
        start, end = int(trace.start_ps[row]), min(int(trace.end_ps[row]), until)
        if not events:
            latency[key] += until - end
        busy[key] += max(end - start, 0)
        row, events = int(causes.row[row]), events + 1
        until = min(start, int(trace.end_ps[row])) if row >= 0 else 0
        latency[key] += start - until
    return CriticalPath(events, busy, latency)

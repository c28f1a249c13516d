"""Timeline: few enough slices to draw in a page, short neighbours merged where there are many."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emuron.trace.repetition import loops, unfold_if_small
from emuron.trace.summary import UNGROUPED, queue_kind
from emuron.trace.trace import Trace

MOST_SLICES = 12_000
_MOST_EVENTS = 400_000


def timeline_data(trace: Trace, most_slices: int = MOST_SLICES) -> dict[str, Any]:
    """Return what the page's timeline draws, json-able: names, and a column for each property.

    At most about `most_slices` slices; a slice of `n` > 1 stands for n short events of its queue.
    """
    shown = unfold_if_small(trace, _MOST_EVENTS)
    row, start, end, merged = _merged(shown, most_slices)
    used = sorted(set(shown.queue[row].tolist()))
    lane = {queue: number for number, queue in enumerate(used)}
    return {
        "total": shown.total_ps,
        "queues": [shown.queue_names[q] for q in used],
        "kinds": [queue_kind(shown.queue_names[q]) for q in used],
        "labels": list(shown.labels),
        "groups": [name or UNGROUPED for name in shown.groups],
        "lane": [lane[q] for q in shown.queue[row].tolist()],
        "start": start.tolist(),
        "length": (end - start).tolist(),
        "label": shown.label[row].tolist(),
        "group": shown.group[row].tolist(),
        "bytes": shown.bytes[row].tolist(),
        "flops": shown.flops[row].tolist(),
        "n": merged.tolist(),
        "repeats": [
            [r.start_ps + r.period_ps, (r.count - 1) * r.period_ps, r.count] for r in loops(shown)
        ],
    }


def _merged(trace: Trace, most: int) -> tuple[NDArray[np.int64], ...]:
    """Return (row, start, end, events) of the slices to draw; `row` is each one's longest event."""
    start, end = trace.start_ps, trace.end_ps
    if len(trace) <= most:
        return np.arange(len(trace)), start, end, np.ones(len(trace), np.int64)
    width = max(1, trace.total_ps * max(len(trace.queue_names), 1) // most)
    while True:
        short = trace.duration_ps < width
        bins = start // width * len(trace.queue_names) + trace.queue
        key = np.where(short, bins, -1 - np.arange(len(trace)))
        count = len(np.unique(key))
        if count <= most or width >= trace.total_ps:
            break
        width *= 2
    order = np.lexsort((trace.duration_ps, key))
    first = np.flatnonzero(np.diff(key[order], prepend=key[order][0] - 1))
    last = np.append(first[1:], len(order)) - 1
    return (
        order[last],
        np.minimum.reduceat(start[order], first),
        np.maximum.reduceat(end[order], first),
        last - first + 1,
    )

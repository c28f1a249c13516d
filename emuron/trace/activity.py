"""Activity over time: DMA bandwidth and lanes for events that overlap on one queue."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from emuron.trace.summary import queue_kind
from emuron.trace.trace import Trace


def dma_bandwidth(trace: Trace, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (edges in ps, GB/s between them): DMA bytes, each spread evenly over its event."""
    edges = np.linspace(0, max(trace.total_ps, 1), bins + 1)
    is_dma = np.array([queue_kind(name) == "dma" for name in trace.queue_names], bool)
    rows = np.flatnonzero(is_dma[trace.queue] & (trace.bytes > 0))
    start, moved = trace.start_ps[rows], trace.bytes[rows].astype(np.float64)
    # An event of no length moves its bytes within its picosecond.
    end = np.maximum(trace.end_ps[rows], start + 1)
    rate = moved / (end - start)
    arrived = _ramps(start, rate, edges) - _ramps(end, rate, edges)
    # Bytes per picosecond are thousands of GB/s.
    return edges, np.maximum(np.diff(arrived), 0.0) / np.diff(edges) * 1000


def _ramps(
    begin: NDArray[np.int64], rate: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum, over all ramps, of rate x (at - begin) where at > begin."""
    order = np.argsort(begin, kind="stable")
    begin, rate = begin[order], rate[order]
    slope = np.concatenate([[0.0], np.cumsum(rate)])
    offset = np.concatenate([[0.0], np.cumsum(rate * begin)])
    upto = np.searchsorted(begin, at, side="left")
    return np.asarray(slope[upto] * at - offset[upto])


def lanes(start_ps: NDArray[np.int64], end_ps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a lane for each event so that no two in a lane overlap; as few lanes as possible."""
    lane = np.zeros(len(start_ps), np.int64)
    order = np.lexsort((end_ps, start_ps))
    reach = np.maximum.accumulate(end_ps[order]) if len(order) else end_ps
    if not bool((start_ps[order][1:] < reach[:-1]).any()):
        return lane
    running: list[tuple[int, int]] = []
    free: list[int] = []
    used = 0
    starts, ends = start_ps.tolist(), end_ps.tolist()
    for event in order.tolist():
        while running and running[0][0] <= starts[event]:
            heappush(free, heappop(running)[1])
        if not free:
            heappush(free, used)
            used += 1
        lane[event] = heappop(free)
        heappush(running, (ends[event], int(lane[event])))
    return lane

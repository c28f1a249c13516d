"""What each event of a timed program waited for: the queue, and how long before that had ended.

The engine keeps only when things happen. Of the instructions that an event waits for, the one that
decided its start is found by its time: completion, plus the wait's delay, plus what comes before
the start (a set-up, a DMA's way to its first byte) is exactly the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from emuron.sim import timing_layout as at

Column: TypeAlias = NDArray[np.int64]

_Waits: TypeAlias = dict[tuple[int, int], Column]  # of (queue, delay): the rows that wait so


class Blockers:
    """Finds blockers in the engine's memory `m` and the `events` of its history.

    `repeats` are (queue, first event, end, period, count) of what was skipped.
    """

    def __init__(self, m: Column, events: Column, repeats: Iterable[tuple[int, ...]]) -> None:
        self._m = m
        self._first_queue = int(m[at.QUEUES_FROM])
        self._records = m[self._first_queue : int(m[at.QUEUES_TO])].reshape(-1, at.QUEUE)
        self._events = [
            events[r[at.FIRST] : r[at.HISTORY] + r[at.ISSUED]] for r in self._records.tolist()
        ]
        self._starts = self._code_starts()
        self._before = [np.append([0], own[:-1, at.EVENT_END]) for own in self._events]
        # Of each queue: completions and ends, of the last copy of what was skipped too.
        self._ends = [own[:, (at.EVENT_DONE, at.EVENT_END)] for own in self._events]
        for queue, begin, stop, period, count in repeats:
            own, last = self._events[queue], (count - 1) * period
            copied = own[begin:stop, (at.EVENT_DONE, at.EVENT_END)] + last
            self._ends[queue] = np.concatenate([self._ends[queue], copied])
            self._before[queue][stop : stop + 1] = own[stop - 1, at.EVENT_END] + last
        self._ends = [ends[np.argsort(ends[:, 0], kind="stable")] for ends in self._ends]

    def of(self, queue: int) -> tuple[Column, Column]:
        """Return for each event of a queue its blocker's number (-1 if none) and the lag in ps."""
        own = self._events[queue]
        start, row = own[:, at.EVENT_START], own[:, at.EVENT_ROW]
        blocker, lag = np.full(len(own), queue, np.int64), start - self._before[queue]
        blocker[:1] = -1
        is_transfer = self._m[row] == at.TRANSFER
        ahead = self._m[row + np.where(is_transfer, at.BEFORE_PS, at.SETUP_PS)]
        for (other, delay), rows in self._waits(queue).items():
            late = np.flatnonzero((lag > 0) & np.isin(row, rows))
            done, end = self._ends[other].T
            if not len(done):
                continue
            wanted = (start - ahead)[late] - delay
            found = np.minimum(np.searchsorted(done, wanted), len(done) - 1)
            exact = done[found] == wanted
            late, found = late[exact], found[exact]
            blocker[late] = other
            lag[late] = start[late] - end[found]
        return blocker, lag

    def _code_starts(self) -> list[tuple[int, int]]:
        """Return of each queue the pointers to its first row and its first wait."""
        starts = []
        wait = int(self._records[-1, at.END])  # waits follow the rows of the last queue
        for record, own in zip(self._records.tolist(), self._events, strict=True):
            row = int(own[0, at.EVENT_ROW]) if len(own) else record[at.END]
            starts.append((row, wait))
            kinds = self._m[row : record[at.END] : at.ROW]
            ends = self._m[row + at.WAIT_END : record[at.END] : at.ROW]
            wait = int(ends[kinds != at.BACK_EDGE].max(initial=wait))
        return starts

    def _waits(self, queue: int) -> _Waits:
        """Return the rows of a queue by what they wait for."""
        (row, wait), m = self._starts[queue], self._m
        rows = np.arange(row, int(self._records[queue, at.END]), at.ROW)
        rows = rows[m[rows] != at.BACK_EDGE]
        ends = m[rows + at.WAIT_END]
        counts = np.diff(ends, prepend=wait) // at.WAIT
        waits = wait + at.WAIT * np.arange(int(counts.sum()))
        numbers = (m[waits] - self._first_queue) // at.QUEUE
        delays = m[waits + at.DELAY]
        least = int(delays.min(initial=0))
        span = int(delays.max(initial=0)) - least + 1
        kinds, index = np.unique(numbers * span + delays - least, return_inverse=True)
        owners = np.repeat(rows, counts)
        found = [(divmod(kind, span), owners[index == n]) for n, kind in enumerate(kinds.tolist())]
        return {(other, delay + least): waiting for (other, delay), waiting in found}

"""Bytes of a partition given out and taken back: what was freed the longest time ago goes first."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

_NEVER = -1  # when bytes were freed that nobody used yet
_TAKEN = sys.maxsize  # when bytes will be that are in use

Gap = tuple[int, int, int]  # row at which it was freed, first byte, end


class Arena:
    """The bytes of a partition as stretches: free since a row of the program, or taken.

    Sizes are rounded up to multiples of `unit`. Where several gaps are large enough, `take` gives
    the one whose last byte was freed first, if `oldest_first`; of those, or else, the lowest.
    Bytes must be given back in the order of rows.
    """

    def __init__(self, capacity: int, unit: int, oldest_first: bool) -> None:
        self._unit = unit
        self._oldest_first = oldest_first
        end = capacity // unit * unit
        # The stretches by first byte: their starts, and for each its end and when it was freed.
        self._starts = [0]
        self._stretches: dict[int, tuple[int, int]] = {0: (end, _NEVER)}
        self._freed: list[Gap] = [(_NEVER, 0, end)]  # all that ever was, in order
        self._vain: dict[int, int] = {}
        """For each size, how many of these have no window of it: what was freed later is younger,
        and what is taken makes windows smaller, so that they will not have one again."""

    def take(self, size: int, forbidden: Iterable[tuple[int, int]]) -> int | None:
        """Take `size` bytes outside the forbidden stretches; return the first, None if none."""
        size = self._rounded(size)
        blocked = sorted(forbidden)
        if self._oldest_first and not blocked:
            start = self._longest_free(size)
        else:
            gaps = self._beside(blocked)
            start = _oldest(sorted(gaps), size) if self._oldest_first else _lowest(gaps, size)
        if start is not None:
            self._mark(start, start + size, _TAKEN)
        return start

    def release(self, start: int, size: int, row: int) -> None:
        """Give bytes back after a row."""
        end = start + self._rounded(size)
        self._mark(start, end, row)
        self._freed.append((row, start, end))

    def _longest_free(self, size: int) -> int | None:
        """Return the start of the window that was free first, the lowest if several."""
        best: int | None = None
        level = _NEVER
        for number in range(self._vain.get(size, 0), len(self._freed)):
            freed = self._freed[number][0]
            if best is not None and freed > level:
                break
            found = self._window(number, size)
            if found is not None:
                best, level = found if best is None else min(best, found), freed
            elif best is None:
                self._vain[size] = number + 1
        return best

    def _window(self, gap: int, size: int) -> int | None:
        """Return the start of bytes, free for as long, around what is left of a gap."""
        freed, start, end = self._freed[gap]
        starts, stretches = self._starts, self._stretches
        same = stretches.get(start)
        if same is not None and same[0] >= end and same[1] != freed:
            return None  # all of it has been taken
        first = number = bisect_left(starts, start)
        while number < len(starts) and starts[number] < end:
            if stretches[starts[number]][1] == freed:
                low, number = self._run(number, freed)
                if stretches[starts[number - 1]][0] - starts[low] >= size:
                    return starts[low]
            elif first == number:  # nothing is left up to here
                first += 1
                self._freed[gap] = (freed, starts[number] + 1, end)
            number += 1
        return None

    def _run(self, number: int, freed: int) -> tuple[int, int]:
        """Return the stretches around one that have been free for as long: first and end."""
        starts, stretches = self._starts, self._stretches
        low, high = number, number + 1
        while low and stretches[starts[low - 1]][1] <= freed:
            low -= 1
        while high < len(starts) and stretches[starts[high]][1] <= freed:
            high += 1
        return low, high

    def _rounded(self, size: int) -> int:
        return -(-max(1, size) // self._unit) * self._unit

    def _beside(self, blocked: list[tuple[int, int]]) -> Iterator[Gap]:
        """Yield what is free outside of sorted stretches that are blocked."""
        merged: list[tuple[int, int]] = []
        for start, end in blocked:
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        ends = [end for _, end in merged]
        for start in self._starts:
            end, freed = self._stretches[start]
            if freed == _TAKEN:
                continue
            first = start
            for a, b in merged[bisect_right(ends, start) :]:
                if a >= end:
                    break
                if a > first:
                    yield freed, first, a
                first = max(first, self._rounded(b))
            if first < end:
                yield freed, first, end

    def _mark(self, start: int, end: int, freed: int) -> None:
        """Let a stretch be taken, or free since a row; what it covers partly is split."""
        starts, stretches = self._starts, self._stretches
        same = stretches.get(start)
        if same is not None and same[0] == end:
            stretches[start] = (end, freed)
            return
        low = bisect_right(starts, start) - 1
        high = bisect_left(starts, end, low)
        parts = [start]
        if starts[low] < start:
            last, old = stretches[starts[low]]
            stretches[starts[low]] = (start, old)
            parts.insert(0, starts[low])
            stretches[start] = (last, old)
        final = starts[high - 1] if starts[high - 1] > start else start
        last, old = stretches[final]
        if last > end:
            stretches[end] = (last, old)
            parts.append(end)
        for first in starts[low + 1 : high]:
            del stretches[first]
        stretches[start] = (end, freed)
        starts[low:high] = parts


def _oldest(gaps: list[Gap], size: int) -> int | None:
    """Return the start of the window that was free first, the lowest if several; sorted gaps.

    Gaps join in the order in which they were freed, until neighbours are large enough together.
    """
    ends: dict[int, int] = {}  # of each joined run, by its start
    starts: dict[int, int] = {}  # and by its end
    best: int | None = None
    level = _NEVER
    for freed, start, end in gaps:
        if best is not None and freed > level:
            break
        first, last = starts.pop(start, start), ends.pop(end, end)
        ends[first], starts[last] = last, first
        if last - first >= size:
            best = first if best is None else min(best, first)
            level = freed
    return best


def _lowest(gaps: Iterable[Gap], size: int) -> int | None:
    """Return the lowest start of a window that is free; gaps by start."""
    first = last = -1
    for _, start, end in gaps:
        if start != last:
            first = start
        last = end
        if last - first >= size:
            return first
    return None

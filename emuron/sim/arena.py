"""Bytes of a partition given out and taken back: what was freed the longest time ago goes first."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

_NEVER = -1  # when bytes were freed that nobody used yet

Gap = tuple[int, int, int]  # row at which it was freed, first byte, end


class Arena:
    """The bytes of a partition as stretches: free since a row of the program, or taken.

    Sizes are rounded up to multiples of `unit`. Where several gaps are large enough, `take` gives
    the one whose last byte was freed first, if `oldest_first`; of those, or else, the lowest.
    """

    def __init__(self, capacity: int, unit: int, oldest_first: bool) -> None:
        self._unit = unit
        self._oldest_first = oldest_first
        end = capacity // unit * unit
        # The stretches by first byte: their starts, and for each its end and when it was freed.
        self._starts = [0]
        self._stretches: dict[int, tuple[int, int | None]] = {0: (end, _NEVER)}
        self._free: list[Gap] = [(_NEVER, 0, end)]  # in order

    def take(self, size: int, forbidden: Iterable[tuple[int, int]]) -> int | None:
        """Take `size` bytes outside the forbidden stretches; return the first, None if none."""
        size = self._rounded(size)
        blocked = sorted(forbidden)
        gaps = self._free if not blocked else sorted(self._beside(blocked))
        start = _oldest(gaps, size) if self._oldest_first else _lowest(gaps, size)
        if start is not None:
            self._mark(start, start + size, None)
        return start

    def release(self, start: int, size: int, row: int) -> None:
        """Give bytes back after a row."""
        self._mark(start, start + self._rounded(size), row)

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
        for freed, start, end in self._free:
            first = start
            for a, b in merged[bisect_right(ends, start) :]:
                if a >= end:
                    break
                if a > first:
                    yield freed, first, a
                first = max(first, self._rounded(b))
            if first < end:
                yield freed, first, end

    def _mark(self, start: int, end: int, freed: int | None) -> None:
        """Let a stretch be taken, or free since a row; what it covers partly is split."""
        low = bisect_right(self._starts, start) - 1
        high = bisect_left(self._starts, end)
        covered = self._starts[low:high]
        before = [covered[0]] if covered[0] < start else []
        after = [end] if self._stretches[covered[-1]][0] > end else []
        self._starts[low:high] = [*before, start, *after]
        for first in covered:
            last, old = self._stretches.pop(first)
            if old is not None:
                del self._free[bisect_left(self._free, (old, first, last))]
            if first < start:
                self._add(first, start, old)
            if last > end:
                self._add(end, last, old)
        self._add(start, end, freed)

    def _add(self, start: int, end: int, freed: int | None) -> None:
        self._stretches[start] = (end, freed)
        if freed is not None:
            insort(self._free, (freed, start, end))


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


def _lowest(gaps: list[Gap], size: int) -> int | None:
    """Return the lowest start of a window that is free."""
    first = last = -1
    for _, start, end in sorted(gaps, key=lambda gap: gap[1]):
        if start != last:
            first = start
        last = end
        if last - first >= size:
            return first
    return None

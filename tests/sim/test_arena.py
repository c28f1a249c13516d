"""The arena that gives out on-chip bytes, against a search over all bytes one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.sim.arena import Arena

CAPACITY = 64


class ByteByByte:
    """Holds for each byte when it was freed, None while taken."""

    def __init__(self, unit: int, oldest_first: bool) -> None:
        self.freed: list[int | None] = [-1] * CAPACITY
        self.unit, self.oldest_first = unit, oldest_first

    def rounded(self, size: int) -> int:
        while size % self.unit:
            size += 1
        return size

    def take(self, size: int, forbidden: list[tuple[int, int]]) -> int | None:
        size = self.rounded(size)
        found = []
        for start in range(0, CAPACITY - size + 1, self.unit):
            window = self.freed[start : start + size]
            clear = all(b <= start or a >= start + size for a, b in forbidden)
            if clear and all(row is not None for row in window):
                latest = max(row for row in window if row is not None)
                found.append((latest if self.oldest_first else 0, start))
        if not found:
            return None
        start = min(found)[1]
        self.freed[start : start + size] = [None] * size
        return start

    def release(self, start: int, size: int, row: int) -> None:
        size = self.rounded(size)
        self.freed[start : start + size] = [row] * size


STRETCHES = st.lists(
    st.tuples(st.integers(0, CAPACITY - 1), st.integers(1, 9)).map(lambda s: (s[0], s[0] + s[1])),
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 20), STRETCHES, st.integers(0, 3)), max_size=40),
)
def test_it_gives_what_a_search_over_all_bytes_gives(
    unit: int, oldest_first: bool, steps: list[tuple[int, list[tuple[int, int]], int]]
) -> None:
    arena, naive = Arena(CAPACITY, unit, oldest_first), ByteByByte(unit, oldest_first)
    held: list[tuple[int, int]] = []
    for row, (size, forbidden, back) in enumerate(steps):
        for _ in range(min(back, len(held))):
            start, old = held.pop(row % len(held))
            arena.release(start, old, row)
            naive.release(start, old, row)
        found = arena.take(size, forbidden)
        assert found == naive.take(size, forbidden)
        if found is not None:
            held.append((found, size))


def test_what_is_not_a_whole_unit_is_left() -> None:
    arena = Arena(10, 4, True)
    assert [arena.take(4, []) for _ in range(3)] == [0, 4, None]


@pytest.mark.parametrize(("oldest_first", "expected"), [(True, 8), (False, 0)])
def test_the_oldest_or_the_lowest_gap_is_taken(oldest_first: bool, expected: int) -> None:
    arena = Arena(12, 4, oldest_first)
    for _ in range(3):
        arena.take(4, [])
    arena.release(8, 4, 1)
    arena.release(0, 4, 2)
    assert arena.take(4, []) == expected

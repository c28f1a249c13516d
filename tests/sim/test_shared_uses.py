"""Which uses of a shared tensor may clash, against sets of bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.numerics.dtypes import dtype
from emuron.sim.shared_uses import Use, near

ROWS, COLUMNS = 6, 8
TENSOR = Tensor("t", (ROWS, COLUMNS), dtype("float16"), MemoryRegion.shared_hbm)


@st.composite
def uses(draw: st.DrawFn) -> Use:
    height, width = draw(st.integers(1, ROWS)), draw(st.integers(1, COLUMNS))
    left = draw(st.integers(0, COLUMNS - width))
    like = AccessPattern(TENSOR, (height, width), (COLUMNS, 1))
    reads, writes = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    if draw(st.booleans()):
        rows = st.lists(st.integers(-1, ROWS - 1), min_size=height, max_size=height)
        chosen = [row * COLUMNS + left if row >= 0 else -1 for row in draw(rows)]
        return Use(0, like, reads, writes, np.array(chosen, np.int64).reshape(height, 1))
    top = draw(st.integers(0, ROWS - height))
    return Use(0, like, reads, writes, top * COLUMNS + left)


def elements(use: Use) -> set[int]:
    first = use.places
    if isinstance(first, int):
        first = first + np.arange(use.like.shape[0]) * COLUMNS
    return {place + k for place in first.ravel() if place >= 0 for k in range(use.like.shape[1])}


@given(st.tuples(*[st.lists(uses(), min_size=1, max_size=5)] * 2))
def test_no_use_that_clashes_is_left_out(both: tuple[list[Use], list[Use]]) -> None:
    found = near(TENSOR, both)
    for one in both[0]:
        for two in both[1]:
            common = elements(one) & elements(two)
            if common and (one.writes or two.writes):
                assert found is not None
                assert one in found.uses[0]
                assert two in found.uses[1]
                assert found.low <= 2 * min(common)
                assert 2 * max(common) + 2 <= found.high


def test_parts_side_by_side_are_no_near_uses() -> None:
    left, right = (
        Use(0, AccessPattern(TENSOR, (ROWS, 4), (COLUMNS, 1)), False, True, place)
        for place in (0, 4)
    )
    assert near(TENSOR, ([left], [right])) is None

"""Who lies on which bytes, against a count byte by byte."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emuron.sim import tenancies as module
from emuron.sim.tenancies import tenancies

STRETCHES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 9)).map(lambda s: (s[0], s[0] + s[1])), max_size=12
)


def neighbours(stretches: list[tuple[int, int]]) -> dict[int, list[int]]:
    """Return the tenants of each byte, in order."""
    return {
        byte: [n for n, (start, end) in enumerate(stretches) if start <= byte < end]
        for byte in range(30)
    }


@pytest.mark.parametrize("at_once", [1, 7, 1 << 22])
@given(stretches=STRETCHES)
def test_each_cell_has_the_tenants_of_its_bytes(
    at_once: int, stretches: list[tuple[int, int]]
) -> None:
    start, end = np.array(stretches, np.int64).reshape(-1, 2).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", at_once)
        found = list(tenancies(start, end))
    expected = neighbours(stretches)
    pairs = {(one, two) for own in expected.values() for one, two in pairwise(own)}
    outer = {(own[0], own[-1]) for own in expected.values() if own}
    assert pairs == {
        (int(part.tenant[at - 1]), int(part.tenant[at])) for part in found for at in part.follows
    }
    for part in found:
        outer -= set(
            zip(part.tenant[part.opens].tolist(), part.tenant[part.closes].tolist(), strict=True)
        )
    assert not outer
    assert sum(int(part.size.sum()) for part in found) == sum(map(len, expected.values()))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    seeds,
)


def test_max8_gives_the_largest_in_descending_order_with_duplicates(bench):
    x = integers((3, 20))
    dst = bench.empty((3, 8))
    bench.run("max8", dst=dst, src=bench.tile(x))
    expected = [sorted(row, reverse=True)[:8] for row in x.tolist()]
    np.testing.assert_array_equal(bench.values(dst), expected)


@pytest.mark.parametrize("count", [7, 16385])
def test_max8_refuses_rows_that_are_too_short_or_too_long(bench, count):
    with pytest.raises(HardwareLimitError, match=f"src has {count} elements.*8 to 16384"):
        bench.form("max8", dst=bench.empty((3, 8)), src=bench.empty((3, count)))


@on_every_generation(
    "max8",
    rows=st.integers(1, 5),
    count=st.integers(8, 20),
    kind=st.sampled_from(KINDS),
    seed=seeds,
    lay=st.tuples(layouts, layouts),
)
def test_it_is_the_start_of_the_sorted_row(core, rows, count, kind, seed, lay):
    bench = Bench(core)
    x = small((rows, count), kind, seed)
    dst = bench.room((rows, 8), lay[0])
    bench.run("max8", dst=dst, src=bench.lay(x, lay[1], kind))
    for p in range(rows):
        assert bench.seen(dst)[p].tolist() == sorted(x[p].tolist())[::-1][:8]


def test_a_search_streams_after_a_fixed_time(bench):
    form = bench.form("max8", dst=bench.empty((3, 8)), src=bench.empty((3, 1000)))
    assert form.cost.cycles == 1000 + bench.core.timing.max8_fixed_cycles

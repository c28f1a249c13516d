from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    seeds,
)


def test_match_replace8_uses_up_places_from_the_last_value_on(bench):
    # NKI 0.6: duplicates are handled from vals[7] down.
    data = [[5, 3, 5, 9, 5, 1, 3, 0, 2]]
    vals = [[5, 5, 9, 20, 21, 22, 23, 24]]
    dst, index = bench.empty((1, 9)), bench.empty((1, 8), "uint32")
    bench.run(
        "nc_match_replace8",
        dst=dst,
        data=bench.tile(data),
        vals=bench.tile(vals),
        imm=-1.0,
        dst_idx=index,
    )
    np.testing.assert_array_equal(bench.values(dst), [[-1, 3, -1, -1, 5, 1, 3, 0, 2]])
    absent = 2**32 - 1
    np.testing.assert_array_equal(bench.read(index), [[2, 0, 3, *[absent] * 5]])


def test_match_replace8_works_without_places(bench):
    dst = bench.empty((1, 9))
    data = bench.tile([range(9)])
    bench.run("nc_match_replace8", dst=dst, data=data, vals=bench.tile([range(8)]), imm=0.0)
    np.testing.assert_array_equal(bench.values(dst), [[0] * 8 + [8]])


@on_every_generation(
    "nc_match_replace8",
    rows=st.integers(1, 4),
    count=st.integers(8, 14),
    kind=st.sampled_from(KINDS),
    seed=seeds,
    lay=st.tuples(layouts, layouts),
)
def test_values_from_the_last_on_replace_the_next_place_that_holds_them(
    core, rows, count, kind, seed, lay
):
    bench = Bench(core)
    x = integers((rows, count), seed, 0, 4)
    vals = integers((rows, 8), seed + 1, 0, 5)
    dst, index = bench.room((rows, count), lay[0]), bench.empty((rows, 8), "uint32")
    bench.run(
        "nc_match_replace8",
        dst=dst,
        data=bench.lay(x, lay[1], kind),
        vals=bench.tile(vals),
        imm=-7.0,
        dst_idx=index,
    )
    for p in range(rows):
        row, places = x[p].tolist(), [2**32 - 1] * 8
        for column in reversed(range(8)):
            for i in range(count):
                if x[p, i] == vals[p, column] and row[i] != -7:
                    row[i], places[column] = -7, i
                    break
        assert bench.seen(dst)[p].tolist() == row
        assert bench.read(index)[p].tolist() == places


def test_limits_and_cost(bench):
    named = {"data": bench.empty((3, 1000)), "vals": bench.empty((3, 8)), "imm": 0.0}
    form = bench.form("nc_match_replace8", dst=bench.empty((3, 1000)), **named)
    assert form.cost.cycles == 1000 + bench.core.timing.max8_fixed_cycles
    with pytest.raises(HardwareLimitError, match="has 3 partitions of 999 elements"):
        bench.form("nc_match_replace8", dst=bench.empty((3, 999)), **named)

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


@pytest.mark.parametrize("kind", ["uint32", "uint16"])
def test_find_index8_takes_successive_places_for_equal_values(bench, kind):
    data = [[5, 3, 5, 9, 5, 1, 3, 0, 2]]
    vals = [[9, 5, 5, 5, 5, 3, 7, 0]]
    dst = bench.empty((1, 8), kind)
    bench.run("nc_find_index8", dst=dst, data=bench.tile(data), vals=bench.tile(vals))
    absent = int(np.iinfo(kind).max)
    np.testing.assert_array_equal(bench.read(dst), [[3, 0, 2, 4, absent, 1, absent, 7]])


@on_every_generation(
    "nc_find_index8",
    rows=st.integers(1, 4),
    count=st.integers(8, 14),
    kind=st.sampled_from(KINDS),
    out=st.sampled_from(["uint32", "uint16"]),
    seed=seeds,
    lay=st.tuples(layouts, layouts),
)
def test_each_value_gets_the_next_place_that_holds_it(core, rows, count, kind, out, seed, lay):
    bench = Bench(core)
    x = integers((rows, count), seed, 0, 4)
    vals = integers((rows, 8), seed + 1, 0, 5)
    dst = bench.room((rows, 8), lay[0], out)
    bench.run("nc_find_index8", dst=dst, data=bench.lay(x, lay[1], kind), vals=bench.tile(vals))
    absent = 2 ** (32 if out == "uint32" else 16) - 1
    for p in range(rows):
        left = {v: [i for i in range(count) if x[p, i] == v] for v in range(5)}
        expected = [(left[int(v)] or [absent]).pop(0) for v in vals[p]]
        assert bench.seen(dst)[p].tolist() == expected


def test_limits_and_cost(bench):
    named = {"data": bench.empty((3, 1000)), "vals": bench.empty((3, 8))}
    form = bench.form("nc_find_index8", dst=bench.empty((3, 8), "uint32"), **named)
    assert form.cost.cycles == 1000 + bench.core.timing.max8_fixed_cycles
    with pytest.raises(HardwareLimitError, match=r"dst .* is int32"):
        bench.form("nc_find_index8", dst=bench.empty((3, 8), "int32"), **named)
    with pytest.raises(HardwareLimitError, match="data has 7 elements"):
        bench.form(
            "nc_find_index8",
            dst=bench.empty((3, 8), "uint32"),
            data=bench.empty((3, 7)),
            vals=bench.empty((3, 8)),
        )

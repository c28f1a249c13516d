from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    places,
    shapes,
)


def test_the_reciprocal_of_zero_is_infinite(bench):
    dst = bench.empty((1, 3))
    bench.run("reciprocal", dst=dst, data=bench.tile([[4.0, 0.0, -0.5]]))
    np.testing.assert_array_equal(bench.values(dst), [[0.25, np.inf, -2.0]])


@on_every_generation(
    "reciprocal",
    shape=shapes,
    kind=st.sampled_from(KINDS),
    out=st.sampled_from(["float32", "bfloat16"]),
    where=places,
    lay=st.tuples(layouts, layouts),
)
def test_it_is_the_nearest_number_to_the_fraction(core, shape, kind, out, where, lay):
    bench = Bench(core)
    x = small(shape, kind)
    x[x == 0] = 7
    dst = bench.room(shape, lay[0], out)
    bench.run("reciprocal", dst=dst, data=bench.lay(x, lay[1], kind, where))
    unit = Fraction(1, 2 ** (24 if out == "float32" else 8))
    for p in range(shape[0]):
        for i in range(shape[1]):
            exact = Fraction(1, int(x[p, i]))
            found = Fraction(float(bench.seen(dst)[p, i]))
            assert abs(found - exact) <= unit * abs(exact)


def test_it_takes_eight_cycles_an_element(bench):
    tiles = {"dst": bench.empty((4, 100)), "data": bench.empty((4, 100))}
    assert bench.form("reciprocal", **tiles).cost.cycles == 800  # ISA v2.26: 8N


def test_unequal_sizes_are_refused(bench):
    with pytest.raises(HardwareLimitError, match="has 4 partitions of 5 elements"):
        bench.form("reciprocal", dst=bench.empty((4, 5)), data=bench.empty((4, 6)))

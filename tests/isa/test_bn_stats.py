from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    places,
    shapes,
)


@pytest.mark.parametrize("count", [1, 2, 7, 512])
def test_bn_stats_gives_count_mean_and_spread_of_even_and_odd_elements(bench, count):
    x = integers((3, count))
    dst = bench.empty((3, 6))
    bench.run("bn_stats", dst=dst, data=bench.tile(x))
    for p, row in enumerate(x.tolist()):
        expected = []
        for part in (row[0::2], row[1::2]):
            mean = sum(part) / len(part) if part else 0
            expected += [len(part), mean, sum((v - mean) ** 2 for v in part)]
        # Two sums of fp32: a few units in the last place.
        np.testing.assert_allclose(bench.values(dst)[p], expected, rtol=2e-6, atol=1e-6)


def test_bn_stats_refuses_more_than_512_elements(bench):
    with pytest.raises(HardwareLimitError, match="513 elements a partition; the limit is 512"):
        bench.form("bn_stats", dst=bench.empty((4, 6)), data=bench.empty((4, 513)))


@on_every_generation(
    "bn_stats",
    shape=shapes,
    kind=st.sampled_from(KINDS),
    where=places,
    lay=st.tuples(layouts, layouts),
)
def test_even_and_odd_elements_have_their_statistics(core, shape, kind, where, lay):
    bench = Bench(core)
    x = small(shape, kind)
    dst = bench.room((shape[0], 6), lay[0])
    bench.run("bn_stats", dst=dst, data=bench.lay(x, lay[1], kind, where))
    for p in range(shape[0]):
        expected = []
        for part in (x[p, 0::2].tolist(), x[p, 1::2].tolist()):
            mean = Fraction(int(sum(part)), len(part)) if part else Fraction(0)
            expected += [len(part), mean, sum((Fraction(int(v)) - mean) ** 2 for v in part)]
        # Two sums of fp32: a few units in the last place.
        np.testing.assert_allclose(
            bench.seen(dst)[p], [float(v) for v in expected], rtol=2e-6, atol=2e-6
        )


def test_statistics_stream(bench):
    form = bench.form("bn_stats", dst=bench.empty((4, 6)), data=bench.empty((4, 512)))
    assert form.cost.cycles == 512  # ISA v2.26

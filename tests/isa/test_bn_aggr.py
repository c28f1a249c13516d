from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers
from tests.isa.generations import (
    layouts,
    on_every_generation,
    seeds,
)


def test_bn_aggr_gives_mean_and_population_variance_of_all_parts(bench):
    x = integers((3, 700))
    stats = bench.empty((3, 12))
    for part, columns in enumerate((x[:, :512], x[:, 512:])):
        six = bench.empty((3, 6))
        bench.run("bn_stats", dst=six, data=bench.tile(columns))
        target = type(stats)(stats.tensor, (3, 6), (12, 1), 6 * part)
        bench.run("tensor_copy", dst=target, src=six)
    dst = bench.empty((3, 2))
    bench.run("bn_aggr", dst=dst, data=stats)
    for p, row in enumerate(x.tolist()):
        mean = math.fsum(row) / 700
        variance = math.fsum((v - mean) ** 2 for v in row) / 700
        np.testing.assert_allclose(bench.values(dst)[p], [mean, variance], rtol=2e-6, atol=1e-6)


def test_bn_aggr_refuses_incomplete_groups(bench):
    with pytest.raises(HardwareLimitError, match="Give groups of three"):
        bench.form("bn_aggr", dst=bench.empty((4, 2)), data=bench.empty((4, 7)))


@on_every_generation(
    "bn_aggr",
    rows=st.integers(1, 5),
    groups=st.integers(1, 4),
    seed=seeds,
    lay=st.tuples(layouts, layouts),
)
def test_groups_add_up_as_if_their_elements_were_known(core, rows, groups, seed, lay):
    bench = Bench(core)
    rng = np.random.default_rng(seed)
    parts = [
        [rng.integers(-8, 9, rng.integers(1, 6)).tolist() for _ in range(groups)]
        for _ in range(rows)
    ]
    stats = np.zeros((rows, 3 * groups), np.float32)
    for p, row in enumerate(parts):
        for g, values in enumerate(row):
            mean = sum(values) / len(values)
            spread = sum((v - mean) ** 2 for v in values)
            stats[p, 3 * g : 3 * g + 3] = [len(values), mean, spread]
    dst = bench.room((rows, 2), lay[0])
    bench.run("bn_aggr", dst=dst, data=bench.lay(stats, lay[1]))
    for p, row in enumerate(parts):
        values = [Fraction(v) for part in row for v in part]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        # The groups' means are rounded, and their differences cancel.
        np.testing.assert_allclose(
            bench.seen(dst)[p], [float(mean), float(variance)], rtol=1e-5, atol=1e-5
        )


def test_three_elements_take_13_cycles(bench):
    form = bench.form("bn_aggr", dst=bench.empty((4, 2)), data=bench.empty((4, 300)))
    assert form.cost.cycles == 1300  # ISA v2.26

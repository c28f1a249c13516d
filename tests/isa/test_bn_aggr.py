from __future__ import annotations

import math

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers


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

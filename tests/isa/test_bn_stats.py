from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers


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

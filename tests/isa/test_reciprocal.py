from __future__ import annotations

import numpy as np


def test_the_reciprocal_of_zero_is_infinite(bench):
    dst = bench.empty((1, 3))
    bench.run("reciprocal", dst=dst, data=bench.tile([[4.0, 0.0, -0.5]]))
    np.testing.assert_array_equal(bench.values(dst), [[0.25, np.inf, -2.0]])

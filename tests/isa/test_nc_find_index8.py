from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("kind", ["uint32", "uint16"])
def test_find_index8_takes_successive_places_for_equal_values(bench, kind):
    data = [[5, 3, 5, 9, 5, 1, 3, 0, 2]]
    vals = [[9, 5, 5, 5, 5, 3, 7, 0]]
    dst = bench.empty((1, 8), kind)
    bench.run("nc_find_index8", dst=dst, data=bench.tile(data), vals=bench.tile(vals))
    absent = int(np.iinfo(kind).max)
    np.testing.assert_array_equal(bench.read(dst), [[3, 0, 2, 4, absent, 1, absent, 7]])

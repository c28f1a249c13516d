from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers


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

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


@pytest.mark.parametrize("kind", ["uint32", "uint16"])
def test_find_index8_takes_successive_places_for_equal_values(bench, kind):
    data = [[5, 3, 5, 9, 5, 1, 3, 0, 2]]
    vals = [[9, 5, 5, 5, 5, 3, 7, 0]]
    dst = bench.empty((1, 8), kind)
    bench.run("nc_find_index8", dst=dst, data=bench.tile(data), vals=bench.tile(vals))
    absent = int(np.iinfo(kind).max)
    np.testing.assert_array_equal(bench.read(dst), [[3, 0, 2, 4, absent, 1, absent, 7]])


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

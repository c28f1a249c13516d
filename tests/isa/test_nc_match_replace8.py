from __future__ import annotations

import numpy as np


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

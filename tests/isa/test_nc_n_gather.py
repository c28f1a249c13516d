from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers


def test_n_gather_reads_each_partitions_own_indices(bench):
    x, index = integers((4, 9)), integers((4, 3, 2), 1, 0, 9)
    dst = bench.empty((4, 3, 2))
    bench.run("nc_n_gather", dst=dst, data=bench.tile(x), indices=bench.tile(index, "uint32"))
    expected = [[x[p, int(i)] for i in index[p].ravel()] for p in range(4)]
    np.testing.assert_array_equal(bench.values(dst).reshape(4, 6), expected)


def test_a_gather_beyond_the_row_is_refused(bench):
    named = {"dst": bench.empty((1, 1)), "data": bench.tile([[1.0, 2.0]])}
    with pytest.raises(HardwareLimitError, match=r"an index is 2; a partition .* has 2 elements"):
        bench.run("nc_n_gather", **named, indices=bench.tile([[2]], "uint32"))

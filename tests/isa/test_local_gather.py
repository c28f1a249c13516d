from __future__ import annotations

import numpy as np
import pytest

from tests.isa.bench import integers


@pytest.mark.parametrize("each", [1, 2])
def test_local_gather_shares_indices_among_16_partitions(bench, each):
    x = integers((32, 40))
    index = np.random.default_rng(3).integers(0, 38, (32, 2))
    dst = bench.empty((32, 20 * each), "bfloat16")
    bench.run(
        "local_gather",
        dst=dst,
        src_buffer=bench.tile(x, "bfloat16"),
        index=bench.tile(index, "uint16"),
        num_elem_per_idx=each,
        num_valid_indices=20,
    )
    for p in range(32):
        group = p // 16 * 16
        for k in range(20):
            start = index[group + k % 16, k // 16]
            for j in range(each):
                assert bench.values(dst)[p, k * each + j] == x[p, start + j]

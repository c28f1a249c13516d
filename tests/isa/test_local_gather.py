from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    on_every_generation,
    seeds,
)


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


@on_every_generation(
    "local_gather",
    groups=st.sampled_from([1, 2, 4]),
    columns=st.integers(1, 3),
    each=st.sampled_from([1, 2, 4]),
    kind=st.sampled_from(KINDS),
    left_out=st.integers(0, 15),
    seed=seeds,
)
def test_each_group_gathers_at_its_indices(core, groups, columns, each, kind, left_out, seed):
    bench = Bench(core)
    rows, count = 16 * groups, 16 * columns - left_out
    x = small((rows, 20), kind, seed)
    index = np.random.default_rng(seed).integers(0, 20 - each + 1, (rows, columns))
    dst = bench.empty((rows, count * each), kind)
    bench.run(
        "local_gather",
        dst=dst,
        src_buffer=bench.tile(x, kind),
        index=bench.tile(index, "uint16"),
        num_elem_per_idx=each,
        num_valid_indices=count,
    )
    for p in range(rows):
        expected = []
        for k in range(count):
            first = index[p - p % 16 + k % 16, k // 16]
            expected += x[p, first : first + each].tolist()
        assert bench.values(dst)[p].tolist() == expected


@pytest.mark.parametrize(
    ("rows", "more", "match"),
    [
        (24, {}, "src_buffer has 24 partitions"),
        (32, {"num_elem_per_idx": 3}, "num_elem_per_idx=3"),
        (32, {"num_valid_indices": 33}, "a group has 33 indices"),
    ],
)
def test_other_operands_are_refused(bench, rows, more, match):
    named = {
        "dst": bench.empty((rows, 32)),
        "src_buffer": bench.empty((rows, 40)),
        "index": bench.empty((rows, 2), "uint16"),
    }
    with pytest.raises(HardwareLimitError, match=match):
        bench.form("local_gather", **named, **more)


def test_its_cost_is_the_published_formula(bench):
    # ISA v2.26: 150 + n_idx·n·(28 + 4n)/(4n) / min(4/size, n), here with n = 1 and 4 bytes.
    named = {"dst": bench.empty((32, 32)), "src_buffer": bench.empty((32, 40))}
    form = bench.form("local_gather", **named, index=bench.empty((32, 2), "uint16"))
    assert form.cost.cycles == 150 + 32 * 8

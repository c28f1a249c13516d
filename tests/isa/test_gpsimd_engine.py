from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers
from tests.isa.test_alu import PYTHON

PATTERN = ((10, 3), (-2, 4))


def _affine(p, i, offset, channel):
    outer, inner = divmod(i, 4)
    return offset + channel * p + 10 * outer - 2 * inner


@pytest.mark.parametrize("kind", ["int32", "float32", "bfloat16", "uint32"])
def test_iota_counts_along_partitions_and_the_pattern(bench, kind):
    dst = bench.empty((5, 12), kind)
    bench.run("iota", dst=dst, pattern=PATTERN, offset=7, channel_multiplier=100)
    exact = np.array([[_affine(p, i, 7, 100) for i in range(12)] for p in range(5)])
    np.testing.assert_array_equal(bench.read(dst), exact.astype(dst.dtype.np))


def test_iota_keeps_all_bits_of_integers(bench):
    dst = bench.empty((1, 2), "int32")
    bench.run("iota", dst=dst, pattern=((1, 2),), offset=2**24 + 1)
    np.testing.assert_array_equal(bench.read(dst), [[2**24 + 1, 2**24 + 2]])


def test_iota_refuses_a_pattern_of_another_size(bench):
    with pytest.raises(HardwareLimitError, match="covers 12 elements, dst has 13"):
        bench.form("iota", dst=bench.empty((5, 13)), pattern=PATTERN)


@pytest.mark.parametrize(
    "op", ["equal", "not_equal", "greater", "greater_equal", "less", "less_equal"]
)
def test_affine_select_compares_the_affine_value_with_zero(bench, op):
    x = integers((5, 12))
    dst = bench.empty((5, 12))
    bench.run(
        "affine_select",
        dst=dst,
        pattern=PATTERN,
        channel_multiplier=-2,
        on_true_tile=bench.tile(x),
        on_false_value=-100.0,
        cmp_op=op,
        offset=-4,
    )
    for p in range(5):
        for i in range(12):
            holds = PYTHON[op](_affine(p, i, -4, -2), 0)
            assert bench.values(dst)[p, i] == (x[p, i] if holds else -100)


@pytest.mark.parametrize("op", ["add", "average", "maximum", "bitwise_or", "bitwise_and"])
def test_partition_reduce_folds_the_partitions(bench, op):
    x = integers((7, 5), low=0)
    kind = "int32" if op.startswith("bit") else "float32"
    dst = bench.empty((1, 5), kind)
    bench.run("tensor_partition_reduce", dst=dst, op=op, data=bench.tile(x, kind))
    columns = x.T.astype(int).tolist()
    if op == "average":
        np.testing.assert_allclose(bench.values(dst)[0], [sum(c) / 7 for c in columns], rtol=1e-6)
    else:
        np.testing.assert_array_equal(
            bench.values(dst)[0], [reduce(PYTHON[op], c) for c in columns]
        )


def test_gpsimd_instructions_refuse_psum(bench):
    with pytest.raises(HardwareLimitError, match="dst must lie in sbuf"):
        bench.form("iota", dst=bench.empty((5, 12), where="psum"), pattern=PATTERN)


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


def test_gpsimd_instructions_start_at_150_cycles(bench):
    form = bench.form("iota", dst=bench.empty((5, 12)), pattern=PATTERN)
    assert form.cost.cycles == 162  # ISA v2.26: 150 + N

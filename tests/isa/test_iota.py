from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError

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


def test_gpsimd_instructions_refuse_psum(bench):
    with pytest.raises(HardwareLimitError, match="dst must lie in sbuf"):
        bench.form("iota", dst=bench.empty((5, 12), where="psum"), pattern=PATTERN)


def test_gpsimd_instructions_start_at_150_cycles(bench):
    form = bench.form("iota", dst=bench.empty((5, 12)), pattern=PATTERN)
    assert form.cost.cycles == 162  # ISA v2.26: 150 + N

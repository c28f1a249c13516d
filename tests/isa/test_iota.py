from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench
from tests.isa.generations import (
    layouts,
    on_every_generation,
)

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


@on_every_generation(
    "iota",
    rows=st.integers(1, 6),
    pattern=st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 3)), min_size=1, max_size=4),
    offset=st.integers(-50, 50),
    channel=st.integers(-20, 20),
    kind=st.sampled_from(["int32", "float32"]),
    run_time=st.booleans(),
    lay=layouts,
)
def test_it_counts_as_nested_loops_do(core, rows, pattern, offset, channel, kind, run_time, lay):
    bench = Bench(core)
    expected = []
    for p in range(rows):
        values = [offset + channel * p]
        for step, count in pattern:
            values = [v + step * i for v in values for i in range(count)]
        expected.append(values)
    dst = bench.room((rows, len(expected[0])), lay, kind)
    bench.run(
        "iota",
        dst=dst,
        pattern=tuple(pattern),
        offset=bench.tile([[offset]], "int32", "register") if run_time else offset,
        channel_multiplier=channel,
    )
    assert bench.seen(dst).tolist() == expected


def test_an_offset_of_several_numbers_is_refused(bench):
    offset = bench.empty((1, 2), "int32")
    with pytest.raises(HardwareLimitError, match=r"offset is \[1, 2\] int32"):
        bench.form("iota", dst=bench.empty((5, 12)), pattern=PATTERN, offset=offset)

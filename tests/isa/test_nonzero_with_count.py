from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.hardware import catalog
from emuron.isa.tensor import AccessPattern
from tests.isa.bench import Bench
from tests.isa.generations import on_every_generation

LATER = ["trn2", "trn3"]


@on_every_generation(
    "nonzero_with_count",
    examples=12,
    rows=st.lists(st.lists(st.integers(0, 2), min_size=5, max_size=5), min_size=1, max_size=8),
    kind=st.sampled_from(["int32", "float32"]),
    offset=st.integers(-3, 2**24 + 1),
    padding=st.integers(-5, 5),
)
def test_the_first_partition_of_each_16_gets_places_padding_and_count(
    core, rows, kind, offset, padding
):
    bench = Bench(core)
    x = np.ones((16 * len(rows), 5))
    x[::16] = rows
    dst = bench.tile(np.full((len(x), 6), 99), "int32")
    bench.run(
        "nonzero_with_count",
        dst=dst,
        src=bench.tile(x, kind),
        index_offset=offset,
        padding_val=padding,
    )
    for p in range(len(x)):
        if p % 16:
            expected = [99] * 6
        else:
            places = [i + offset for i, v in enumerate(rows[p // 16]) if v != 0]
            expected = places + [padding] * (5 - len(places)) + [len(places)]
        assert bench.read(dst)[p].tolist() == expected


@pytest.mark.parametrize("name", LATER)
def test_partitions_that_nobody_wrote_do_no_harm(name):
    # Public kernels fill partition 0 alone and read the result of partition 0 alone.
    bench = Bench(catalog.chip(name).core)
    src, dst = bench.empty((128, 4)), bench.empty((128, 5), "int32")
    bench.run("memset", dst=AccessPattern(src.tensor, (1, 4), (4, 1)), value=1.0)
    bench.run("nonzero_with_count", dst=dst, src=src)
    first = bench.empty((1, 5), "int32")
    bench.run("tensor_copy", dst=first, src=AccessPattern(dst.tensor, (1, 5), (5, 1)))
    assert bench.read(first).tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("dst", "src", "match"),
    [
        (((4, 5), "int32"), ((4, 5), "int32"), r"dst .* must be \[4, 6\]"),
        (((4, 6), "uint32"), ((4, 5), "int32"), "dst .* is uint32"),
        (((4, 6), "int32"), ((4, 5), "bfloat16"), "src .* is bfloat16"),
        (((4, 6), "int32", "psum"), ((4, 5), "int32"), "dst must lie in sbuf"),
    ],
)
def test_other_operands_are_refused(trn2, dst, src, match):
    with pytest.raises(HardwareLimitError, match=match):
        trn2.form("nonzero_with_count", dst=trn2.empty(*dst), src=trn2.empty(*src))


def test_it_exists_from_v3_on(trn1):
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v3 on"):
        trn1.form(
            "nonzero_with_count", dst=trn1.empty((4, 6), "int32"), src=trn1.empty((4, 5), "int32")
        )


@pytest.mark.parametrize("name", LATER)
def test_its_time_grows_with_the_row(name):
    bench = Bench(catalog.chip(name).core)
    dst, src = bench.empty((16, 513), "int32"), bench.empty((16, 512), "int32")
    assert bench.form("nonzero_with_count", dst=dst, src=src).cost.cycles == 150 + 4 * 512

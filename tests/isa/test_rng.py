from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.isa.random_numbers import INTEGERS
from emuron.isa.tensor import AccessPattern
from tests.isa.bench import Bench
from tests.isa.generations import on_every_generation


@on_every_generation(
    "rng",
    examples=12,
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9)),
    kind=st.sampled_from(INTEGERS),
)
def test_narrow_types_get_the_lowest_bits(core, shape, kind):
    # Two machines start alike: the second draws the same bits in full.
    narrow, wide = (Bench(core) for _ in range(2))
    dst, full = narrow.empty(shape, kind), wide.empty(shape, "uint32")
    narrow.run("rng", dst=dst)
    wide.run("rng", dst=full)
    bits = 8 * narrow.read(dst).dtype.itemsize
    for found, word in zip(narrow.read(dst).ravel(), wide.read(full).ravel(), strict=True):
        assert int(found) % 2**bits == int(word) % 2**bits


def test_all_bits_are_even_and_lanes_and_draws_differ(bench):
    first, second = bench.empty((128, 256), "uint32"), bench.empty((128, 256), "uint32")
    bench.run("rng", dst=first)
    bench.run("rng", dst=second)
    words = np.concatenate([bench.read(first), bench.read(second)], 1)
    ones = [(words >> np.uint32(b) & 1).mean() for b in range(32)]
    # 65536 fair coins: five standard deviations are 0.0098.
    np.testing.assert_allclose(ones, 0.5, atol=0.0098)
    assert len(np.unique(words)) > 0.9999 * words.size


def test_lanes_draw_on_their_own(bench):
    # Partitions 32 to 63 draw as if the others had not been asked.
    other = Bench(bench.core)
    part, whole = bench.empty((64, 4), "uint32"), other.empty((64, 4), "uint32")
    bench.run("rng", dst=AccessPattern(part.tensor, (32, 4), (4, 1), 32 * 4))
    bench.run("rng", dst=AccessPattern(part.tensor, (32, 4), (4, 1), 0))
    other.run("rng", dst=whole)
    np.testing.assert_array_equal(bench.read(part), other.read(whole))


@pytest.mark.parametrize("later", ["trn2", "trn3"])
def test_gpsimd_has_a_generator_of_its_own(later, request):
    bench = request.getfixturevalue(later)
    vector, gpsimd = bench.empty((4, 50), "uint32"), bench.empty((4, 50), "uint32")
    bench.run("rng", dst=vector)
    assert bench.run("rng", dst=gpsimd, engine="gpsimd").engine == "gpsimd"
    assert (bench.read(vector) != bench.read(gpsimd)).any()


def test_limits(trn1, trn2):
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v3 on"):
        trn1.form("rng", dst=trn1.empty((4, 4), "int32"), engine="gpsimd")
    with pytest.raises(HardwareLimitError, match="cannot reach"):
        trn2.form("rng", dst=trn2.empty((4, 4), "int32", "psum"), engine="gpsimd")
    with pytest.raises(HardwareLimitError, match=r"dst .* is float32"):
        trn2.form("rng", dst=trn2.empty((4, 4)))


def test_it_streams(bench):
    assert bench.form("rng", dst=bench.empty((4, 512), "int32")).cost.cycles == 512

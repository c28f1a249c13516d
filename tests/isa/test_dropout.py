from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench
from tests.isa.generations import on_every_generation


@on_every_generation(
    "dropout",
    examples=12,
    kind=st.sampled_from(["float32", "bfloat16", "int32", "uint8"]),
    prob=st.sampled_from([0.0, 0.3, 1.0]),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9)),
)
def test_elements_are_kept_bit_by_bit_or_become_zero(core, kind, prob, shape):
    bench = Bench(core)
    high = 2**31 - 1 if kind == "int32" else 200
    data = bench.tile(np.random.default_rng(0).integers(1, high, shape), kind)
    dst = bench.empty(shape, kind)
    bench.run("dropout", dst=dst, data=data, prob=prob)
    before, after = bench.read(data).ravel(), bench.read(dst).ravel()
    kept = [x == y for x, y in zip(before, after, strict=True)]
    assert all(k or y == 0 for k, y in zip(kept, after, strict=True))
    if prob in (0.0, 1.0):
        assert kept == [prob == 0.0] * len(kept)


def test_the_share_of_zeros_is_the_probability(bench):
    prob = np.repeat([[0.1], [0.5], [0.9], [0.25]], 8, axis=0)
    dst = bench.empty((32, 2000))
    bench.run("dropout", dst=dst, data=bench.tile(np.ones((32, 2000))), prob=bench.tile(prob))
    shares = (bench.values(dst) == 0).reshape(4, -1).mean(axis=1)
    # 16000 draws: five standard deviations are at most 0.02.
    np.testing.assert_allclose(shares, [0.1, 0.5, 0.9, 0.25], atol=0.02)


@pytest.mark.parametrize("prob", [-0.1, 1.5, None])
def test_what_is_no_probability_is_refused(bench, prob):
    tiles = {"dst": bench.empty((4, 4)), "data": bench.empty((4, 4))}
    with pytest.raises(HardwareLimitError, match="It is 0 to 1"):
        bench.form("dropout", **tiles, prob=prob)


def test_another_dtype_is_refused(bench):
    with pytest.raises(HardwareLimitError, match="They must have the same dtype"):
        bench.form(
            "dropout", dst=bench.empty((4, 4)), data=bench.empty((4, 4), "bfloat16"), prob=0.5
        )


def test_it_streams(bench):
    tiles = {"dst": bench.empty((4, 512)), "data": bench.empty((4, 512))}
    assert bench.form("dropout", **tiles, prob=0.5).cost.cycles == 512  # ISA v2.26

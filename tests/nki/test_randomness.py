"""Random tiles: range, spread, seeds and memories, on generations with and without rand2."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UsageError

SHAPE = (128, 256)


def drawn(target, seed, **options):
    def kernel(given):
        tile = nl.ndarray((1, 1), nl.int32)
        nisa.dma_copy(tile, given)
        nl.random_seed(tile)
        made = nl.ndarray(SHAPE, nl.float32, buffer=nl.shared_hbm)
        numbers = nl.rand(SHAPE, nl.float32, **options)
        if numbers.buffer is nl.psum:
            numbers = nl.copy(numbers)
        nisa.dma_copy(made, numbers)
        return made

    return nki.simulate(kernel, target=target)(np.array([[seed]], np.int32))


@pytest.mark.parametrize("target", ["inf2", "trn2", "trn3"])
def test_rand_is_uniform_from_zero_to_below_one(target):
    numbers = drawn(target, 7)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    # 32768 numbers: each tenth holds 3277 ± 54 (one standard deviation).
    counts, _ = np.histogram(numbers, 10, (0, 1))
    assert abs(counts - numbers.size / 10).max() < 5 * 54
    assert len(np.unique(numbers)) > 0.99 * numbers.size


@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_the_seed_decides_what_is_drawn(target):
    assert drawn(target, 7).tolist() == drawn(target, 7).tolist()
    assert drawn(target, 7).tolist() != drawn(target, 8).tolist()


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum, nl.private_hbm])
def test_rand_fills_every_memory(buffer):
    assert drawn("trn2", 7, buffer=buffer).tolist() == drawn("trn2", 7).tolist()


def test_a_seed_is_a_tile(active):
    with pytest.raises(UsageError, match=r"nl\.full\(\(1, 1\), 42"):
        nl.random_seed(42)


def test_dropout_zeroes_a_part_and_keeps_the_rest(active, in_sbuf):
    data = np.random.default_rng(3).uniform(1, 2, SHAPE).astype(np.float32)
    made = active.contents(nl.dropout(in_sbuf(data), 0.25, dtype=nl.float32))
    kept = made != 0
    assert made[kept].tolist() == data[kept].tolist()
    # 32768 trials of 0.25: 8192 ± 78 zeros.
    assert abs((~kept).sum() - 8192) < 5 * 78
    assert (active.contents(nl.dropout(in_sbuf(data), 1.0)) == 0).all()
    assert active.contents(nl.dropout(in_sbuf(data), 0.0)).tolist() == data.tolist()

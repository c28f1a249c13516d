from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench
from tests.isa.generations import on_every_generation


def numbers(bench, seed, kind="uint32"):
    bench.run("set_rng_seed", src_seeds=bench.tile([[seed]], kind))
    dst = bench.empty((8, 20), "uint32")
    bench.run("rng", dst=dst)
    return bench.read(dst).tolist()


@on_every_generation(
    "set_rng_seed",
    examples=10,
    seed=st.integers(0, 2**32 - 1),
    other=st.integers(0, 2**32 - 1),
)
def test_a_seed_gives_the_same_numbers_each_time(core, seed, other):
    # ISA: the same seed generates the same sequence.
    bench = Bench(core)
    first = numbers(bench, seed)
    assert (numbers(bench, other) == first) == (seed == other)
    assert numbers(bench, seed) == first


def test_the_bits_of_the_seed_count_not_its_type(bench):
    assert numbers(bench, 0x40000000) == numbers(bench, 2.0, "float32")


def test_other_shapes_and_sizes_are_refused(bench):
    with pytest.raises(HardwareLimitError, match=r"must be \[1, 1\]"):
        bench.form("set_rng_seed", src_seeds=bench.empty((1, 2), "int32"))
    with pytest.raises(HardwareLimitError, match=r"src_seeds .* is int16"):
        bench.form("set_rng_seed", src_seeds=bench.empty((1, 1), "int16"))


def test_it_takes_the_least_time_of_an_instruction(bench):
    form = bench.form("set_rng_seed", src_seeds=bench.tile(np.ones((1, 1)), "int32"))
    assert form.cost.cycles == bench.core.timing.min_issue_cycles

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.hardware import catalog
from tests.isa.bench import Bench
from tests.isa.generations import on_every_generation, seeds
from tests.isa.generator_states import GENERATORS, generators


def words(rows, count, seed):
    return np.random.default_rng(seed).integers(0, 2**32, (rows, count), dtype=np.uint32)


@on_every_generation("rand_set_state", seed=seeds, draws=st.integers(1, 20))
def test_the_same_state_gives_the_same_numbers(core, seed, draws):
    for engine, count in generators(core):
        bench = Bench(core)
        state = bench.tile(words(8, count, seed), "uint32")
        drawn = []
        for _ in range(2):
            bench.run("rand_set_state", src_seeds=state, engine=engine)
            dst = bench.empty((8, draws), "uint32")
            bench.run("rng", dst=dst, engine=engine)
            drawn.append(bench.read(dst).tolist())
        assert drawn[0] == drawn[1]
        assert len({tuple(row) for row in drawn[0]}) == 8  # lanes with other words draw others


@pytest.mark.parametrize(("name", "engine", "count"), GENERATORS)
def test_lanes_that_it_does_not_name_keep_their_state(name, engine, count):
    bench, other = (Bench(catalog.chip(name).core) for _ in range(2))
    bench.run("rand_set_state", src_seeds=bench.tile(words(8, count, 1), "uint32"), engine=engine)
    drawn = []
    for each in (bench, other):
        dst = each.empty((16, 4), "uint32")
        each.run("rng", dst=dst, engine=engine)
        drawn.append(each.read(dst))
    assert (drawn[0] == drawn[1]).all(axis=1).tolist() == [False] * 8 + [True] * 8


@pytest.mark.parametrize(("name", "engine", "count"), GENERATORS)
def test_other_sizes_are_refused(name, engine, count):
    bench = Bench(catalog.chip(name).core)
    with pytest.raises(HardwareLimitError, match=rf"must be \[8, {count}\]"):
        bench.form("rand_set_state", src_seeds=bench.empty((8, 5), "uint32"), engine=engine)


def test_engines_without_such_a_generator_are_refused(trn1, trn2):
    for bench, engine, since in ((trn1, "gpsimd", 3), (trn2, "vector", 4)):
        with pytest.raises(HardwareLimitError, match=f"exists from NeuronCore-v{since} on"):
            bench.form("rand_set_state", src_seeds=bench.empty((8, 6), "uint32"), engine=engine)


@pytest.mark.parametrize(("name", "engine", "count"), GENERATORS)
def test_its_cost_is_a_short_stream(name, engine, count):
    bench = Bench(catalog.chip(name).core)
    state = bench.empty((8, count), "uint32")
    cycles = bench.form("rand_set_state", src_seeds=state, engine=engine).cost.cycles
    assert cycles == (150 + 6 if engine == "gpsimd" else 64)

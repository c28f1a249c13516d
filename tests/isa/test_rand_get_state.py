from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.hardware import catalog
from tests.isa.bench import Bench
from tests.isa.generations import on_every_generation
from tests.isa.generator_states import GENERATORS, generators


@on_every_generation("rand_get_state", before=st.integers(1, 20), after=st.integers(1, 20))
def test_a_stored_state_brings_the_numbers_back(core, before, after):
    for engine, count in generators(core):
        bench = Bench(core)
        state, again = bench.empty((128, count), "uint32"), bench.empty((128, count), "uint32")
        first, second = bench.empty((128, after), "uint32"), bench.empty((128, after), "uint32")
        bench.run("rng", dst=bench.empty((128, before), "uint32"), engine=engine)
        bench.run("rand_get_state", dst=state, engine=engine)
        bench.run("rand_get_state", dst=again, engine=engine)  # reading changes nothing
        bench.run("rng", dst=first, engine=engine)
        bench.run("rand_set_state", src_seeds=state, engine=engine)
        bench.run("rng", dst=second, engine=engine)
        np.testing.assert_array_equal(bench.read(state), bench.read(again))
        np.testing.assert_array_equal(bench.read(first), bench.read(second))


@pytest.mark.parametrize(("name", "engine", "count"), GENERATORS)
def test_it_reads_what_was_set(name, engine, count):
    bench = Bench(catalog.chip(name).core)
    words = np.arange(8 * count, dtype=np.uint32).reshape(8, count)
    dst = bench.empty((8, count), "uint32")
    bench.run("rand_set_state", src_seeds=bench.tile(words, "uint32"), engine=engine)
    bench.run("rand_get_state", dst=dst, engine=engine)
    np.testing.assert_array_equal(bench.read(dst), words)


def test_limits(trn1, trn2, trn3):
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v3 on"):
        trn1.form("rand_get_state", dst=trn1.empty((8, 6), "uint32"))
    with pytest.raises(HardwareLimitError, match="dst must lie in sbuf"):
        trn2.form("rand_get_state", dst=trn2.empty((8, 6), "uint32", "psum"))
    with pytest.raises(HardwareLimitError, match=r"dst .* is int32"):
        trn3.form("rand_get_state", dst=trn3.empty((8, 6), "int32"))
    in_psum = trn3.empty((8, 24), "uint32", "psum")
    assert trn3.form("rand_get_state", dst=in_psum, engine="vector").engine == "vector"


@pytest.mark.parametrize(("name", "engine", "count"), GENERATORS)
def test_its_cost_is_a_short_stream(name, engine, count):
    bench = Bench(catalog.chip(name).core)
    state = bench.empty((8, count), "uint32")
    cycles = bench.form("rand_get_state", dst=state, engine=engine).cost.cycles
    assert cycles == (150 + 6 if engine == "gpsimd" else 64)

"""Registers recorded without data: worked out where the arguments that decide them have data."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UsageError
from emuron.sim.functional import FunctionalSimulator

A = np.arange(32, dtype=np.float32).reshape(8, 4)


def same_as_with_data(kernel, *arguments, **options):
    """Return the run without data, after holding its program against that of a run with data."""
    with_data = nki.run_kernel(kernel, arguments, **options)
    without = nki.run_kernel(kernel, arguments, execute=False, **options)
    assert without.outputs is None
    assert without.program.to_text() == with_data.program.to_text()
    assert without.timing.total_ps == with_data.timing.total_ps
    return without


def loaded(tensor):
    """Return a register with the element of a tensor in HBM."""
    tile = nl.ndarray((1, 1), tensor.dtype)
    nisa.dma_copy(tile, tensor)
    register = nisa.register_alloc()
    nisa.register_load(register, tile)
    return register


@nki.jit
def counted(source, count):
    made = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(made, source)
    for i in nl.dynamic_range(loaded(count)):
        tile = nl.ndarray((1, 4), nl.float32)
        nisa.dma_copy(tile, source[i].reshape((1, 4)))
        nisa.activation(tile, nl.exp, tile)
        nisa.dma_copy(made[i].reshape((1, 4)), tile)
    return made


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_bound_comes_from_the_argument_it_is_loaded_from(count):
    same_as_with_data(counted, A, np.array([[count]], np.int32))


def test_only_what_decides_is_executed(monkeypatch):
    executed = []
    execute = FunctionalSimulator.execute

    def noted(self, form, patterns):
        executed.append(form.mnemonic)
        execute(self, form, patterns)

    monkeypatch.setattr(FunctionalSimulator, "execute", noted)
    nki.run_kernel(counted, (A, np.array([[5]], np.int32)), execute=False)
    assert executed == ["dma_copy", "register_load"]


@nki.jit
def while_it_lasts(flags):
    """Go on as long as the flags in a row are set, computing on them in between."""
    made = nl.ndarray((1, 1), nl.int32, buffer=nl.shared_hbm)
    row = nl.load(flags)
    turn = nl.zeros((1, 1), nl.int32)
    condition = nisa.register_alloc(1)
    while condition:
        nisa.tensor_scalar(turn, turn, nl.add, 1)
        chosen = nl.ndarray((1, 1), nl.int32)
        nisa.tensor_copy(chosen, row[:, turn])
        nisa.register_load(condition, chosen)
    nl.store(made, turn)
    return made


@pytest.mark.parametrize("turns", [1, 2, 6])
def test_a_condition_is_followed_through_what_the_loop_computes(turns):
    flags = np.ones((1, 8), np.int32)
    flags[0, turns] = 0
    same_as_with_data(while_it_lasts, flags)


@nki.jit
def through_placed_tiles(count):
    made = nl.ndarray((1, 1), nl.int32, buffer=nl.shared_hbm)
    nisa.dma_copy(nl.ndarray((1, 1), nl.int32, address=(0, 64)), count)
    again = nl.ndarray((1, 2), nl.int16, address=(0, 64))
    register = nisa.register_alloc()
    nisa.register_load(register, again[:, 0:1])
    for _ in nl.dynamic_range(register):
        nl.zeros((1, 1), nl.int32)
    nl.store(made, nl.zeros((1, 1), nl.int32))
    return made


def test_values_are_followed_through_tiles_that_share_bytes():
    same_as_with_data(through_placed_tiles, np.array([[3]], np.int32))


def test_each_core_finds_its_own():
    @nki.jit
    def kernel(counts):
        made = nl.ndarray((2, 1), nl.int32, buffer=nl.shared_hbm)
        core = nl.program_id(0)
        for _ in nl.dynamic_range(loaded(counts[core : core + 1, :])):
            nl.zeros((1, 1), nl.int32)
        nl.store(made[core : core + 1, :], nl.zeros((1, 1), nl.int32))
        return made

    counts = np.array([[1], [4]], np.int32)
    with_data = nki.run_kernel(kernel[2], (counts,))
    without = nki.run_kernel(kernel[2], (counts,), execute=False)
    assert [len(p) for p in without.programs] == [len(p) for p in with_data.programs]
    assert len(without.programs[0]) < len(without.programs[1])


@pytest.mark.parametrize("how", ["random", "shape", "unwritten"])
def test_what_nothing_known_decides_is_an_error(how):
    def kernel(count):
        tile = nl.ndarray((1, 1), nl.int32)
        if how == "random":
            nisa.rng(tile)
        elif how == "shape":
            nisa.dma_copy(tile, count)
        register = nisa.register_alloc()
        nisa.register_load(register, tile)
        for _ in nl.dynamic_range(register):
            pass

    with pytest.raises(UsageError, match=r"test_deduction\.py:\d+: The register loaded at"):
        nki.run_kernel(kernel, (nki.ShapeDtype((1, 1), "int32"),), execute=False)


def test_what_is_stated_comes_first():
    with nki.assume_registers(2):
        run = nki.run_kernel(counted, (A, np.array([[5]], np.int32)), execute=False)
    two = nki.run_kernel(counted, (A, np.array([[2]], np.int32)))
    assert len(run.program) == len(two.program)

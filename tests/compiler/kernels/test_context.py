"""Tiles of values: what is read in place, what is loaded, and what is stored once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.view import LogicalView
from emuron.hardware.catalog import instance
from emuron.isa.affine import Affine
from emuron.nki.recorder import Recorder
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import bfloat16, float32
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine
from emuron.sim.memory import place

CORE = instance("inf2.xlarge").chip.core


@pytest.fixture
def k() -> Iterator[KernelContext]:
    recorder = Recorder(CORE, "test")
    with recorder.active():
        yield KernelContext(recorder, lambda dtype: dtype)


def run(k: KernelContext, given: dict[NkiTensor, np.ndarray], wanted: Placed) -> np.ndarray:
    """Execute what was recorded and return the value's memory."""
    program = k.recorder.program.freeze()
    place(program)
    machine = Machine(CORE)
    for tensor, array in given.items():
        machine.write(tensor.tensor, array)
    FunctionalSimulator(machine).run(program)
    return np.asarray(machine.read(wanted.storage.tensor))


def issued(k: KernelContext) -> int:
    return sum(len(block) for block, _ in k.recorder.program.leaves())


def test_a_value_on_chip_is_read_in_place(k: KernelContext) -> None:
    value = k.on_chip(300, 8, float32, "x")
    tile = k.read(value, (128, 128), (2, 4))
    assert tile.tensor is value.storage.tensor
    assert tile.shape == (128, 4)
    assert issued(k) == 0


def test_a_value_in_hbm_is_loaded(k: KernelContext) -> None:
    value = k.hbm((300, 8), float32, "x", "input")
    tile = k.read(value, (256, 44), (0, 8))
    assert tile.shape == (44, 8)
    assert issued(k) == 1


def test_a_spilled_value_is_stored_once(k: KernelContext) -> None:
    value = k.on_chip(300, 8, float32, "x")
    first = k.spill(value)
    stores = issued(k)
    second = k.spill(value.seen_as(LogicalView.dense((8, 300))))
    assert stores == 3
    assert issued(k) == stores
    assert first.storage.tensor is second.storage.tensor


def test_rows_that_start_where_engines_may_not_are_reached_through_hbm(k: KernelContext) -> None:
    value = k.on_chip(200, 8, float32, "x")
    sliced = value.view.slice(0, 40, 100)
    assert sliced is not None
    assert value.seen_as(sliced).pattern((0, 100), (0, 8)) is None
    assert not k.reachable(value.seen_as(sliced), 8).on_chip


def test_full_tiles_run_in_a_loop_and_the_rest_after_it(k: KernelContext) -> None:
    value = k.hbm((128 * 17 + 7, 8), float32, "x", "input")
    tiles = list(k.row_tiles(128 * 17 + 7, value))
    assert [isinstance(start, Affine) for start, _ in tiles] == [True, True, False, False]
    assert tiles[2:] == [(128 * 16, 128), (128 * 17, 7)]


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (130, 257), (256, 128)])
def test_a_transposed_value_has_its_columns_on_partitions(
    k: KernelContext, rows: int, columns: int
) -> None:
    array = np.random.default_rng(0).normal(size=(rows, columns)).astype(bfloat16.np)
    value = k.hbm((rows, columns), bfloat16, "x", "input")
    moved = k.transposed(value, (0, rows), bfloat16)
    assert k.transposed(value, (0, rows), bfloat16) is moved
    out = k.hbm((columns, rows), bfloat16, "out", "output")
    for block in range(moved.shape[1]):
        first = 128 * block
        width = min(128, columns - first)
        nisa.dma_copy(out.storage[first : first + width], moved[:width, block])
    np.testing.assert_array_equal(run(k, {value.storage: array}, out), array.T)


@pytest.mark.parametrize("rows", [3, 100])
def test_a_spread_row_is_the_same_on_every_partition(k: KernelContext, rows: int) -> None:
    array = np.random.default_rng(0).normal(size=(1, 700)).astype(np.float32)
    value = k.hbm((1, 700), float32, "x", "input")
    spread = k.spread(value, rows, (0, 700))
    assert k.spread(value, rows, (0, 700)) is spread
    out = k.hbm((rows, 700), float32, "out", "output")
    k.finish(spread, out, (0, rows), (0, 700))
    np.testing.assert_array_equal(run(k, {value.storage: array}, out), np.repeat(array, rows, 0))


def test_tiles_made_inside_a_loop_are_forgotten_after_it(k: KernelContext) -> None:
    before = k.filled(1.0, 4)
    for _ in k.recorded_loop(4):
        inside = k.filled(2.0, 4)
    assert k.filled(1.0, 4) is before
    assert k.filled(2.0, 4) is not inside

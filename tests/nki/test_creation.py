"""Tiles made one after another: the later ones take a short way to the same."""

from __future__ import annotations

import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UninitializedReadError
from emuron.hardware.catalog import chip
from emuron.isa.tensor import Tensor
from emuron.nki.recorder import Recorder
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum])
def test_a_later_tile_is_as_the_first_but_for_its_name(buffer):
    with Recorder(chip("trn2").core).active():
        first, second = (nl.ndarray((128, 3, 5), nl.bfloat16, buffer=buffer) for _ in range(2))
    assert first.tensor is not second.tensor
    assert first.layout is second.layout
    for part in ("shape", "strides", "offset", "dtype", "indirection", "lease"):
        assert getattr(first, part) == getattr(second, part)
    for slot in Tensor.__slots__:
        if slot != "name":
            assert getattr(first.tensor, slot) == getattr(second.tensor, slot)
    assert [t.name for t in (first, second)] == [f"{buffer.value}_1", f"{buffer.value}_2"]


def test_a_later_tile_keeps_the_name_that_it_is_given():
    with Recorder(chip("trn2").core).active():
        tiles = [nl.ndarray((128, 4), nl.float32, name=name) for name in ("a", "b")]
    assert [tile.name for tile in tiles] == ["a", "b"]


def test_a_tile_with_an_address_is_no_model_for_others():
    with Recorder(chip("trn2").core).active():
        placed = nl.ndarray((128, 4), nl.float32, address=(0, 64))
        free = nl.ndarray((128, 4), nl.float32)
        again = nl.ndarray((128, 4), nl.float32, address=(0, 128))
    assert (placed.tensor.aliases, free.tensor.aliases, again.tensor.aliases) == (True, False, True)
    assert free.tensor.address is None


def test_a_tile_forgets_what_the_one_before_it_on_its_bytes_held():
    machine = Machine(chip("trn2").core)
    recorder = Recorder(machine.core, executor=FunctionalSimulator(machine))
    with recorder.active():
        tile = nl.ndarray((128, 4), nl.float32)
        nisa.memset(tile, 1.0)
        del tile
        tile = nl.ndarray((128, 4), nl.float32)
        with pytest.raises(UninitializedReadError, match="never written"):
            nisa.tensor_copy(nl.ndarray((128, 4), nl.float32), tile)

"""What the tests of kernels share: running a body of nki calls on a chip."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.hardware import catalog
from emuron.isa.tensor import MemoryRegion
from emuron.nki.recorder import Recorder
from emuron.nki.tensor import NkiTensor
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine


@pytest.fixture
def active():
    """A recorder with data on trn2, active for the test."""
    core = catalog.chip("trn2").core
    machine = Machine(core)
    recorder = Recorder(core, "test", FunctionalSimulator(machine))
    with recorder.active():
        yield recorder


@pytest.fixture
def in_sbuf(active):
    """Return a function that puts an array into a tile of SBUF."""

    def put(array):
        tile = NkiTensor(active.tensor(array.shape, array.dtype, MemoryRegion.sbuf))
        active.executor.machine.bind(tile.tensor, np.ascontiguousarray(array))
        return tile

    return put


@pytest.fixture
def in_hbm(active):
    """Return a function that puts an array into HBM."""

    def put(array):
        tensor = active.tensor(array.shape, array.dtype, MemoryRegion.private_hbm)
        active.executor.machine.bind(tensor, np.ascontiguousarray(array))
        return NkiTensor(tensor)

    return put

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UninitializedReadError, UnknownNameError
from emuron.nki.kernel import jit, simulate
from emuron.nki.unwritten_memory import unwritten


def half_written(dtype, **place):
    @jit
    def kernel(x):
        tile = nl.ndarray((128, 4), dtype=dtype, buffer=nl.sbuf, **place)
        nisa.dma_copy(dst=tile[:, 0:2], src=x)
        out = nl.ndarray((128, 4), dtype=dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile)
        return out

    return kernel


@pytest.mark.parametrize("place", [{}, {"address": (0, 0)}], ids=["anywhere", "placed"])
def test_unwritten_memory_is_nan_where_poison_is_asked_for(place):
    x = np.ones((128, 2), np.float32)
    with unwritten("poison"):
        result = simulate(half_written(nl.float32, **place))(x)
    assert (result[:, :2] == 1).all()
    assert np.isnan(result[:, 2:]).all()


def test_unwritten_integers_are_4():
    with unwritten("poison"):
        result = simulate(half_written(nl.int16))(np.ones((128, 2), np.int16))
    assert result[5].tolist() == [1, 1, 4, 4]


def test_unwritten_memory_is_an_error_otherwise(monkeypatch):
    x = np.ones((128, 2), np.float32)
    with pytest.raises(UninitializedReadError, match="never written at partition 0, byte 8"):
        simulate(half_written(nl.float32))(x)
    monkeypatch.setenv("EMURON_UNWRITTEN", "poison")
    assert np.isnan(simulate(half_written(nl.float32))(x)).any()


def test_another_way_to_treat_it_is_refused():
    with pytest.raises(UnknownNameError, match="Known: error, poison"), unwritten("nan"):
        pass


def test_the_setting_is_no_module():
    import emuron.nki as nki

    assert nki.unwritten is unwritten

"""Times of kernels whose tiles do not fit as they are written."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import CapacityError
from emuron.nki.kernel import jit
from emuron.nki.launch import device_ps_if_it_fitted, run_kernel
from emuron.nki.recording import record_kernel


@jit
def kept(x, tiles):
    """Hold `tiles` tiles of 64 KiB a partition before any is stored."""
    out = nl.ndarray((tiles, *x.shape), dtype=x.dtype, buffer=nl.shared_hbm)
    held = []
    for _ in range(tiles):
        held.append(nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf))
        nisa.dma_copy(dst=held[-1], src=x)
    for index, tile in enumerate(held):
        nisa.dma_copy(dst=out[index], src=tile)
    return out


X = np.zeros((128, 16384), np.float32)


def test_a_kernel_that_fits_takes_the_same_time():
    recording = record_kernel(kept, (X, 2), {}, "trn2", execute=False)
    made = run_kernel(kept, (X, 2), target="trn2", execute=False)
    assert device_ps_if_it_fitted(recording) == made.device_ps


def test_one_that_does_not_is_refused_and_still_has_a_time():
    with pytest.raises(CapacityError):
        run_kernel(kept, (X, 4), target="trn2", execute=False)
    recording = record_kernel(kept, (X, 4), {}, "trn2", execute=False)
    two = run_kernel(kept, (X, 2), target="trn2", execute=False).device_ps
    assert device_ps_if_it_fitted(recording) > two

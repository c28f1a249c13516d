"""A user writes a kernel, fixes an error, and gets the numbers, the time and a timeline."""

from __future__ import annotations

import json

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import HardwareLimitError
from emuron.trace.perfetto import to_perfetto
from emuron.trace.summary import summarize


@nki.jit
def too_wide(lhs_t, rhs):
    out = nl.ndarray((lhs_t.shape[1], rhs.shape[1]), rhs.dtype, buffer=nl.shared_hbm)
    product = nl.ndarray(out.shape, nl.float32, buffer=nl.psum)
    nisa.nc_matmul(product, nl.load(lhs_t), nl.load(rhs))
    nl.store(out, nl.copy(product, dtype=rhs.dtype))
    return out


@nki.jit
def tiled(lhs_t, rhs):
    out = nl.ndarray((lhs_t.shape[1], rhs.shape[1]), rhs.dtype, buffer=nl.shared_hbm)
    stationary, wide = nl.load(lhs_t), nl.tile_size.gemm_moving_fmax
    for n in nl.affine_range(0, rhs.shape[1], wide):
        product = nl.ndarray((lhs_t.shape[1], wide), nl.float32, buffer=nl.psum)
        nisa.nc_matmul(product, stationary, nl.load(rhs[:, nl.ds(n, wide)]))
        nl.store(out[:, nl.ds(n, wide)], nl.copy(product, dtype=rhs.dtype))
    return out


def test_a_kernel_from_its_first_error_to_its_timeline(tmp_path):
    random = np.random.default_rng(1)
    lhs_t, rhs = (random.standard_normal((128, n), dtype=np.float32) for n in (128, 1024))

    with pytest.raises(HardwareLimitError, match=r"test_kernel\.py:22: nc_matmul: .*512.*Tile N"):
        nki.simulate(too_wide)(lhs_t, rhs)

    found = nki.simulate(tiled)(lhs_t, rhs)
    # fp32 sums of 128 products in another order than NumPy's.
    np.testing.assert_allclose(found, lhs_t.T @ rhs, rtol=1e-4, atol=1e-4)

    run = nki.run_kernel(tiled, (lhs_t, rhs), target="trn2")
    assert run.outputs.tolist() == found.tolist()
    assert run.placement.psum_peak_bytes == 2048
    summary = summarize(run.timing.trace)
    assert summary.dma_bytes == lhs_t.nbytes + rhs.nbytes + found.nbytes
    assert summary.total_ps == run.timing.total_ps
    assert any(group.name.startswith("test_kernel.py:") for group in summary.groups)

    to_perfetto(run.timing.trace, tmp_path / "timeline.json")
    assert json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]

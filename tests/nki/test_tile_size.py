"""nl.tile_size: the figures of the core, under their present and former names."""

from __future__ import annotations

import pytest

import emuron.nki as nki
import emuron.nki.language as nl
from emuron.hardware import catalog
from emuron.nki.recorder import Recorder
from emuron.nki.tile_size import PE_TRANSPOSE_VARIABLE


@pytest.mark.parametrize(
    ("chip", "sbuf", "usable"),
    # nki_api §3.4: 24, 28 and 32 MiB; 192 KiB less 16 KiB for kernels on gen2.
    [("inf2", 24 << 20, 180224), ("trn2", 28 << 20, 212992), ("trn3", 32 << 20, 245760)],
)
def test_sizes_are_those_of_the_generation(chip, sbuf, usable):
    with Recorder(catalog.chip(chip).core).active():
        size = nl.tile_size
        assert (size.pmax, size.gemm_stationary_fmax, size.gemm_moving_fmax) == (128, 128, 512)
        assert (size.psum_bank_fmax, size.psum_bank_fmax_bytes, size.psum_num_banks) == (
            512,
            2048,
            8,
        )
        assert size.bn_stats_fmax == 512
        assert (size.sbuf_size_bytes, size.sbuf_fmax_bytes) == (sbuf, usable)
        assert size.sbuf_fmax == usable // 4


def test_former_names_mean_the_same_and_warn_when_held():
    core = catalog.chip("trn2").core
    with Recorder(core).active():
        assert nl.tile_size.psum_fmax == nl.tile_size.psum_bank_fmax
        assert nl.tile_size.total_available_sbuf_size == nl.tile_size.sbuf_fmax_bytes
    with nki.strict("0.6"), Recorder(core).active():
        with pytest.warns(DeprecationWarning, match="psum_bank_fmax"):
            nl.tile_size.psum_fmax  # noqa: B018
        with pytest.warns(DeprecationWarning, match="sbuf_fmax_bytes"):
            nl.tile_size.total_available_sbuf_size  # noqa: B018


def test_transposes_on_the_tensor_engine_keep_a_bank(monkeypatch):
    monkeypatch.setenv(PE_TRANSPOSE_VARIABLE, "true")
    assert nl.tile_size.psum_num_banks == 7

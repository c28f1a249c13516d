"""`nki.language.tile_size`: the sizes of the core that the active kernel runs on."""

from __future__ import annotations

import os

from emuron.hardware.core import NeuronCore
from emuron.nki.earlier_forms import use
from emuron.nki.target import current_core
from emuron.numerics.dtypes import float32

PE_TRANSPOSE_VARIABLE = "NKI_DMA_TRANSPOSE_AS_PE_TRANSPOSE"
"""Set to "true", AWS's compiler transposes on the tensor engine and keeps one PSUM bank for it."""


class TileSize:
    """The limits of tiles on the active kernel's core (outside of a kernel: the default target)."""

    __slots__ = ()

    @property
    def _core(self) -> NeuronCore:
        return current_core()

    @property
    def pmax(self) -> int:
        """Partitions."""
        return self._core.partitions

    @property
    def psum_bank_fmax(self) -> int:
        """fp32 elements of one PSUM bank in one partition."""
        return self._core.psum_bank_bytes // float32.itemsize

    @property
    def psum_fmax(self) -> int:
        """The former name of `psum_bank_fmax`."""
        use("psum_fmax")
        return self.psum_bank_fmax

    @property
    def psum_bank_fmax_bytes(self) -> int:
        """Bytes of one PSUM bank in one partition."""
        return self._core.psum_bank_bytes

    @property
    def psum_num_banks(self) -> int:
        """PSUM banks; one fewer where dma_transpose is asked to run on the tensor engine."""
        reserved = os.environ.get(PE_TRANSPOSE_VARIABLE, "").lower() in ("1", "true")
        return self._core.psum_banks - reserved

    @property
    def gemm_stationary_fmax(self) -> int:
        """Columns of a stationary operand."""
        return self._core.stationary_max

    @property
    def gemm_moving_fmax(self) -> int:
        """Columns of a moving operand whose fp32 product fills one PSUM bank."""
        return min(self._core.moving_max, self.psum_bank_fmax)

    @property
    def bn_stats_fmax(self) -> int:
        """Elements of one `bn_stats` in one partition."""
        return self._core.limits.bn_stats_max

    @property
    def sbuf_min_align(self) -> int:
        """Alignment of SBUF addresses in bytes."""
        return float32.itemsize

    psum_min_align = sbuf_min_align

    @property
    def sbuf_size_bytes(self) -> int:
        """SBUF of all partitions in bytes."""
        return self._core.sbuf_bytes

    @property
    def sbuf_fmax_bytes(self) -> int:
        """Usable bytes of SBUF in one partition."""
        return self._core.sbuf_usable_bytes_per_partition

    @property
    def total_available_sbuf_size(self) -> int:
        """The former name of `sbuf_fmax_bytes`."""
        use("total_available_sbuf_size")
        return self.sbuf_fmax_bytes

    @property
    def sbuf_fmax(self) -> int:
        """fp32 elements of SBUF in one partition."""
        return self.sbuf_fmax_bytes // float32.itemsize


tile_size = TileSize()

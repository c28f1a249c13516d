"""Access to operands of which an instruction touches a few partitions of each block only."""

from __future__ import annotations

from math import prod

from emuron.isa.instruction import Band
from emuron.isa.tensor import AccessPattern
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import DType
from emuron.sim.access import Access
from emuron.sim.machine import Storage


class BandedAccess(Access):
    """The view [blocks, rows, …] of the partitions that a band names."""

    __slots__ = ("independent",)

    def __init__(
        self,
        instruction: str,
        name: str,
        like: AccessPattern,
        backend: Backend,
        dtype: DType | None,
        band: Band,
    ) -> None:
        self.independent = band.independent
        step = like.strides[0]
        shape = (band.blocks, band.rows, *like.shape[1:])
        strides = (band.step * step, step, *like.strides[1:])
        touched = AccessPattern(like.tensor, shape, strides, like.offset, like.dtype)
        super().__init__(instruction, name, touched, backend, dtype)
        self.shape, self.strides = shape, strides
        self.rows = 0  # no rectangle
        self.byte_strides = tuple(stride * self.itemsize for stride in strides)
        self.flat = (band.blocks * band.rows, prod(like.shape[1:]))
        free = zip(like.shape[1:], like.strides[1:], strict=True)
        self.free_high = sum((n - 1) * s for n, s in free if s > 0)

    def _within(self, storage: Storage, offset: int) -> tuple[int, tuple[int, ...]]:
        start, strides = super()._within(storage, offset)
        return start, (strides[0], self.strides[1] // self.row * storage.pitch, *strides[2:])

    def require_written(self, storage: Storage, offset: int) -> None:
        """Raise UninitializedReadError unless every element has been written.

        Independent blocks become zeros instead, and stay unwritten: their results mean nothing.
        """
        if not self.independent:
            super().require_written(storage, offset)
            return
        known = self._bits(storage, offset, storage.memory.make_mask()) != 0
        bits = self._bits(storage, offset, storage.memory.buffer)
        bits[~known] = 0

"""`nki.language`: tensors, memories, slices and operators for kernels."""

from __future__ import annotations

from emuron.isa.affine import Index
from emuron.isa.tensor import MemoryRegion
from emuron.nki.recorder import recorder
from emuron.nki.tensor import DynamicSlice, NkiTensor
from emuron.numerics import dtypes

sbuf = MemoryRegion.sbuf
psum = MemoryRegion.psum
hbm = private_hbm = MemoryRegion.private_hbm
shared_hbm = MemoryRegion.shared_hbm


def ndarray(
    shape: tuple[int, ...],
    dtype: object,
    buffer: MemoryRegion = sbuf,
    name: str = "",
    address: tuple[int, int] | None = None,
) -> NkiTensor:
    """Return a new uninitialised tensor in `buffer`; `address` is (partition, byte)."""
    return NkiTensor(recorder().tensor(tuple(shape), dtype, buffer, name=name, address=address))


def ds(start: Index, size: int) -> DynamicSlice:
    """Return the slice [start, start + size)."""
    return DynamicSlice(start, size)


float32 = dtypes.float32
bfloat16 = dtypes.bfloat16

"""What may be allocated, and where: sizes, and the addresses that kernels choose."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from emuron.errors import CapacityError, HardwareLimitError, UsageError
from emuron.isa.tensor import MemoryRegion
from emuron.numerics.dtypes import DType

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

_WIDEST_BYTES = 4  # NKI 0.6, data types: there are none of 64 bits on chip

Address = tuple[int, int] | int


def check_size(
    core: NeuronCore, name: str, shape: Sequence[int], dtype: DType, buffer: MemoryRegion
) -> None:
    """Refuse an on-chip tensor that no core could hold; raise UsageError or CapacityError."""
    if not shape or any(count < 1 for count in shape):
        raise UsageError(f"Tensor {name} has shape {list(shape)}; dimensions are at least 1.")
    if shape[0] > core.partitions:
        raise UsageError(
            f"Tensor {name} of shape {list(shape)} has {shape[0]} rows in its first dimension, "
            f"but {buffer.value} has {core.partitions} partitions. "
            f"Split dimension 0 into tiles of at most {core.partitions} rows."
        )
    if dtype not in core.dtypes and dtype.itemsize > _WIDEST_BYTES:
        raise HardwareLimitError(
            f"Tensor {name} is {dtype}: on chip an element has at most {_WIDEST_BYTES} bytes. "
            f"Use a type of NeuronCore-{core.version}: {', '.join(core.dtypes)}."
        )
    needed = prod(shape[1:]) * dtype.itemsize
    limit = capacity(core, buffer)
    if needed > limit:
        raise CapacityError(
            f"Tensor {name} of shape {list(shape)} {dtype} needs {needed} bytes in each partition; "
            f"{buffer.value} has {limit} on NeuronCore-{core.version}. Tile its free dimensions."
        )


def capacity(core: NeuronCore, buffer: MemoryRegion) -> int:
    """Return the bytes of each partition that kernels may use."""
    if buffer is MemoryRegion.psum:
        return core.psum_bytes_per_partition
    return core.sbuf_usable_bytes_per_partition


def checked_address(
    core: NeuronCore,
    name: str,
    shape: Sequence[int],
    dtype: DType,
    buffer: MemoryRegion,
    address: Any,
) -> Address | None:
    """Return the address that a kernel gave a tensor: (partition, byte) on chip, a byte in HBM.

    HBM takes a 1-tuple (NKI 0.7). Raises UsageError, CapacityError beyond the memory, and
    HardwareLimitError in PSUM away from the start of a bank.
    """
    if address is None:
        return None
    wanted = 2 if buffer.is_on_chip else 1
    try:
        parts = tuple(operator.index(part) for part in address)
    except TypeError:
        parts = ()
    if len(parts) != wanted or any(part < 0 for part in parts):
        form = "(partition, byte in the partition)" if buffer.is_on_chip else "(byte,)"
        raise UsageError(
            f"Tensor {name}: address={address!r} in {buffer.value} must be {form}, not negative."
        )
    if not buffer.is_on_chip:
        return parts[0]
    _check_place(core, name, shape, dtype, buffer, parts)
    return parts[0], parts[1]


def _check_place(
    core: NeuronCore,
    name: str,
    shape: Sequence[int],
    dtype: DType,
    buffer: MemoryRegion,
    address: tuple[int, ...],
) -> None:
    partition, byte = address
    if byte % dtype.itemsize:
        raise UsageError(
            f"Tensor {name}: byte {byte} of address={address!r} is no multiple of the "
            f"{dtype.itemsize} bytes of a {dtype}. Align it."
        )
    end, limit = byte + prod(shape[1:]) * dtype.itemsize, capacity(core, buffer)
    if end > limit or partition + shape[0] > core.partitions:
        raise CapacityError(
            f"Tensor {name} of shape {list(shape)} {dtype} at address={address!r} ends at "
            f"partition {partition + shape[0]}, byte {end}; {buffer.value} has {core.partitions} "
            f"partitions of {limit} bytes on NeuronCore-{core.version}. Place it lower."
        )
    if buffer is MemoryRegion.psum and byte % core.psum_bank_bytes:
        raise HardwareLimitError(
            f"Tensor {name}: address={address!r} in PSUM is not at the start of a bank, a multiple "
            f"of {core.psum_bank_bytes} bytes. Use a multiple, or slice a tensor that starts there."
        )

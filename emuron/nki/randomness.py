"""Random tiles of `nki.language`, from the generators of the vector engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emuron.errors import UsageError
from emuron.isa.tensor import MemoryRegion
from emuron.nki import isa
from emuron.nki.creation import Buffer, allocate, copy, region
from emuron.nki.earlier_forms import form_of
from emuron.nki.elementwise import on_chip, stage
from emuron.nki.recorder import recorder
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32, uint32

nisa: Any = isa  # its functions are made from the instruction classes

_MANTISSA_BITS = float32.mantissa_bits + 1  # of numbers of equal distance in [0, 1)
_RAND2_FROM = 4  # generation


@form_of("maths")
def rand(
    shape: Sequence[int], dtype: object, buffer: Buffer = MemoryRegion.sbuf, name: str = ""
) -> NkiTensor:
    """Return a new tensor of uniform random numbers in [0, 1): at most 128 rows.

    By rand2 on the fourth generation, else from the bits of rng.
    """
    memory = region(buffer)
    made = allocate(shape, dtype, memory, name)
    tile = made if memory is MemoryRegion.sbuf and made.dtype == float32 else None
    numbers = _uniform(shape, tile)
    if memory in (MemoryRegion.private_hbm, MemoryRegion.shared_hbm):
        nisa.dma_copy(dst=made, src=numbers)
    elif numbers is not made:
        nisa.tensor_copy(made, numbers)
    return made


def _uniform(shape: Sequence[int], tile: NkiTensor | None) -> NkiTensor:
    """Return a tile in SBUF (`tile`, if given) of random fp32 numbers in [0, 1)."""
    numbers = allocate(shape, float32) if tile is None else tile
    if (recorder().core.nc_version or 0) >= _RAND2_FROM:
        nisa.rand2(numbers, 0.0, 1.0)
        return numbers
    bits = allocate(shape, uint32)
    nisa.rng(bits)
    high = stage(bits, "right_shift", 8 * uint32.itemsize - _MANTISSA_BITS, uint32)
    nisa.tensor_scalar(numbers, high, "multiply", 2.0**-_MANTISSA_BITS)
    return numbers


@form_of("maths")
def random_seed(seed: NkiTensor) -> None:
    """Seed the generators of the vector engine from a [1, 1] tile of 32 bits in SBUF."""
    if not isinstance(seed, NkiTensor):
        raise UsageError(
            f"nl.random_seed takes a [1, 1] tile, not {seed!r}. Make one: "
            "nl.full((1, 1), 42, dtype=nl.int32, buffer=nl.sbuf)."
        )
    nisa.set_rng_seed(seed)


@form_of("maths")
def dropout(x: NkiTensor, rate: Any, dtype: object = None) -> NkiTensor:
    """Return x with each element replaced by 0 with probability `rate`, a number or [P, 1] tile.

    What is kept is not scaled.
    """
    made = allocate(on_chip(x, "dropout").shape, x.dtype)
    nisa.dropout(made, x, rate)
    return made if dtype is None else copy(made, dtype)

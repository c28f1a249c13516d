"""Random bits that depend on their place alone: a hash of (seed, counter, element index), never of
execution order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MASK_64 = (1 << 64) - 1
_BLOCK = 1 << 15
"""Elements hashed with one pair of keys; small enough for the scratch arrays to stay in the cache.
"""


def _mix_64(z: int) -> int:
    """Mix 64 bits by the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = (z + 0x9E3779B97F4A7C15) & _MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return z ^ (z >> 31)


def _hash_32(block: npt.NDArray[np.uint32], key: int, scratch: npt.NDArray[np.uint32]) -> None:
    """Hash element numbers in place with Wellons' `lowbias32` multipliers, a 32-bit key before
    each of two rounds.
    """
    block ^= np.uint32(key & 0xFFFFFFFF)
    np.right_shift(block, np.uint32(16), out=scratch)
    block ^= scratch
    block *= np.uint32(0x7FEB352D)
    block += np.uint32(key >> 32)
    np.right_shift(block, np.uint32(15), out=scratch)
    block ^= scratch
    block *= np.uint32(0x846CA68B)
    np.right_shift(block, np.uint32(16), out=scratch)
    block ^= scratch


def random_bits(seed: int, counter: int, size: int) -> npt.NDArray[np.uint32]:
    """Return `size` words of 32 random bits, a pure function of (seed, counter, element index).

    `counter` tells apart the uses of one seed: for instance the number of the instruction.
    """
    out = np.empty(size, np.uint32)
    numbers = np.arange(min(size, _BLOCK), dtype=np.uint32)
    scratch = np.empty_like(numbers)
    stream = _mix_64(_mix_64(seed & _MASK_64) ^ (counter & _MASK_64))
    for start in range(0, size, _BLOCK):
        block = out[start : start + _BLOCK]
        block[:] = numbers[: block.size]
        _hash_32(block, _mix_64(stream + start // _BLOCK), scratch[: block.size])
    return out

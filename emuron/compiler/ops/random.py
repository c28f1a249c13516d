"""Random bits: the same key gives the same bits, everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.ops.arguments import require
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import DType, uint8, uint32

# Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), sections 4.2 and 4.3.
_THREEFRY_PARITY = np.uint32(0x1BD11BDA)
_THREEFRY_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PHILOX_FACTORS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_STEPS = (0x9E3779B9, 0xBB67AE85)
_PHILOX_ROUNDS = 10

Words = np.ndarray


def threefry(key: Words, first: Words, second: Words) -> tuple[Words, Words]:
    """Return Threefry-2x32 of 20 rounds of two words, for a key of two."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _THREEFRY_PARITY)
    x, y = first + keys[0], second + keys[1]
    for group in range(5):
        for turn in _THREEFRY_TURNS[group % 2]:
            x = x + y
            y = ((y << np.uint32(turn)) | (y >> np.uint32(32 - turn))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def philox(key: Words, counters: Words) -> Words:
    """Return Philox-4x32 of 10 rounds of counters [n, 4], for a key of two words."""
    words = [counters[:, i].astype(np.uint64) for i in range(4)]
    keys = [int(k) for k in key]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(_PHILOX_ROUNDS):
        products = [np.uint64(f) * words[2 * i] for i, f in enumerate(_PHILOX_FACTORS)]
        high = [p >> np.uint64(32) for p in products]
        words = [
            high[1] ^ words[1] ^ np.uint64(keys[0]),
            products[1] & low,
            high[0] ^ words[3] ^ np.uint64(keys[1]),
            products[0] & low,
        ]
        keys = [(k + step) % 2**32 for k, step in zip(keys, _PHILOX_STEPS, strict=True)]
    return np.stack(words, axis=1).astype(np.uint32)


@op("rng_bits")
@dataclass(frozen=True, slots=True)
class RngBits(Op):
    """y = uniform random bits of `shape`, the same for the same key, a uint32 vector of two.

    threefry: element i is the exclusive or of both words that Threefry-2x32 makes of i (high word,
    low word), cut to `dtype`'s size: `jax.random.bits`. With `words`, both words in a last
    dimension of 2; with a second operand of uint32[..., 2] the words of these counts instead.
    philox: words of Philox-4x32-10 of the counters 0, 1, 2 ... one after another.
    """

    shape: tuple[int, ...]
    algorithm: str = "threefry"
    dtype: DType = uint32
    words: bool = False
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the bits' type."""
        require(len(types) in (1, 2), f"takes a key and maybe counts, found {len(types)} operands")
        require(types[0] == TensorType((2,), uint32), f"key must be uint32[2], found {types[0]}")
        require(
            self.algorithm in ("threefry", "philox"),
            f"algorithm must be threefry or philox, found {self.algorithm!r}",
        )
        unsigned = self.dtype.kind == "uint" and self.dtype.itemsize <= 4
        require(unsigned, f"bits come as uint8, uint16 or uint32, found {self.dtype}")
        if len(types) == 1 and not self.words:
            return (TensorType(self.shape, self.dtype),)
        require(
            self.algorithm == "threefry" and self.dtype == uint32,
            "words and counts are those of threefry, as uint32",
        )
        pairs = TensorType((*self.shape, 2), uint32)
        require(len(types) == 1 or types[1] == pairs, f"counts must be {pairs}")
        return (pairs,)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the bits, made on the host."""
        key, *counts = (np.asarray(ev.backend.numpy(a)).view(np.uint32) for a in arrays)
        with np.errstate(over="ignore"):
            bits = self._philox(key) if self.algorithm == "philox" else self._threefry(key, counts)
        (y,) = self.infer(*ev.types)
        return (ev.backend.asarray(bits.astype(self.dtype.np).reshape(y.shape)),)

    def _philox(self, key: Words) -> Words:
        count = prod(self.shape)
        number = np.arange(-(-count // 4), dtype=np.uint64)
        counters = np.zeros((len(number), 4), np.uint32)
        counters[:, 0] = number & np.uint64(0xFFFFFFFF)
        counters[:, 1] = number >> np.uint64(32)
        return philox(key, counters).reshape(-1)[:count]

    def _threefry(self, key: Words, counts: list[Words]) -> Words:
        if counts:
            pairs = counts[0].reshape(-1, 2)
            high, low = pairs[:, 0], pairs[:, 1]
        else:
            number = np.arange(prod(self.shape), dtype=np.uint64)
            high = (number >> np.uint64(32)).astype(np.uint32)
            low = number.astype(np.uint32)
        first, second = threefry(key, high, low)
        return np.stack((first, second), -1) if self.words or counts else first ^ second

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both generators, words and counts."""
        key, wide = TensorType((2,), uint32), (0, 2**31)
        return (
            Example(cls((3, 5)), (key,), (wide,)),
            Example(cls((9,), dtype=uint8), (key,), (wide,)),
            Example(cls((2, 3), words=True), (key,), (wide,)),
            Example(cls((4,)), (key, TensorType((4, 2), uint32)), (wide, wide)),
            Example(cls((3, 6), "philox"), (key,), (wide,)),
        )

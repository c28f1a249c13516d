"""MX formats by their definition, in Python's own numbers."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import frexp
from typing import Any

import numpy as np

FORMATS = {  # exponent bits, mantissa bits, largest exponent
    "float8_e4m3fn_x4": (4, 3, 8),
    "float8_e5m2_x4": (5, 2, 15),
    "float4_e2m1fn_x4": (2, 1, 2),
}


@cache
def value_of(code: int, packed: str) -> Fraction:
    """The number that the bits of one element stand for."""
    exponent_bits, mantissa_bits, _ = FORMATS[packed]
    bias = 2 ** (exponent_bits - 1) - 1
    sign = -1 if code >> (exponent_bits + mantissa_bits) else 1
    exponent = code >> mantissa_bits & (2**exponent_bits - 1)
    mantissa = Fraction(code & (2**mantissa_bits - 1), 2**mantissa_bits)
    if exponent == 0:
        return sign * mantissa * Fraction(2) ** (1 - bias)
    return sign * (1 + mantissa) * Fraction(2) ** (exponent - bias)


def lanes(word: int, packed: str) -> list[int]:
    """The four codes of a packed element, the first in the lowest bits."""
    bits = sum(FORMATS[packed][:2]) + 1
    return [word >> (lane * bits) & (2**bits - 1) for lane in range(4)]


def nearest(value: Fraction, packed: str) -> list[int]:
    """The codes nearest to a value: one, or two where it lies in the middle."""
    exponent_bits, mantissa_bits, _ = FORMATS[packed]
    magnitudes = range(2 ** (exponent_bits + mantissa_bits) - (1 if exponent_bits == 4 else 4))
    sign = 1 << (exponent_bits + mantissa_bits) if value < 0 else 0
    distance = {c: abs(value_of(c, packed) - abs(value)) for c in magnitudes}
    least = min(distance.values())
    return [sign | code for code, d in distance.items() if d == least]


def scale_byte(values: list[float], packed: str) -> int:
    """floor(log2(amax)) - (Emax - 1), biased by 127 and not below 0; 0 for zeros."""
    largest = max(abs(v) for v in values)
    if largest == 0:
        return 0
    return max(0, frexp(largest)[1] - 1 - (FORMATS[packed][2] - 1) + 127)


def scale_row(group: int) -> int:
    """The row, from the first one on, in which group number `group` of the partitions lies."""
    return 32 * (group // 4) + group % 4


def random_packed(shape: tuple[int, int], packed: str, seed: int) -> Any:
    """Random finite elements of small magnitude."""
    bits = sum(FORMATS[packed][:2]) + 1
    rng = np.random.default_rng(seed)
    high = {8: 0x60, 4: 8}[bits]
    codes = rng.integers(0, high, (*shape, 4)) | rng.integers(0, 2, (*shape, 4)) << (bits - 1)
    return sum(codes[..., lane] << (lane * bits) for lane in range(4))

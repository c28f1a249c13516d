"""An exact oracle: all values of a format by enumeration, rounding to nearest even by fractions."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction
from functools import cache

from emuron.numerics.dtypes import DType


@cache
def values_by_code(dtype: DType) -> tuple[Fraction, ...]:
    """Return the finite values from zero up in the order of codes, and the first one beyond."""
    codes = 1 << (dtype.exponent_bits + dtype.mantissa_bits)
    steps = 1 << dtype.mantissa_bits
    values = []
    for code in range(codes + 1):
        exponent, fraction = code // steps, code % steps
        if exponent == 0:
            value = Fraction(fraction, steps) * Fraction(2) ** (1 - dtype.bias)
        else:
            value = (1 + Fraction(fraction, steps)) * Fraction(2) ** (exponent - dtype.bias)
        values.append(value)
        if value > Fraction(dtype.max):
            break
    return tuple(values)


def neighbours(magnitude: Fraction, dtype: DType) -> tuple[int, int]:
    """Return the codes of the values around a magnitude; the last one if it is beyond all."""
    values = values_by_code(dtype)
    below = bisect_right(values, magnitude) - 1
    return below, min(below + 1, len(values) - 1)


def nearest_even_code(magnitude: Fraction, dtype: DType) -> int:
    """Return the code of the value nearest to a magnitude; of two, the even code."""
    values = values_by_code(dtype)
    below, above = neighbours(magnitude, dtype)
    down, up = magnitude - values[below], values[above] - magnitude
    if down == up:
        return below if below % 2 == 0 else above
    return below if down < up or below == above else above


def nearest_even(x: float, dtype: DType) -> float:
    """Return a finite float rounded to a format; beyond its largest value inf or NaN."""
    code = nearest_even_code(abs(Fraction(x)), dtype)
    values = values_by_code(dtype)
    if code < len(values) - 1:
        result = float(values[code])
    elif dtype.has_inf:
        result = float("inf")
    else:
        result = float("nan") if dtype.has_nan else dtype.max
    return math.copysign(result, x)

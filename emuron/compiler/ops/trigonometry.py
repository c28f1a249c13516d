"""Trigonometric functions: angles brought into the range of the Scalar engine's sine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emuron.compiler.graph import TensorType
from emuron.compiler.kernels.formula import Term, where
from emuron.compiler.ops.binary import Binary
from emuron.compiler.ops.context import Example
from emuron.compiler.ops.formula import Formula, UnaryFormula
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import float32

_HALF_PI = math.pi / 2


def _parts(number: float, bits: int, count: int) -> tuple[float, ...]:
    """Cut a number into `count` parts of so many bits each, the last one with what is left."""
    parts = []
    for _ in range(count - 1):
        scale = 2.0 ** (bits - math.frexp(number)[1])
        part = math.trunc(number * scale) / scale
        parts.append(part)
        number -= part
    return (*parts, number)


# Whole turns up to 2**16 times a part of 8 bits are exact in float32 (Cody and Waite's reduction).
_TURN = _parts(2 * math.pi, 8, 4)


def _within_half_turn(x: Term) -> Term:
    """Return x minus the nearest whole number of turns."""
    turns = (x * (0.5 / math.pi)).whole()
    for part in _TURN:
        x = x - turns * part
    return x


def _clipped(x: Term) -> Term:
    """Return an angle that rounding left just beyond ±π within the sine's valid range."""
    return x.alu("minimum", math.pi).alu("maximum", -math.pi)


def sine(x: Term) -> Term:
    """Return the sine of an angle in radians."""
    return _clipped(_within_half_turn(x)).call("sin")


def cosine(x: Term) -> Term:
    """Return the cosine of an angle r of ±π as sin(π / 2 - |r|)."""
    return (_HALF_PI - _within_half_turn(x).call("abs")).call("sin")


def arc_tangent(x: Term) -> Term:
    """Return the angle whose tangent is x: beyond ±1 by that of 1 / x."""
    a = x.call("abs")
    large = a > 1.0
    angle = where(large, a.reciprocal(), a).call("arctan")
    return where(large, _HALF_PI - angle, angle) * x.call("sign")


@op("sin")
@dataclass(frozen=True, slots=True)
class Sin(UnaryFormula):
    """y = the sine of x, in radians, within 3e-7 for |x| up to 4e5; NaN of infinities."""

    def formula(self, *operands: Term) -> Term:
        """Return the Scalar engine's sine of x less whole turns."""
        return sine(operands[0])

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return several turns."""
        return (-30.0, 30.0)


@op("cos")
@dataclass(frozen=True, slots=True)
class Cos(UnaryFormula):
    """y = the cosine of x, in radians, within 3e-7 for |x| up to 4e5; NaN of infinities."""

    def formula(self, *operands: Term) -> Term:
        """Return sin(π / 2 - |r|), r = x less whole turns."""
        return cosine(operands[0])

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return several turns."""
        return (-30.0, 30.0)


@op("tan")
@dataclass(frozen=True, slots=True)
class Tan(UnaryFormula):
    """y = the tangent of x, in radians, as sin(x) / cos(x)."""

    def formula(self, *operands: Term) -> Term:
        """Return the quotient of sine and cosine."""
        return sine(operands[0]) * cosine(operands[0]).reciprocal()

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return angles away from the poles."""
        return (-1.4, 1.4)


@op("atan")
@dataclass(frozen=True, slots=True)
class Atan(UnaryFormula):
    """y = the angle in radians, within ±π / 2, whose tangent is x."""

    def formula(self, *operands: Term) -> Term:
        """Return the Scalar engine's arctan, of 1 / x beyond ±1."""
        return arc_tangent(operands[0])

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers on both sides of 1."""
        return (-5.0, 5.0)


@op("asin")
@dataclass(frozen=True, slots=True)
class Asin(UnaryFormula):
    """y = the angle in radians, within ±π / 2, whose sine is x; NaN beyond ±1."""

    def formula(self, *operands: Term) -> Term:
        """Return atan(x / sqrt((1 - x)·(1 + x)))."""
        (x,) = operands
        return arc_tangent(x * ((1.0 - x) * (1.0 + x)).call("sqrt").reciprocal())

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers within ±1."""
        return (-1.0, 1.0)


@op("acos")
@dataclass(frozen=True, slots=True)
class Acos(UnaryFormula):
    """y = the angle in radians, from 0 to π, whose cosine is x; NaN beyond ±1."""

    def formula(self, *operands: Term) -> Term:
        """Return 2·atan(sqrt((1 - x) / (1 + x)))."""
        (x,) = operands
        return arc_tangent(((1.0 - x) * (1.0 + x).reciprocal()).call("sqrt")) * 2.0

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers within ±1."""
        return (-1.0, 1.0)


@op("atan2")
@dataclass(frozen=True, slots=True)
class Atan2(Formula, Binary):
    """z = the angle in radians, within ±π, of the point (y, x); operands in the order y, x.

    0 where both are 0; the sign of a zero does not count; NaN if either is.
    """

    def formula(self, *operands: Term) -> Term:
        """Return the angle from the nearer axis, then mirrored into its octant."""
        y, x = operands
        ay, ax = y.call("abs"), x.call("abs")
        small, large = ay.alu("minimum", ax), ay.alu("maximum", ax)
        ratio = where(small.equals(large), 1.0, small * large.reciprocal())
        ratio = where(large.equals(0.0), 0.0, ratio)
        angle = ratio.call("arctan")
        angle = where(ay > ax, _HALF_PI - angle, angle)
        angle = where(x < 0.0, math.pi - angle, angle)
        return where(y < 0.0, 0.0 - angle, angle)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return points in all quadrants."""
        t = TensorType((3, 37), float32)
        return (Example(cls(), (t, t)),)

"""Rounding to whole numbers, in floating point."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.kernels.formula import Term, where
from emuron.compiler.ops.formula import UnaryFormula
from emuron.compiler.ops.registry import op

_WHOLE = 2.0**23  # a float32 of this size has no fraction


def nearest(x: Term) -> Term:
    """Return the nearest integer, halves to even; numbers too large for a fraction stay."""
    return where(x.call("abs") < _WHOLE, x.whole(), x)


@op("round")
@dataclass(frozen=True, slots=True)
class Round(UnaryFormula):
    """y = the integer nearest to x, halves to even; infinities and NaN stay."""

    def formula(self, *operands: Term) -> Term:
        """Return x through int32 where that has room."""
        return nearest(operands[0])

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers with halves among them (bfloat16 has few others)."""
        return (-300.0, 300.0)


@op("floor")
@dataclass(frozen=True, slots=True)
class Floor(UnaryFormula):
    """y = the largest integer not above x; infinities and NaN stay."""

    def formula(self, *operands: Term) -> Term:
        """Return the nearest integer, less 1 where it lies above x."""
        whole = nearest(operands[0])
        return whole - (whole > operands[0])

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers of both signs."""
        return (-9.0, 9.0)


@op("ceil")
@dataclass(frozen=True, slots=True)
class Ceil(UnaryFormula):
    """y = the smallest integer not below x; infinities and NaN stay."""

    def formula(self, *operands: Term) -> Term:
        """Return the nearest integer, plus 1 where it lies below x."""
        whole = nearest(operands[0])
        return whole + (whole < operands[0])

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers of both signs."""
        return (-9.0, 9.0)

"""Exponential, hyperbolic and error functions that the engines lack, from those they have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from emuron.compiler.graph import Array
from emuron.compiler.kernels.formula import Term, where
from emuron.compiler.ops.context import EvalContext
from emuron.compiler.ops.formula import UnaryFormula
from emuron.compiler.ops.registry import op
from emuron.compiler.ops.unary import Unary
from emuron.isa.alu import activation_function

_LN2 = math.log(2.0)
_LARGE = 1e9  # x + 1 and x are one float32, and so are x * x + 1 and x * x

# Least-squares fit over Chebyshev nodes of log(erfc(x)·exp(x²)/t), t = 1 / (1 + x / 2), 0 < t <= 1,
# lowest power first.
_ERFC = (
    *(-1.26551308, 1.0000632, 0.373478491, 0.101348847, -0.205162354),
    *(0.325365946, -1.20503794, 1.55119782, -0.853040145, 0.177299299),
)


def exp_minus_1(x: Term) -> Term:
    """Return exp(x) - 1: near 0 by tanh, which loses nothing there."""
    half = (x * 0.5).call("tanh")
    near = (half + half) * (1.0 - half).reciprocal()
    return where(x.call("abs") < 0.5, near, x.call("exp") - 1.0)


def log_1_plus(x: Term) -> Term:
    """Return log(1 + x): what 1 + x loses near 0 is made good by x / ((1 + x) - 1)."""
    sum = x + 1.0
    lost = sum - 1.0
    log = sum.call("log")
    mended = log * (x * where(lost.equals(0.0), 1.0, lost).reciprocal())
    return where(lost.equals(0.0), x, where(x < _LARGE, mended, log))


@op("expm1")
@dataclass(frozen=True, slots=True)
class ExpMinus1(UnaryFormula):
    """y = exp(x) - 1, accurate near 0."""

    def formula(self, *operands: Term) -> Term:
        """Return it by tanh below 0.5, by exp beyond."""
        return exp_minus_1(operands[0])


@op("log1p")
@dataclass(frozen=True, slots=True)
class LogOnePlus(UnaryFormula):
    """y = log(1 + x), accurate near 0; -inf at -1, NaN below."""

    def formula(self, *operands: Term) -> Term:
        """Return log(1 + x) with what 1 + x lost made good."""
        return log_1_plus(operands[0])

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers above -1."""
        return (-0.9, 3.0)


@op("softplus")
@dataclass(frozen=True, slots=True)
class Softplus(Unary):
    """y = log(1 + exp(x)), as max(x, 0) + log(1 + exp(-|x|))."""

    activation: ClassVar[str | None] = "softplus"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the Scalar engine's function."""
        return (activation_function("softplus").compute(ev.backend, arrays[0]),)


@op("sinh")
@dataclass(frozen=True, slots=True)
class Sinh(UnaryFormula):
    """y = the hyperbolic sine of x."""

    def formula(self, *operands: Term) -> Term:
        """Return 2t / (1 - t²), t = tanh(x / 2), below 1; else halves of exponentials."""
        (x,) = operands
        t = (x * 0.5).call("tanh")
        near = (t + t) * (1.0 - t * t).reciprocal()
        return where(x.call("abs") < 1.0, near, _half_square(x, 0.5) - _half_square(x, -0.5))


@op("cosh")
@dataclass(frozen=True, slots=True)
class Cosh(UnaryFormula):
    """y = the hyperbolic cosine of x."""

    def formula(self, *operands: Term) -> Term:
        """Return the sum of halves of exponentials."""
        (x,) = operands
        return _half_square(x, 0.5) + _half_square(x, -0.5)


def _half_square(x: Term, half: float) -> Term:
    """Return exp(±x) / 2 as (r / 2)·r, r = exp(±x / 2): it overflows no sooner than cosh does."""
    root = (x * half).call("exp")
    return (root * 0.5) * root


@op("asinh")
@dataclass(frozen=True, slots=True)
class Asinh(UnaryFormula):
    """y = the number whose hyperbolic sine is x."""

    def formula(self, *operands: Term) -> Term:
        """Return ± log1p(a + a² / (1 + sqrt(a² + 1))), a = |x|."""
        (x,) = operands
        a = x.call("abs")
        square = a * a
        small = log_1_plus(a + square * ((square + 1.0).call("sqrt") + 1.0).reciprocal())
        return where(a < _LARGE, small, a.call("log") + _LN2) * x.call("sign")


@op("acosh")
@dataclass(frozen=True, slots=True)
class Acosh(UnaryFormula):
    """y = the non-negative number whose hyperbolic cosine is x; NaN below 1."""

    def formula(self, *operands: Term) -> Term:
        """Return log1p(t + sqrt(2t + t²)), t = x - 1."""
        (x,) = operands
        t = x - 1.0
        small = log_1_plus(t + (t * (t + 2.0)).call("sqrt"))
        return where(x > _LARGE, x.call("log") + _LN2, small)

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers above 1."""
        return (1.0, 5.0)


@op("atanh")
@dataclass(frozen=True, slots=True)
class Atanh(UnaryFormula):
    """y = the number whose hyperbolic tangent is x; infinite at ±1, NaN beyond."""

    def formula(self, *operands: Term) -> Term:
        """Return ± log1p(2a / (1 - a)) / 2, a = |x|."""
        (x,) = operands
        a = x.call("abs")
        return log_1_plus((a + a) * (1.0 - a).reciprocal()) * 0.5 * x.call("sign")

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return numbers within ±1."""
        return (-0.99, 0.99)


@op("erfc")
@dataclass(frozen=True, slots=True)
class Erfc(UnaryFormula):
    """y = 1 - erf(x), within 3e-6 of its own size in the tail too (for x < 5; 1e-5 beyond)."""

    def formula(self, *operands: Term) -> Term:
        """Return t·exp(P(t) - x²), t = 1 / (1 + |x| / 2), and 2 minus it for negative x."""
        (x,) = operands
        a = x.call("abs")
        t = (a * 0.5 + 1.0).reciprocal()
        series = t * _ERFC[-1] + _ERFC[-2]
        for coefficient in _ERFC[-3::-1]:
            series = series * t + coefficient
        tail = t * (series - a * a).call("exp")
        return where(x < 0.0, 2.0 - tail, tail)

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return both tails."""
        return (-4.0, 4.0)

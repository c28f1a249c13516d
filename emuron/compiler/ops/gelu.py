"""The Gaussian error linear unit, exact and approximate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emuron.compiler.graph import Array, TensorType
from emuron.compiler.ops.arguments import require
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.compiler.ops.unary import Unary
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import bfloat16, float32

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715
"""Hendrycks and Gimpel, Gaussian Error Linear Units, arXiv:1606.08415, section 2."""


@op("gelu")
@dataclass(frozen=True, slots=True)
class Gelu(Unary):
    """y = x * Phi(x); `approximate` is "none" or "tanh". float32 throughout, in this order:

    none: y = (x * 0.5) * (erf(x * sqrt(1/2)) + 1)
    tanh: y = (x * 0.5) * (tanh((((x * x) * 0.044715 + 1) * x) * sqrt(2/pi)) + 1)
    Each constant is its nearest float32.
    """

    approximate: str = "none"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the type of x."""
        require(
            self.approximate in ("none", "tanh"),
            f"approximate must be 'none' or 'tanh', found {self.approximate!r}",
        )
        return Unary.infer(self, *types)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the exact or the tanh form."""
        if self.approximate == "tanh":
            return (gelu_tanh(ev.backend, arrays[0]),)
        return (gelu_erf(ev.backend, arrays[0]),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both forms in float32 and bfloat16."""
        types = TensorType((3, 37), float32), TensorType((4, 64), bfloat16)
        return tuple(
            Example(cls(form), (t,), ((-6.0, 6.0),)) for form in ("none", "tanh") for t in types
        )


def gelu_erf(backend: Backend, x: Array) -> Array:
    """Return (x * 0.5) * (erf(x * sqrt(1/2)) + 1) in float32."""
    phi = backend.add(backend.erf(backend.multiply(x, _SQRT_HALF)), 1.0)
    return backend.multiply(backend.multiply(x, 0.5), phi)


def gelu_tanh(backend: Backend, x: Array) -> Array:
    """Return (x * 0.5) * (tanh((((x * x) * 0.044715 + 1) * x) * sqrt(2/pi)) + 1) in float32."""
    cubic = backend.add(backend.multiply(backend.multiply(x, x), _CUBIC), 1.0)
    inner = backend.multiply(backend.multiply(cubic, x), _SQRT_2_OVER_PI)
    return backend.multiply(backend.multiply(x, 0.5), backend.add(backend.tanh(inner), 1.0))

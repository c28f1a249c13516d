"""The Gaussian error linear unit, exact and approximate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from emuron.compiler.graph import Array, TensorType
from emuron.compiler.ops.arguments import require
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.compiler.ops.unary import Unary
from emuron.isa.alu import activation_function
from emuron.numerics.dtypes import bfloat16, float32

_FUNCTIONS: Mapping[str, str] = MappingProxyType({"none": "gelu", "tanh": "gelu_apprx_tanh"})
"""The Scalar engine's activation function of each form."""


@op("gelu")
@dataclass(frozen=True, slots=True)
class Gelu(Unary):
    """y = x * Phi(x), by the Scalar engine's own functions; `approximate` is "none" or "tanh".

    float32 throughout, each constant its nearest float32, in this order:
    none: y = (x * 0.5) * (erf(x * sqrt(1/2)) + 1)
    tanh: y = (x * 0.5) * (tanh((x + ((x * x) * x) * 0.044715) * sqrt(2/pi)) + 1)
    """

    approximate: str = "none"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the type of x."""
        require(
            self.approximate in _FUNCTIONS,
            f"approximate must be 'none' or 'tanh', found {self.approximate!r}",
        )
        return Unary.infer(self, *types)

    @property
    def activation(self) -> str:  # type: ignore[override]
        """The Scalar engine's function."""
        return _FUNCTIONS[self.approximate]

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the exact or the tanh form."""
        return (activation_function(self.activation).compute(ev.backend, arrays[0]),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both forms in float32 and bfloat16."""
        types = TensorType((3, 37), float32), TensorType((4, 64), bfloat16)
        return tuple(
            Example(cls(form), (t,), ((-6.0, 6.0),)) for form in ("none", "tanh") for t in types
        )

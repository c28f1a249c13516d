"""Elementwise questions about one operand, answered by bool_."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.graph import TensorType
from emuron.compiler.kernels.formula import Term
from emuron.compiler.ops.arguments import require, require_operands
from emuron.compiler.ops.context import Example
from emuron.compiler.ops.formula import Formula, UnaryFormula
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import bool_, float32


@dataclass(frozen=True, slots=True)
class _Question(UnaryFormula):
    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return bool_ of x's shape."""
        (x,) = UnaryFormula.infer(self, *types)
        return (x.with_dtype(bool_),)


@op("isnan")
@dataclass(frozen=True, slots=True)
class IsNaN(_Question):
    """y = whether x is NaN."""

    def formula(self, *operands: Term) -> Term:
        """Return whether x differs from itself."""
        return operands[0].differs(operands[0])


@op("isfinite")
@dataclass(frozen=True, slots=True)
class IsFinite(_Question):
    """y = whether x is neither infinite nor NaN."""

    def formula(self, *operands: Term) -> Term:
        """Return whether |x| is at most the largest float32."""
        return operands[0].call("abs") <= float32.max


@op("logical_not")
@dataclass(frozen=True, slots=True)
class LogicalNot(Formula):
    """y = whether x is 0 (of numbers) or false."""

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return bool_ of x's shape."""
        require_operands(types, "x")
        require(types[0].dtype.kind != "packed", f"x must hold single numbers, found {types[0]}")
        return (types[0].with_dtype(bool_),)

    def formula(self, *operands: Term) -> Term:
        """Return whether x is 0."""
        return operands[0].equals(0.0)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return truths."""
        return (Example(cls(), (TensorType((3, 37), bool_),)),)

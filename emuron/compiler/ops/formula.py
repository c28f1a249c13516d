"""What an element-wise operator that is a formula of the engines' functions has in common."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.graph import Array, Op
from emuron.compiler.kernels import formula as formulas
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.formula import Term
from emuron.compiler.ops.context import EvalContext
from emuron.compiler.ops.unary import Unary


@dataclass(frozen=True, slots=True)
class Formula(Op):
    """An operator whose `evaluate` and kernel are one formula, float32 throughout."""

    def formula(self, *operands: Term) -> Term:
        """Return the result as a term of the operands."""
        raise NotImplementedError(f"{type(self).__name__}.formula")

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write the formula's steps."""
        formulas.lower(k, self.formula, inputs, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the formula's value."""
        return (formulas.evaluate(self.formula, ev.backend, ev.policy, arrays),)


@dataclass(frozen=True, slots=True)
class UnaryFormula(Formula, Unary):
    """A formula of one floating-point operand."""

"""Softmax and its logarithm over the last dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emuron.compiler.graph import Array, Op, TensorType, Value
from emuron.compiler.kernels import normalize
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_float, require_operands
from emuron.compiler.ops.composite import Composite
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.compiler.ops.unary import Unary
from emuron.numerics.dtypes import bfloat16, float32

if TYPE_CHECKING:
    from emuron.compiler.ops.builder import GraphBuilder


@op("softmax")
@dataclass(frozen=True, slots=True)
class Softmax(Unary):
    """y = exp(x - max(x)) / sum, over the last dimension, float32 throughout, in this order:

    m = max(x);  e = exp(x + (-m));  s = sum(e) over the contiguous row;  y = e * (1 / s).
    """

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write the four steps, row tile by row tile."""
        normalize.softmax(k, inputs[0], outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the four steps."""
        b = ev.backend
        x = arrays[0]
        m = b.max(x, axis=-1, keepdims=True)
        e = b.exp(b.subtract(x, m))
        s = b.sum(e, axis=-1, keepdims=True)
        return (b.multiply(e, b.reciprocal(s)),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return small and large scores."""
        return _examples(cls())


@op("log_softmax")
@dataclass(frozen=True, slots=True)
class LogSoftmax(Composite):
    """y = (x - max(x)) - log(sum(exp(x - max(x)))) over the last dimension, float32 throughout."""

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return the difference to the largest, less the logarithm of its exponentials' sum."""
        require_operands(tuple(v.type for v in operands), "x")
        require_float(operands[0].type, "x")
        require(operands[0].type.rank > 0, "x must have a last dimension")
        last = (operands[0].type.rank - 1,)
        x = b.cast(operands[0], float32)
        below = b.sub(x, b.reduce("max", x, last, keepdims=True))
        total = b.reduce("sum", b.apply("exp", below), last, keepdims=True)
        return (b.cast(b.sub(below, b.apply("log", total)), operands[0].type.dtype),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return small and large scores."""
        return _examples(cls())


def _examples(op: Op) -> tuple[Example, ...]:
    return (
        Example(op, (TensorType((3, 4, 37), float32),), ((-4.0, 4.0),)),
        Example(op, (TensorType((5, 130), bfloat16),), ((-60.0, 60.0),)),
    )

"""Softmax over the last dimension."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.graph import Array, TensorType
from emuron.compiler.kernels import normalize
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.compiler.ops.unary import Unary
from emuron.numerics.dtypes import bfloat16, float32


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
        return (
            Example(cls(), (TensorType((3, 4, 37), float32),), ((-4.0, 4.0),)),
            Example(cls(), (TensorType((5, 130), bfloat16),), ((-60.0, 60.0),)),
        )

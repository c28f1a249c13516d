"""Rotary position embedding."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import elementwise
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_float, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import bfloat16, float32


@op("rope")
@dataclass(frozen=True, slots=True)
class Rope(Op):
    """Rotates pairs of x[B, H, S, D] by the angles whose cosine and sine are [B, S, R / 2].

    A pair is (i, i + R/2), or (2i, 2i + 1) if `interleaved`; elements R.. of D pass unchanged.
    (x1, x2) -> (x1 * cos - x2 * sin, x2 * cos + x1 * sin) in float32, rounded once to x's dtype.
    """

    interleaved: bool = False

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Rotate row tile by row tile, all heads at once."""
        x, cos, sin = inputs
        elementwise.rope(k, x, cos, sin, outputs[0], self.interleaved)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        require_operands(types, "x", "cos", "sin")
        x, cos, sin = types
        require_float(x, "x")
        require(x.rank == 4, f"x must be [batch, heads, sequence, head size], found {x}")
        require(cos == sin, f"cos ({cos}) and sin ({sin}) must have one type")
        half = cos.shape[-1] if cos.rank else 0
        expected = (x.shape[0], x.shape[2], half)
        require(cos.shape == expected, f"cos must be {list(expected)}, found {cos}")
        require(0 < 2 * half <= x.shape[3], f"cos ({cos}) rotates more than the head of x ({x})")
        return (x,)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the rotated pairs, each in its old place."""
        b = ev.backend
        x, cos, sin = arrays
        batch, length, half = cos.shape
        cos = b.reshape(cos, (batch, 1, length, half))
        sin = b.reshape(sin, (batch, 1, length, half))
        if self.interleaved:
            first, second = x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2]
        else:
            first, second = x[..., :half], x[..., half : 2 * half]
        out = b.empty(tuple(x.shape), float32)
        places = (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
        if not self.interleaved:
            places = (slice(0, half), slice(half, 2 * half))
        out[..., places[0]] = b.subtract(b.multiply(first, cos), b.multiply(second, sin))
        out[..., places[1]] = b.add(b.multiply(second, cos), b.multiply(first, sin))
        out[..., 2 * half :] = x[..., 2 * half :]
        return (out,)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both pairings, and a head of which only a part turns."""
        x, angles = TensorType((2, 3, 5, 8), float32), TensorType((2, 5, 4), float32)
        part = TensorType((2, 5, 2), float32)
        return (
            Example(cls(), (x, angles, angles)),
            Example(cls(interleaved=True), (x.with_dtype(bfloat16), angles, angles)),
            Example(cls(), (x, part, part)),
        )

"""Affine quantisation of tensors, channels or blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops.arguments import require, require_axis, require_float
from emuron.compiler.ops.composite import Composite
from emuron.compiler.ops.context import Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import DType, bfloat16, dtype, float8_e4m3, float32, int8, uint8

if TYPE_CHECKING:
    from emuron.compiler.ops.builder import GraphBuilder


@dataclass(frozen=True, slots=True)
class _Quantization(Composite):
    """Operands x, scale and maybe zero_point (of scale's shape).

    scale is [] for the whole tensor; [C] for the entries of dimension `axis`; with `block`, of x's
    shape but for `axis`, where an entry serves `block` elements of x.
    """

    dtype: DType
    axis: int | None = None
    block: int = 0

    def _spread(self, b: GraphBuilder, part: Value, x: TensorType) -> Value:
        """Return a scale or zero point, as float32 of x's shape."""
        part = b.cast(part, float32)
        if self.axis is None:
            require(part.type.elements == 1, f"scale must be one number, found {part.type}")
            return b.broadcast(b.reshape(part), x.shape, ())
        require_axis(self.axis, x.rank)
        if not self.block:
            require(
                part.shape == (x.shape[self.axis],),
                f"scale must hold {x.shape[self.axis]} numbers, found {part.type}",
            )
            return b.broadcast(part, x.shape, (self.axis,))
        return self._blocks(b, part, x)

    def _blocks(self, b: GraphBuilder, part: Value, x: TensorType) -> Value:
        axis, size = self.axis or 0, x.shape[self.axis or 0]
        count = -(-size // self.block)
        expected = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        require(part.shape == expected, f"scale must be {list(expected)}, found {part.type}")
        apart = b.reshape(part, *expected[: axis + 1], 1, *expected[axis + 1 :])
        wide = (*expected[: axis + 1], self.block, *expected[axis + 1 :])
        merged = (*x.shape[:axis], count * self.block, *x.shape[axis + 1 :])
        spread = b.reshape(b.broadcast(apart, wide), *merged)
        return spread if count * self.block == size else b.slice(spread, axis, 0, size)

    def _operands(self, operands: tuple[Value, ...]) -> tuple[Value, Value, Value | None]:
        require(len(operands) in (2, 3), f"takes x, scale, maybe zero_point; found {len(operands)}")
        x, scale, *zero = operands
        require_float(scale.type, "scale")
        return x, scale, zero[0] if zero else None


@op("quantize")
@dataclass(frozen=True, slots=True)
class Quantize(_Quantization):
    """y = x / scale, rounded to the nearest integer (halves to even), plus zero_point, saturated.

    To a float `dtype` there is no zero point, and its own rounding. `low` and `high` narrow the
    range: 4-bit numbers are int8 from -8 to 7. NaN becomes 0 in an integer. The quotient is x times
    the reciprocal of scale, as PyTorch has it, or with `exact` the division of ONNX: they differ
    where it lies half way between integers.
    """

    low: float | None = None
    high: float | None = None
    exact: bool = False

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return quotient, rounding, zero point, clamp and cast, float32 up to the cast."""
        x, scale, zero = self._operands(operands)
        require_float(x.type, "x")
        to = dtype(self.dtype)
        scales = self._spread(b, scale, x.type)
        y = b.div(b.cast(x, float32), scales, exact=self.exact)
        if to.is_integer:
            y = b.apply("round", y)
            if zero is not None:
                y = b.add(y, self._spread(b, zero, x.type))
        low, high = (to.min if self.low is None else self.low), self.high
        return (b.cast(b.clamp(y, float(low), float(to.max if high is None else high)), to),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return one scale, one a channel, one a block, 4 bits and fp8."""
        x, one = TensorType((3, 10), float32), TensorType((), float32)
        zero = TensorType((10,), uint8)
        wide, scales = ((-30.0, 30.0), (0.1, 0.3)), TensorType((10,), float32)
        return (
            Example(cls(int8), (x, one), wide),
            Example(cls(uint8, axis=1), (x, scales, zero), (*wide, (100, 140))),
            Example(cls(int8, axis=1, block=4), (x, TensorType((3, 3), float32)), wide),
            Example(cls(int8, exact=True), (x, one), wide),
            Example(cls(int8, low=-8, high=7), (x.with_dtype(bfloat16), one), wide),
            Example(cls(float8_e4m3), (x, one), ((-2.0, 2.0), (0.01, 0.02))),
        )


@op("dequantize")
@dataclass(frozen=True, slots=True)
class Dequantize(_Quantization):
    """y = (x - zero_point) * scale in float32, rounded once to `dtype`."""

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return the difference, the product and the cast."""
        x, scale, zero = self._operands(operands)
        y = b.cast(x, float32)
        if zero is not None:
            y = b.sub(y, self._spread(b, zero, x.type))
        return (b.cast(b.mul(y, self._spread(b, scale, x.type)), self.dtype),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return one scale, one a channel, one a block, and fp8."""
        x, one = TensorType((3, 10), int8), TensorType((), float32)
        scales, zero = TensorType((10,), float32), TensorType((10,), int8)
        wide = ((-128, 127), (0.1, 0.3))
        return (
            Example(cls(float32), (x, one), wide),
            Example(cls(bfloat16, axis=1), (x, scales, zero), (*wide, (-9, 9))),
            Example(cls(float32, axis=1, block=4), (x, TensorType((3, 3), float32)), wide),
            Example(cls(float32), (x.with_dtype(float8_e4m3), one), ((-9.0, 9.0), (0.1, 0.3))),
        )

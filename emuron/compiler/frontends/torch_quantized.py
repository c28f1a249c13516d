"""Operators of PT2E's quantised graphs: quantize and dequantize, of tensors and of channels."""

from __future__ import annotations

from typing import Any

from emuron.compiler.frontends.torch_call import Call, aten, axis_of
from emuron.compiler.graph import Value
from emuron.numerics.dtypes import DType, float32


def _scale(c: Call, scale: Value | float) -> Value:
    """Return a scale as a float32 tensor without dimensions, or with one for each channel."""
    if not isinstance(scale, Value):
        return c.b.full(scale, (), float32)
    flat = scale if scale.type.rank <= 1 and scale.type.elements > 1 else c.b.reshape(scale)
    return c.b.cast(flat, float32)


def _zero(c: Call, zero: Value | int | None, scale: Value, to: DType) -> Value | None:
    """Return a zero point of the scale's shape, None where it is 0."""
    if zero is None or (not isinstance(zero, Value) and zero == 0):
        return None
    if not isinstance(zero, Value):
        return c.b.full(zero, scale.shape, to)
    return c.b.cast(c.b.reshape(zero, *scale.shape), to)


@aten(*(f"quantized_decomposed.quantize_per_tensor.{o}" for o in ("default", "tensor", "tensor2")))
def _quantize(
    c: Call, x: Value, scale: Any, zero: Any, low: float, high: float, to: DType
) -> Value:
    factor = _scale(c, scale)
    point = _zero(c, zero, factor, c.out.dtype)
    return c.b.quantize(x, factor, point, to=c.out.dtype, low=low, high=high)


@aten("quantized_decomposed.quantize_per_channel.default")
def _quantize_channels(
    c: Call, x: Value, scales: Value, zeros: Value, axis: int, low: float, high: float, to: DType
) -> Value:
    factor = c.b.cast(scales, float32)
    point = _zero(c, zeros, factor, c.out.dtype)
    axis = axis_of(axis, x.type.rank)
    return c.b.quantize(x, factor, point, to=c.out.dtype, axis=axis, low=low, high=high)


@aten(
    *(f"quantized_decomposed.dequantize_per_tensor.{o}" for o in ("default", "tensor", "tensor2"))
)
def _dequantize(
    c: Call, x: Value, scale: Any, zero: Any, low: float, high: float, of: DType, **options: Any
) -> Value:
    factor = _scale(c, scale)
    return c.b.dequantize(x, factor, _zero(c, zero, factor, x.type.dtype), to=c.out.dtype)


@aten("quantized_decomposed.dequantize_per_channel.default")
def _dequantize_channels(
    c: Call,
    x: Value,
    scales: Value,
    zeros: Value | None,
    axis: int,
    low: float,
    high: float,
    of: DType,
    **options: Any,
) -> Value:
    factor = c.b.cast(scales, float32)
    point = _zero(c, zeros, factor, x.type.dtype)
    return c.b.dequantize(x, factor, point, to=c.out.dtype, axis=axis_of(axis, x.type.rank))

"""ONNX operators of quantised models."""

from __future__ import annotations

from emuron.compiler.frontends.onnx_call import Call, onnx_op
from emuron.compiler.frontends.onnx_sums import matmul
from emuron.compiler.frontends.onnx_types import LIMITS, element_of
from emuron.compiler.frontends.onnx_windows import padding, sizes
from emuron.compiler.graph import Value
from emuron.errors import ModelFileError, UnsupportedOpError
from emuron.numerics.dtypes import float32, int32, uint8


def _grain(c: Call, x: Value, scale: Value) -> tuple[int | None, int]:
    """Return along which dimension there are several scales, and how long a block is."""
    if scale.type.elements == 1 and scale.type.rank <= 1 and not c.attribute("block_size", 0):
        return None, 0
    return c.axis(c.attribute("axis", 1), x.type.rank), c.attribute("block_size", 0)


@onnx_op("QuantizeLinear")
def _quantize(c: Call) -> Value:
    x, scale, zero = c.x(0), c.x(1), c.maybe(2)
    element = c.element(2) if zero is not None else c.attribute("output_dtype", 0)
    element = element or element_of(uint8)
    c.elements[0] = element
    to = c.dtype(element)
    axis, block = _grain(c, x, scale)
    low, high = LIMITS.get(element, (None, None))
    if to.is_float:
        if not c.attribute("saturate", 1):
            raise UnsupportedOpError("QuantizeLinear to 8-bit floats saturates on the chip")
        zero = None
    return c.b.quantize(
        x, scale, zero, to=to, axis=axis, block=block, low=low, high=high, exact=True
    )


@onnx_op("DequantizeLinear")
def _dequantize(c: Call) -> Value:
    x, scale, zero = c.x(0), c.x(1), c.maybe(2)
    element = c.attribute("output_dtype", 0)
    to = c.dtype(element) if element else scale.type.dtype
    axis, block = _grain(c, x, scale)
    if x.type.dtype.is_float:
        zero = None
    return c.b.dequantize(x, scale, zero, to=to, axis=axis, block=block)


@onnx_op("MatMulInteger")
def _matmul_integer(c: Call) -> Value:
    x = _difference(c, 0, 2, column=True)
    y = _difference(c, 1, 3, column=False)
    return c.b.cast(matmul(c, x, y), int32)


def _difference(c: Call, index: int, zero: int, *, column: bool) -> Value:
    """Return 8-bit numbers less their zero point, as float32: exact, as are products of them."""
    x = c.b.cast(c.x(index), float32)
    if not c.has(zero):
        return x
    point = c.b.cast(c.x(zero), float32)
    if column and point.type.rank == 1 and point.type.elements > 1:
        point = c.b.reshape(point, *point.shape, 1)
    return c.b.sub(x, point)


@onnx_op("ConvInteger")
def _conv_integer(c: Call) -> Value:
    x = _difference(c, 0, 2, column=False)
    weight = c.b.cast(c.x(1), float32)
    if c.has(3):
        weight = c.b.sub(weight, _by_output(c, c.x(3), weight))
    return c.b.cast(_convolved(c, x, weight), int32)


def _by_output(c: Call, x: Value, weight: Value) -> Value:
    """Return a number for all outputs of a convolution's weight, or one for each, to broadcast."""
    ones = (1,) * (weight.type.rank - 1)
    return c.b.reshape(c.b.cast(x, float32), x.type.elements, *ones)


def _convolved(c: Call, x: Value, weight: Value) -> Value:
    count = x.type.rank - 2
    return c.b.conv(
        x,
        weight,
        stride=sizes(c, "strides", count),
        padding=padding(c, x.shape[2:], weight.shape[2:]),
        dilation=sizes(c, "dilations", count),
        groups=c.attribute("group", 1),
    )


@onnx_op("QLinearMatMul")
def _qlinear_matmul(c: Call) -> Value:
    x = _dequantized(c, 0, column=True)
    y = _dequantized(c, 3, column=False)
    return _requantized(c, matmul(c, x, y), 6)


def _dequantized(c: Call, first: int, *, column: bool) -> Value:
    """Return operands first, first + 1, first + 2 (numbers, scale, zero point) as float32."""
    scale = c.b.cast(c.x(first + 1), float32)
    if column and scale.type.rank == 1 and scale.type.elements > 1:
        scale = c.b.reshape(scale, *scale.shape, 1)
    return c.b.mul(_difference(c, first, first + 2, column=column), scale)


def _requantized(c: Call, y: Value, scale: int) -> Value:
    to = c.x(scale + 1).type.dtype
    return c.b.quantize(y, _one(c, scale), _one(c, scale + 1), to=to, exact=True)


def _one(c: Call, index: int) -> Value:
    x = c.x(index)
    if x.type.elements != 1:
        raise ModelFileError(f"{c.kind}: operand {index} must be one number, found {x.type}")
    return c.b.cast(x, float32) if x.type.dtype.is_float else x


@onnx_op("QLinearConv")
def _qlinear_conv(c: Call) -> Value:
    x = _difference(c, 0, 2, column=False)
    weight = c.b.cast(c.x(3), float32)
    weight = c.b.sub(weight, _by_output(c, c.x(5), weight))
    y = _convolved(c, x, weight)
    channels = (1, -1, *(1,) * (y.type.rank - 2))
    if c.has(8):
        y = c.b.add(y, c.b.reshape(c.b.cast(c.x(8), float32), *channels))
    scale = c.b.mul(c.b.reshape(c.x(4), c.x(4).type.elements), c.b.reshape(c.x(1), 1))
    y = c.b.mul(y, c.b.reshape(scale, *channels))
    return _requantized(c, y, 6)

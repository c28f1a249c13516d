"""ATen operators that compute element by element: arithmetic, relations, logic, casts."""

from __future__ import annotations

import math
from typing import Any

from emuron.compiler.frontends.torch_call import Call, aten
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bool_, float32

Scalar = float | int | bool
Operand = Value | Scalar


def _scaled(c: Call, y: Operand, alpha: Scalar) -> Operand:
    y = c.to_out(y)
    if alpha == 1:
        return y
    return c.b.mul(y, alpha) if isinstance(y, Value) else y * alpha


@aten("add.Tensor", "add.Scalar")
def _add(c: Call, x: Value, y: Operand, alpha: Scalar = 1) -> Value:
    return c.b.add(c.to_out(x), _scaled(c, y, alpha))


@aten("sub.Tensor", "sub.Scalar")
def _sub(c: Call, x: Value, y: Operand, alpha: Scalar = 1) -> Value:
    return c.b.sub(c.to_out(x), _scaled(c, y, alpha))


@aten("rsub.Tensor", "rsub.Scalar")
def _rsub(c: Call, x: Value, y: Operand, alpha: Scalar = 1) -> Value:
    return c.b.sub(c.to_out(y), _scaled(c, x, alpha))


@aten("mul.Tensor", "mul.Scalar")
def _mul(c: Call, x: Value, y: Operand) -> Value:
    return c.to_out(x) if y == 1 and not isinstance(y, Value) else c.b.mul(*map(c.to_out, (x, y)))


@aten("div.Tensor", "div.Scalar")
def _div(c: Call, x: Value, y: Operand) -> Value:
    # A division by a number is a product with its inverse only where that is exact.
    if isinstance(y, int | float) and y and math.frexp(y)[0] in (0.5, -0.5):
        return c.b.mul(c.to_out(x), 1 / y)
    return c.b.div(c.to_out(x), c.to_out(y))


@aten("div.Tensor_mode", "div.Scalar_mode", "floor_divide.default")
def _divide_whole(c: Call, x: Value, y: Operand, *, rounding_mode: str | None = "floor") -> Value:
    if c.out.dtype.kind != "float":
        name = "floordiv" if rounding_mode == "floor" else "div"
        return c.b.combine(name, c.to_out(x), c.to_out(y))
    quotient = _div(c, x, y)
    if rounding_mode is None:
        return quotient
    return c.b.apply("floor", quotient) if rounding_mode == "floor" else truncated(c, quotient)


def truncated(c: Call, x: Value) -> Value:
    """Return a floating-point tensor without its fraction."""
    return c.b.mul(c.b.apply("sign", x), c.b.apply("floor", c.b.apply("abs", x)))


def _two_operands(name: str, *overloads: str) -> None:
    @aten(*overloads)
    def combine(c: Call, x: Operand, y: Operand) -> Value:
        return c.b.combine(name, c.to_out(x), c.to_out(y))


_two_operands("mod", "remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
_two_operands("rem", "fmod.Tensor", "fmod.Scalar")
_two_operands("atan2", "atan2.default")
_two_operands("shl", "bitwise_left_shift.Tensor", "bitwise_left_shift.Tensor_Scalar")
_two_operands("shl", "__lshift__.Scalar", "__lshift__.Tensor")
_two_operands("shr", "bitwise_right_shift.Tensor", "bitwise_right_shift.Tensor_Scalar")
_two_operands("shr", "__rshift__.Scalar", "__rshift__.Tensor")
for _name in ("and", "or", "xor"):
    _two_operands(_name, *(f"bitwise_{_name}.{o}" for o in ("Tensor", "Scalar", "Scalar_Tensor")))
    _two_operands(_name, f"logical_{_name}.default")


@aten("maximum.default")
def _maximum(c: Call, x: Value, y: Value) -> Value:
    return c.b.maximum(c.to_out(x), c.to_out(y))


@aten("minimum.default")
def _minimum(c: Call, x: Value, y: Value) -> Value:
    return c.b.minimum(c.to_out(x), c.to_out(y))


@aten("clamp.default", "clamp.Tensor")
def _clamp(c: Call, x: Value, low: Operand | None = None, high: Operand | None = None) -> Value:
    x = c.to_out(x)
    if low is not None and low != -math.inf:
        x = c.b.maximum(x, c.to_out(low))
    return x if high is None else c.b.minimum(x, c.to_out(high))


@aten("hardtanh.default")
def _hardtanh(c: Call, x: Value, low: Scalar = -1, high: Scalar = 1) -> Value:
    return _clamp(c, x, low, high)


@aten("clamp_min.default", "clamp_min.Tensor")
def _clamp_min(c: Call, x: Value, low: Operand) -> Value:
    return _clamp(c, x, low)


@aten("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(c: Call, x: Value, high: Operand) -> Value:
    return _clamp(c, x, None, high)


@aten("pow.Tensor_Scalar")
def _power(c: Call, x: Value, exponent: Scalar) -> Value:
    x = c.to_out(x)
    if exponent == 0.5:
        return c.b.apply("sqrt", x)
    if exponent == -0.5:
        return c.b.apply("rsqrt", x)
    if exponent == -1:
        return c.b.apply("reciprocal", x)
    if exponent in (1, 2, 3, 4):
        square = x if exponent == 1 else c.b.mul(x, x)
        return square if exponent < 3 else c.b.mul(square, x if exponent == 3 else square)
    return c.b.combine("pow", x, float(exponent))


@aten("pow.Tensor_Tensor", "pow.Scalar")
def _power_of_tensors(c: Call, x: Operand, y: Value) -> Value:
    return c.b.combine("pow", c.to_out(x), c.to_out(y))


def _relation(name: str) -> None:
    @aten(f"{name}.Tensor", f"{name}.Scalar")
    def compare(c: Call, x: Value, y: Operand) -> Value:
        if isinstance(y, Value):
            common = _common_dtype(x, y)
            return c.b.compare(name, c.cast(x, common), c.cast(y, common))
        if isinstance(y, float) and x.type.dtype.kind != "float":
            x = c.b.cast(x, float32)
        if x.type.dtype == bool_:
            x = c.b.cast(x, "int32")
        return c.b.compare(name, x, y)


def _common_dtype(x: Value, y: Value) -> Any:
    """Return the wider dtype of two, as PyTorch promotes them (ranks 0 do not widen floats)."""
    order = {"bool": 0, "uint": 1, "int": 2, "float": 3}
    found = [v.type.dtype for v in (x, y)]
    if found[0].kind == found[1].kind and (x.type.rank == 0) != (y.type.rank == 0):
        return found[1] if x.type.rank == 0 else found[0]
    if found[0].kind == "float" and found[0] != found[1] and found[0].itemsize == 2:
        return float32 if found[1].kind == "float" else found[0]
    return max(found, key=lambda d: (order[d.kind], d.itemsize))


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _relation(_name)


@aten("bitwise_not.default", "logical_not.default")
def _not(c: Call, x: Value) -> Value:
    if c.out.dtype == bool_:
        return c.b.compare("eq", c.cast(x, bool_), 0)
    return c.b.apply("bitwise_not", x)


@aten("where.self", "where.ScalarOther", "where.ScalarSelf")
def _where(c: Call, condition: Value, x: Operand, y: Operand) -> Value:
    x, y = c.to_out(x), c.to_out(y)
    if isinstance(x, Value):
        x = c.b.broadcast(x, c.out.shape)
    if isinstance(y, Value):
        y = c.b.broadcast(y, c.out.shape)
    return c.b.select(c.cast(condition, bool_), x, y)


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(c: Call, x: Value, mask: Value, value: Operand) -> Value:
    return _where(c, mask, value, x)


@aten("native_dropout.default", "dropout.default")
def _dropout(c: Call, x: Value, p: float, train: bool | None) -> Any:
    if train and p:
        raise UnsupportedOpError("dropout is random in training mode; call module.eval() first")
    return x


@aten("_to_copy.default", "to.dtype", "convert_element_type.default")
def _convert(c: Call, x: Value, *arguments: Any, **options: Any) -> Value:
    to = c.out.dtype
    if x.type.dtype.kind == "float" and to.kind in ("int", "uint"):
        x = truncated(c, x)
    return c.cast(x, to)


@aten("view.dtype")
def _bits(c: Call, x: Value, to: Any) -> Value:
    return c.b.bitcast(x, c.out.dtype)


@aten("copy.default")
def _copy(c: Call, x: Value, source: Value, *options: Any) -> Value:
    return c.b.broadcast(c.cast(source, c.out.dtype), c.out.shape)

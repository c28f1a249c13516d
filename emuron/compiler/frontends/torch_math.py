"""ATen operators that compute element by element: arithmetic, logic, functions, casts."""

from __future__ import annotations

import math
from typing import Any

from emuron.compiler.frontends.torch_call import Call, aten
from emuron.compiler.graph import Value
from emuron.compiler.ops import find_op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bool_, dtype, float32

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


@aten("maximum.default")
def _maximum(c: Call, x: Value, y: Value) -> Value:
    return c.b.maximum(c.to_out(x), c.to_out(y))


@aten("minimum.default")
def _minimum(c: Call, x: Value, y: Value) -> Value:
    return c.b.binary(find_op("min")(), c.to_out(x), c.to_out(y))


@aten("clamp.default", "clamp.Tensor", "hardtanh.default")
def _clamp(c: Call, x: Value, low: Operand | None = -1.0, high: Operand | None = None) -> Value:
    x = c.to_out(x)
    if low is not None and low != -math.inf:
        x = c.b.maximum(x, c.to_out(low))
    return x if high is None else c.b.binary(find_op("min")(), x, c.to_out(high))


@aten("clamp_min.default")
def _clamp_min(c: Call, x: Value, low: Scalar) -> Value:
    return _clamp(c, x, low)


@aten("clamp_max.default")
def _clamp_max(c: Call, x: Value, high: Scalar) -> Value:
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
    return c.b.binary(find_op("pow")(), x, float(exponent))


@aten("pow.Tensor_Tensor", "pow.Scalar")
def _power_of_tensors(c: Call, x: Operand, y: Value) -> Value:
    return c.b.binary(find_op("pow")(), c.to_out(x), c.to_out(y))


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


@aten("bitwise_and.Tensor", "logical_and.default")
def _and(c: Call, x: Value, y: Value) -> Value:
    return c.b.binary(find_op("min")(), *_truths(c, "and", x, y))


@aten("bitwise_or.Tensor", "logical_or.default")
def _or(c: Call, x: Value, y: Value) -> Value:
    return c.b.binary(find_op("max")(), *_truths(c, "or", x, y))


@aten("bitwise_xor.Tensor", "logical_xor.default")
def _xor(c: Call, x: Value, y: Value) -> Value:
    return c.b.binary(find_op("ne")(), *_truths(c, "xor", x, y))


@aten("bitwise_not.default", "logical_not.default")
def _not(c: Call, x: Value) -> Value:
    (truth,) = _truths(c, "not", x)
    return c.b.compare("eq", truth, 0)


def _truths(c: Call, name: str, *values: Value) -> list[Value]:
    if c.out.dtype != bool_:
        raise UnsupportedOpError(f"bitwise {name} is built for truth values only, found {c.out}")
    return [c.cast(v, bool_) for v in values]


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


# Functions of one operand.


def _function(name: str, *overloads: str) -> None:
    @aten(*(overloads or (f"{name}.default",)))
    def apply(c: Call, x: Value) -> Value:
        return c.b.apply(name, c.to_out(x))


for _name in ("exp", "erf", "tanh", "sigmoid", "sqrt", "rsqrt", "log", "sin", "cos"):
    _function(_name)
for _name in ("reciprocal", "silu"):
    _function(_name)


@aten("relu.default")
def _relu(c: Call, x: Value) -> Value:
    return c.b.apply("relu", x) if x.type.dtype.kind == "float" else c.b.maximum(x, 0)


@aten("neg.default")
def _neg(c: Call, x: Value) -> Value:
    return c.b.apply("neg", x) if x.type.dtype.kind == "float" else c.b.mul(x, -1)


@aten("abs.default")
def _abs(c: Call, x: Value) -> Value:
    return c.b.apply("abs", x) if x.type.dtype.kind == "float" else c.b.maximum(x, c.b.mul(x, -1))


@aten("gelu.default")
def _gelu(c: Call, x: Value, approximate: str = "none") -> Value:
    return c.b.gelu(x, approximate)


@aten("native_dropout.default", "dropout.default")
def _dropout(c: Call, x: Value, p: float, train: bool | None) -> Any:
    if train and p:
        raise UnsupportedOpError("dropout is random in training mode; call module.eval() first")
    return x


@aten("_to_copy.default", "to.dtype", "convert_element_type.default")
def _convert(c: Call, x: Value, *arguments: Any, **options: Any) -> Value:
    # Float to integer truncates in PyTorch and rounds on the chip.
    to = c.out.dtype
    if x.type.dtype.kind == "float" and to.kind in ("int", "uint"):
        raise UnsupportedOpError(
            f"the conversion of {x.type.dtype} to {dtype(to)} truncates in PyTorch and rounds on "
            "the chip"
        )
    return c.cast(x, to)

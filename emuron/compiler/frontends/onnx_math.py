"""ONNX operators that work element by element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from types import MappingProxyType

import numpy as np

from emuron.compiler.frontends.onnx_call import Call, NotWholeError, onnx_op
from emuron.compiler.graph import Value
from emuron.errors import ModelFileError
from emuron.numerics.dtypes import bool_, float32, int32

_FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "Acos": "acos",
        "Acosh": "acosh",
        "Asin": "asin",
        "Asinh": "asinh",
        "Atan": "atan",
        "Atanh": "atanh",
        "BitwiseNot": "bitwise_not",
        "Ceil": "ceil",
        "Cos": "cos",
        "Cosh": "cosh",
        "Erf": "erf",
        "Exp": "exp",
        "Floor": "floor",
        "IsNaN": "isnan",
        "Log": "log",
        "Not": "logical_not",
        "Reciprocal": "reciprocal",
        "Round": "round",
        "Sigmoid": "sigmoid",
        "Sin": "sin",
        "Sinh": "sinh",
        "Softplus": "softplus",
        "Sqrt": "sqrt",
        "Tan": "tan",
        "Tanh": "tanh",
    }
)
"""Operators of one operand that the graph has too."""

_COMBINED: Mapping[str, str] = MappingProxyType(
    {
        "Add": "add",
        "And": "and",
        "BitwiseAnd": "and",
        "BitwiseOr": "or",
        "BitwiseXor": "xor",
        "Div": "div",
        "Equal": "eq",
        "Greater": "gt",
        "GreaterOrEqual": "ge",
        "Less": "lt",
        "LessOrEqual": "le",
        "Mul": "mul",
        "Or": "or",
        "Sub": "sub",
        "Xor": "xor",
    }
)
"""Operators of two operands that the graph has too."""


@onnx_op(*_FUNCTIONS)
def _function(c: Call) -> Value:
    return c.b.apply(_FUNCTIONS[c.kind], c.x())


@onnx_op(*_COMBINED)
def _combined(c: Call) -> Value:
    return c.b.combine(_COMBINED[c.kind], c.x(0), c.x(1))


@onnx_op("Identity")
def _identity(c: Call) -> object:
    return c.operand(0)


@onnx_op("Dropout")
def _dropout(c: Call) -> object:
    if c.has(2) and bool(c.known(2)) and c.number(1, 0.5) != 0:
        raise NotWholeError("dropout in training draws random numbers; export the model for eval")
    mask = c.b.full(1, c.operand(0).shape, bool_) if c.wants(1) else None
    return c.operand(0), mask


# Signs, which integers have too.


@onnx_op("Neg")
def _neg(c: Call) -> Value:
    x = c.x()
    return c.b.apply("neg", x) if x.type.dtype.is_float else c.b.sub(0, x)


@onnx_op("Abs")
def _abs(c: Call) -> Value:
    x = c.x()
    if x.type.dtype.is_float:
        return c.b.apply("abs", x)
    return x if x.type.dtype.kind == "uint" else c.b.maximum(x, c.b.sub(0, x))


@onnx_op("Sign")
def _sign(c: Call) -> Value:
    x = c.x()
    return c.b.apply("sign", x) if x.type.dtype.is_float else c.b.clamp(x, -1, 1)


@onnx_op("Relu")
def _relu(c: Call) -> Value:
    x = c.x()
    return c.b.apply("relu", x) if x.type.dtype.is_float else c.b.maximum(x, 0)


@onnx_op("IsInf")
def _isinf(c: Call) -> Value:
    x, found = c.x(), None
    for name, infinity in (("detect_positive", np.inf), ("detect_negative", -np.inf)):
        if c.attribute(name, 1):
            here = c.b.compare("eq", x, infinity)
            found = here if found is None else c.b.combine("or", found, here)
    return c.b.full(0, x.shape, bool_) if found is None else found


# Several operands.


@onnx_op("Max", "Min", "Sum")
def _folded(c: Call) -> Value:
    operator = {"Max": "max", "Min": "min", "Sum": "add"}[c.kind]
    return reduce(lambda x, y: c.b.combine(operator, x, y), _several(c))


@onnx_op("Mean")
def _mean(c: Call) -> Value:
    values = _several(c)
    return c.b.mul(reduce(c.b.add, values), 1 / len(values))


def _several(c: Call) -> Sequence[Value]:
    if not c.operands:
        raise ModelFileError(f"{c.kind} takes at least one operand")
    return c.all()


@onnx_op("Where")
def _where(c: Call) -> Value:
    condition, x, y = c.x(0), c.x(1), c.x(2)
    shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
    return c.b.select(c.b.broadcast(condition, shape), c.b.broadcast(x, shape), y)


@onnx_op("Pow")
def _pow(c: Call) -> Value:
    x, exponent = c.x(0), c.data(1)
    if exponent is not None and exponent.size == 1 and float(exponent.reshape(-1)[0]) == 2:
        square = c.b.mul(x, x)
        return c.b.broadcast(square, np.broadcast_shapes(x.shape, exponent.shape))
    if x.type.dtype.is_float:
        return c.b.combine("pow", x, c.cast(c.x(1), x.type.dtype))
    power = c.b.combine("pow", c.cast(x, float32), c.cast(c.x(1), float32))
    return c.b.cast(truncated(c, power), x.type.dtype)


@onnx_op("Mod")
def _mod(c: Call) -> Value:
    return c.b.combine("rem" if c.attribute("fmod", 0) else "mod", c.x(0), c.x(1))


@onnx_op("BitShift")
def _shift(c: Call) -> Value:
    if c.required("direction") == "LEFT":
        return c.b.combine("shl", c.x(0), c.x(1))
    return c.b.shift_right(c.x(0), c.x(1))


@onnx_op("Clip")
def _clip(c: Call) -> Value:
    x = c.x()
    for index, operator in ((1, "max"), (2, "min")):
        if c.has(index):
            x = c.b.combine(operator, x, c.x(index))
    return x


# Activations; the others are functions of ONNX itself.


@onnx_op("Gelu")
def _gelu(c: Call) -> Value:
    return c.b.gelu(c.x(), c.attribute("approximate", "none"))


@onnx_op("LeakyRelu")
def _leaky_relu(c: Call) -> Value:
    return _sloped(c, c.x(), c.attribute("alpha", 0.01))


@onnx_op("PRelu")
def _prelu(c: Call) -> Value:
    return _sloped(c, c.x(0), c.x(1))


def _sloped(c: Call, x: Value, slope: Value | float) -> Value:
    return c.b.select(c.b.compare("lt", x, 0), c.b.mul(x, slope), x)


@onnx_op("Elu")
def _elu(c: Call) -> Value:
    x = c.x()
    below = c.b.mul(c.b.apply("expm1", x), c.attribute("alpha", 1.0))
    return c.b.select(c.b.compare("lt", x, 0), below, x)


@onnx_op("HardSigmoid", "HardSwish")
def _hard_sigmoid(c: Call) -> Value:
    x, swish = c.x(), c.kind == "HardSwish"
    slope = 1 / 6 if swish else c.attribute("alpha", 0.2)
    shift = 0.5 if swish else c.attribute("beta", 0.5)
    gate = c.b.clamp(c.b.add(c.b.mul(x, slope), shift), 0, 1)
    return c.b.mul(x, gate) if swish else gate


@onnx_op("Selu")
def _selu(c: Call) -> Value:
    x = c.x()
    alpha = c.attribute("alpha", 1.6732631921768188)
    below = c.b.mul(c.b.apply("expm1", c.b.minimum(x, 0)), alpha)
    above = c.b.maximum(x, 0)
    return c.b.mul(c.b.add(above, below), c.attribute("gamma", 1.0507010221481323))


@onnx_op("Softsign")
def _softsign(c: Call) -> Value:
    x = c.x()
    return c.b.div(x, c.b.add(c.b.apply("abs", x), 1))


@onnx_op("ThresholdedRelu")
def _thresholded_relu(c: Call) -> Value:
    x = c.x()
    return c.b.select(c.b.compare("gt", x, c.attribute("alpha", 1.0)), x, 0)


@onnx_op("Shrink")
def _shrink(c: Call) -> Value:
    x, edge, bias = c.x(), c.attribute("lambd", 0.5), c.attribute("bias", 0.0)
    above = c.b.select(c.b.compare("gt", x, edge), c.b.sub(x, bias), 0)
    return c.b.select(c.b.compare("lt", x, -edge), c.b.add(x, bias), above)


@onnx_op("Swish")
def _swish(c: Call) -> Value:
    x, alpha = c.x(), c.attribute("alpha", 1.0)
    if alpha == 1:
        return c.b.silu(x)
    return c.b.mul(x, c.b.apply("sigmoid", c.b.mul(x, alpha)))


def truncated(c: Call, x: Value) -> Value:
    """Return real numbers without their fractions."""
    down, up = c.b.apply("floor", x), c.b.apply("ceil", x)
    return c.b.select(c.b.compare("lt", x, 0), up, down)


def wrapped(c: Call, x: Value, bits: int, *, signed: bool) -> Value:
    """Return the lowest bits of int32 numbers, as an integer of so many bits has them."""
    low = c.b.combine("and", x, (1 << bits) - 1)
    if not signed:
        return low
    half = 1 << (bits - 1)
    return c.b.select(c.b.compare("ge", low, half), c.b.sub(low, 2 * half), low)


def as_int32(c: Call, x: Value) -> Value:
    """Return integers as int32."""
    return c.b.cast(x, int32)

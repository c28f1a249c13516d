"""TensorFlow operators that compute element by element: arithmetic, logic, functions, casts."""

from __future__ import annotations

import numpy as np

from emuron.compiler.frontends import recipes
from emuron.compiler.frontends.tensorflow_call import Call, Operand, tensorflow
from emuron.compiler.graph import Value
from emuron.compiler.ops import find_op
from emuron.compiler.ops.reduction import Cumulative

_FUNCTIONS = {
    "Abs": "abs",
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Erfc": "erfc",
    "Exp": "exp",
    "Expm1": "expm1",
    "Floor": "floor",
    "Inv": "reciprocal",
    "IsFinite": "isfinite",
    "IsNan": "isnan",
    "Log": "log",
    "Log1p": "log1p",
    "LogicalNot": "logical_not",
    "Reciprocal": "reciprocal",
    "Rint": "round",
    "Round": "round",
    "Rsqrt": "rsqrt",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Softplus": "softplus",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
}
_BINARY = {
    "Add": "add",
    "AddV2": "add",
    "Atan2": "atan2",
    "BitwiseAnd": "and",
    "BitwiseOr": "or",
    "BitwiseXor": "xor",
    "Div": "div",
    "FloorDiv": "floordiv",
    "FloorMod": "mod",
    "LogicalAnd": "and",
    "LogicalOr": "or",
    "Maximum": "max",
    "Minimum": "min",
    "Mod": "rem",
    "Mul": "mul",
    "Pow": "pow",
    "RealDiv": "div",
    "Sub": "sub",
    "TruncateMod": "rem",
    "TruncateDiv": "div",
}
_RELATIONS = {
    "Equal": "eq",
    "NotEqual": "ne",
    "Less": "lt",
    "LessEqual": "le",
    "Greater": "gt",
    "GreaterEqual": "ge",
}


def _function(source: str, name: str) -> None:
    @tensorflow(source)
    def apply(c: Call, x: Operand) -> Value:
        return c.b.apply(name, c.value(x))


def _binary(source: str, name: str) -> None:
    @tensorflow(source)
    def apply(c: Call, x: Operand, y: Operand) -> Value:
        return c.b.binary(find_op(name)(), *c.values(x, y))


for _source, _name in _FUNCTIONS.items():
    _function(_source, _name)
for _source, _name in {**_BINARY, **_RELATIONS}.items():
    _binary(_source, _name)


@tensorflow("Neg")
def _neg(c: Call, x: Operand) -> Value:
    value = c.value(x)
    if value.type.dtype.kind == "float":
        return c.b.apply("neg", value)
    return c.b.mul(value, -1)


@tensorflow("Relu")
def _relu(c: Call, x: Operand) -> Value:
    return c.b.apply("relu", c.value(x))


@tensorflow("Relu6")
def _relu6(c: Call, x: Operand) -> Value:
    return recipes.clamp(c.b, c.value(x), 0, 6)


@tensorflow("LeakyRelu")
def _leaky_relu(c: Call, x: Operand) -> Value:
    b, value = c.b, c.value(x)
    return b.select(b.compare("gt", value, 0), value, b.mul(value, c.number("alpha", 0.2)))


@tensorflow("Elu")
def _elu(c: Call, x: Operand) -> Value:
    b, value = c.b, c.value(x)
    below = b.apply("expm1", recipes.clamp(b, value, None, 0))
    return b.select(b.compare("gt", value, 0), value, below)


@tensorflow("Selu")
def _selu(c: Call, x: Operand) -> Value:
    # The constants of Klambauer et al. 2017, "Self-Normalizing Neural Networks", as TensorFlow has.
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    b, value = c.b, c.value(x)
    below = b.mul(b.apply("expm1", recipes.clamp(b, value, None, 0)), alpha)
    return b.mul(b.select(b.compare("gt", value, 0), value, below), scale)


@tensorflow("Softsign")
def _softsign(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return c.b.div(value, c.b.add(c.b.apply("abs", value), 1))


@tensorflow("Square")
def _square(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return c.b.mul(value, value)


@tensorflow("SquaredDifference")
def _squared_difference(c: Call, x: Operand, y: Operand) -> Value:
    difference = c.b.sub(*c.values(x, y))
    return c.b.mul(difference, difference)


@tensorflow("DivNoNan")
def _div_no_nan(c: Call, x: Operand, y: Operand) -> Value:
    left, right = c.values(x, y)
    zero = c.b.compare("eq", right, 0)
    quotient = c.b.div(left, c.b.select(zero, 1, right))
    return c.b.select(c.b.broadcast(zero, quotient.shape), 0, quotient)


@tensorflow("Xlogy")
def _xlogy(c: Call, x: Operand, y: Operand) -> Value:
    left, right = c.values(x, y)
    zero = c.b.compare("eq", left, 0)
    return c.b.select(zero, 0, c.b.mul(left, c.b.apply("log", c.b.select(zero, 1, right))))


@tensorflow("AddN")
def _add_n(c: Call, *operands: Operand) -> Value:
    first, *others = c.values(*operands)
    for other in others:
        first = c.b.add(first, other)
    return first


@tensorflow("BiasAdd")
def _bias_add(c: Call, x: Operand, bias: Operand) -> Value:
    value, added = c.values(x, bias)
    axis = value.type.rank - 1 if c.channels_last else 1
    return c.b.add(value, c.b.broadcast(added, value.shape, (axis,)))


@tensorflow("Select", "SelectV2")
def _select(c: Call, condition: Operand, x: Operand, y: Operand) -> Value:
    truth, left, right = c.values(condition, x, y)
    if c.op == "Select" and truth.type.rank == 1 and left.type.rank > 1:
        truth = c.b.reshape(truth, -1, *(1 for _ in left.shape[1:]))
    shape = np.broadcast_shapes(truth.shape, left.shape, right.shape)
    return c.b.select(truth, c.b.broadcast(left, shape), c.b.broadcast(right, shape))


@tensorflow("ClipByValue")
def _clip(c: Call, x: Operand, low: Operand, high: Operand) -> Value:
    value, least, most = c.values(x, low, high)
    return c.b.binary(find_op("min")(), c.b.maximum(value, least), most)


@tensorflow("Cast")
def _cast(c: Call, x: Operand) -> Value | np.ndarray:
    if isinstance(x, np.ndarray):
        return x.astype(c.np_dtype("DstT"))
    return recipes.convert(c.b, c.value(x), c.dtype("DstT"))


@tensorflow("L2Loss")
def _l2_loss(c: Call, x: Operand) -> Value:
    value = c.b.reshape(c.value(x), -1)
    return c.b.mul(c.b.reduce("sum", c.b.mul(value, value), (0,)), 0.5)


@tensorflow("ZerosLike", "OnesLike")
def _like(c: Call, x: Operand) -> Value:
    type = c.value(x).type
    return c.b.full(float(c.op == "OnesLike"), type.shape, type.dtype)


@tensorflow("AdjustContrastv2")
def _adjust_contrast(c: Call, images: Operand, factor: Operand) -> Value:
    # [..., height, width, channels]: the mean is that of each image and channel.
    x = c.value(images)
    rank = x.type.rank
    mean = c.b.broadcast(c.b.reduce("mean", x, (rank - 3, rank - 2), keepdims=True), x.shape)
    return c.b.add(c.b.mul(c.b.sub(x, mean), c.b.broadcast(c.value(factor), x.shape)), mean)


@tensorflow("CumSum", "Cumsum", "Cumprod")
def _cumulative(c: Call, x: Operand, axis: Operand) -> Value:
    value = c.value(x)
    at = c.axis(axis, value.type.rank)
    kind = "prod" if c.op == "Cumprod" else "sum"
    if c.flag("reverse"):
        value = c.b.reverse(value, (at,))
    found = c.b.one(Cumulative(at, kind), value)
    if c.flag("exclusive"):
        size = value.shape[at]
        shifted = c.b.slice(found, at, 0, size - 1)
        first = list(value.shape)
        first[at] = 1
        start = c.b.full(float(kind == "prod"), first, value.type.dtype)
        found = c.b.concat([start, shifted], at)
    return c.b.reverse(found, (at,)) if c.flag("reverse") else found

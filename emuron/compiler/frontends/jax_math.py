"""JAX primitives that compute element by element, reduce, and count."""

from __future__ import annotations

import math

from emuron.compiler.frontends import recipes, xla
from emuron.compiler.frontends.jax_call import Call, jaxpr
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bool_, dtype

_FUNCTIONS = {
    "acos": "acos",
    "acosh": "acosh",
    "asin": "asin",
    "asinh": "asinh",
    "atan": "atan",
    "atanh": "atanh",
    "ceil": "ceil",
    "cos": "cos",
    "cosh": "cosh",
    "erf": "erf",
    "erfc": "erfc",
    "exp": "exp",
    "expm1": "expm1",
    "floor": "floor",
    "is_finite": "isfinite",
    "log": "log",
    "log1p": "log1p",
    "logistic": "sigmoid",
    "rsqrt": "rsqrt",
    "sign": "sign",
    "sin": "sin",
    "sinh": "sinh",
    "sqrt": "sqrt",
    "tan": "tan",
    "tanh": "tanh",
}
_BINARY = {
    "add": "add",
    "add_any": "add",
    "atan2": "atan2",
    "div": "div",
    "eq": "eq",
    "ge": "ge",
    "gt": "gt",
    "le": "le",
    "lt": "lt",
    "max": "max",
    "min": "min",
    "mul": "mul",
    "ne": "ne",
    "rem": "rem",
    "shift_left": "shl",
    "shift_right_arithmetic": "shr",
    "shift_right_logical": "shr",
    "sub": "sub",
}


def _function(primitive: str, name: str) -> None:
    @jaxpr(primitive)
    def apply(c: Call, x: Value) -> Value:
        return c.b.apply(name, x)


def _binary(primitive: str, name: str) -> None:
    @jaxpr(primitive)
    def apply(c: Call, x: Value, y: Value) -> Value:
        return c.b.binary(recipes.make(name), x, y)


for _primitive, _name in _FUNCTIONS.items():
    _function(_primitive, _name)
for _primitive, _name in _BINARY.items():
    _binary(_primitive, _name)


@jaxpr(
    "copy",
    "copy_p",
    "name",
    "optimization_barrier",
    "reduce_precision",
    "sharding_constraint",
    "stop_gradient",
)
def _same(c: Call, *operands: Value) -> list[Value]:
    if c.name == "reduce_precision":
        return [_reduced_precision(c, operands[0])]
    return list(operands)


def _reduced_precision(c: Call, x: Value) -> Value:
    widths = {(8, 7): "bfloat16", (5, 10): "float16", (8, 23): "float32"}
    bits = (int(c["exponent_bits"]), int(c["mantissa_bits"]))
    if bits not in widths:
        raise UnsupportedOpError(f"numbers of {bits[0]} exponent and {bits[1]} mantissa bits")
    return c.b.cast(c.b.cast(x, widths[bits]), x.type.dtype)


@jaxpr("neg")
def _neg(c: Call, x: Value) -> Value:
    return c.b.apply("neg", x) if x.type.dtype.kind == "float" else c.b.mul(x, -1)


@jaxpr("abs")
def _abs(c: Call, x: Value) -> Value:
    is_float = x.type.dtype.kind == "float"
    return c.b.apply("abs", x) if is_float else c.b.maximum(x, c.b.mul(x, -1))


@jaxpr("round")
def _round(c: Call, x: Value) -> Value:
    if "EVEN" in str(c["rounding_method"]):
        return c.b.apply("round", x)
    # Halves go away from zero.
    up = c.b.apply("floor", c.b.add(c.b.apply("abs", x), 0.5))
    return c.b.select(c.b.compare("lt", x, 0), c.b.apply("neg", up), up)


@jaxpr("square")
def _square(c: Call, x: Value) -> Value:
    return c.b.mul(x, x)


@jaxpr("integer_pow")
def _integer_pow(c: Call, x: Value) -> Value:
    exponent = int(c["y"])
    found = _whole_power(c, x, abs(exponent))
    return c.b.apply("reciprocal", found) if exponent < 0 else found


def _whole_power(c: Call, x: Value, exponent: int) -> Value:
    """Return x to a positive power by squares and products."""
    if exponent == 0:
        return c.b.full(1, x.shape, x.type.dtype)
    half = x if exponent == 1 else _whole_power(c, x, exponent // 2)
    if exponent == 1:
        return x
    found = c.b.mul(half, half)
    return c.b.mul(found, x) if exponent % 2 else found


@jaxpr("pow")
def _pow(c: Call, x: Value, y: Value) -> Value:
    return c.b.binary(recipes.make("pow"), x, c.b.cast(y, x.type.dtype))


@jaxpr("exp2")
def _exp2(c: Call, x: Value) -> Value:
    return c.b.apply("exp", c.b.mul(x, math.log(2)))


@jaxpr("and", "or", "xor")
def _logical(c: Call, x: Value, y: Value) -> Value:
    return xla.logical(c.b, c.name, x, y)


@jaxpr("not")
def _not(c: Call, x: Value) -> Value:
    if x.type.dtype == bool_:
        return c.b.apply("logical_not", x)
    return c.b.apply("bitwise_not", x)


@jaxpr("select_n")
def _select_n(c: Call, which: Value, *cases: Value) -> Value:
    b, found = c.b, cases[0]
    which = b.broadcast(which, found.shape)
    if which.type.dtype == bool_:
        return b.select(which, cases[1], found) if len(cases) > 1 else found
    for number, case in enumerate(cases[1:], 1):
        found = b.select(b.compare("eq", which, number), case, found)
    return found


@jaxpr("clamp")
def _clamp(c: Call, low: Value, x: Value, high: Value) -> Value:
    return xla.clamp(c.b, low, x, high)


@jaxpr("convert_element_type")
def _convert(c: Call, x: Value) -> Value:
    return recipes.convert(c.b, x, c.out.dtype)


@jaxpr("bitcast_convert_type")
def _bitcast(c: Call, x: Value) -> Value:
    return c.b.bitcast(x, dtype(c.out.dtype))


# Reductions

_REDUCTIONS = {
    "reduce_and": "all",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_or": "any",
    "reduce_prod": "prod",
    "reduce_sum": "sum",
}


@jaxpr(*_REDUCTIONS)
def _reduce(c: Call, x: Value) -> Value:
    return recipes.reduce(c.b, _REDUCTIONS[c.name], x, c.integers("axes"))


@jaxpr("argmax", "argmin")
def _arg_reduce(c: Call, x: Value) -> Value:
    (axis,) = c.integers("axes")
    made = c.b.one(recipes.make("argreduce", c.name.removeprefix("arg"), axis), x)
    return c.b.cast(made, c.out.dtype)


@jaxpr("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(c: Call, x: Value) -> Value:
    kind, axis = c.name.removeprefix("cum"), int(c["axis"])
    turned = c.b.reverse(x, (axis,)) if c["reverse"] else x
    made = c.b.one(recipes.make("cumulative", axis, kind), turned)
    return c.b.reverse(made, (axis,)) if c["reverse"] else made


# Order


@jaxpr("top_k")
def _top_k(c: Call, x: Value) -> list[Value]:
    axis = int(c.params.get("axis", x.type.rank - 1)) % x.type.rank
    rows = recipes.swap(c.b, x, axis, -1)
    found = c.b.append(recipes.make("topk", int(c["k"])), rows)
    return [recipes.swap(c.b, v, axis, -1) for v in found]


@jaxpr("sort")
def _sort(c: Call, *operands: Value) -> list[Value]:
    axis, keys = int(c["dimension"]), int(c["num_keys"])
    if keys != 1:
        raise UnsupportedOpError(f"a sort by {keys} keys")
    first, *others = operands
    values, places = c.b.append(recipes.make("sort", axis), first)
    return [values, *(c.b.gather_along(v, places, axis) for v in others)]

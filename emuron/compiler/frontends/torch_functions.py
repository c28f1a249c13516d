"""ATen functions of one tensor, element by element: of mathematics and of neural networks."""

from __future__ import annotations

import math

from emuron.compiler.frontends.torch_call import Call, aten
from emuron.compiler.frontends.torch_math import truncated
from emuron.compiler.graph import Value
from emuron.numerics.dtypes import bool_

Scalar = float | int | bool

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""PyTorch's constants of torch.nn.functional.selu."""


def _function(name: str, *overloads: str) -> None:
    @aten(*(overloads or (f"{name}.default",)))
    def apply(c: Call, x: Value) -> Value:
        return c.b.apply(name, c.to_out(x))


for _name in (
    *("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "erf", "erfc"),
    *("sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "silu"),
):
    _function(_name)


def _rounding(name: str) -> None:
    @aten(f"{name}.default")
    def apply(c: Call, x: Value) -> Value:
        return c.b.apply(name, x) if x.type.dtype.kind == "float" else x


for _name in ("floor", "ceil", "round"):
    _rounding(_name)


@aten("trunc.default")
def _trunc(c: Call, x: Value) -> Value:
    return truncated(c, x) if x.type.dtype.kind == "float" else x


@aten("round.decimals")
def _round_decimals(c: Call, x: Value, *, decimals: int) -> Value:
    scale = 10.0**decimals
    return c.b.div(c.b.apply("round", c.b.mul(x, scale)), scale)


def _scaled_function(name: str, function: str, before: float, after: float) -> None:
    @aten(f"{name}.default")
    def apply(c: Call, x: Value) -> Value:
        x = c.to_out(x)
        x = x if before == 1 else c.b.mul(x, before)
        y = c.b.apply(function, x)
        return y if after == 1 else c.b.mul(y, after)


_scaled_function("exp2", "exp", math.log(2), 1)
_scaled_function("log2", "log", 1, 1 / math.log(2))
_scaled_function("log10", "log", 1, 1 / math.log(10))


@aten("sign.default", "sgn.default")
def _sign(c: Call, x: Value) -> Value:
    if x.type.dtype == bool_:
        return x
    if x.type.dtype.kind == "float":
        return c.b.apply("sign", x)
    return c.b.maximum(c.b.minimum(x, 1), -1)


def _question(name: str) -> None:
    @aten(f"{name}.default")
    def ask(c: Call, x: Value) -> Value:
        if x.type.dtype.kind != "float":
            return c.b.full(name == "isfinite", c.out.shape, bool_)
        return c.b.apply(name, x)


_question("isnan")
_question("isfinite")


@aten("isinf.default")
def _isinf(c: Call, x: Value) -> Value:
    if x.type.dtype.kind != "float":
        return c.b.full(0, c.out.shape, bool_)
    return c.b.compare("eq", c.b.apply("abs", x), math.inf)


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


# Activations.


@aten("leaky_relu.default")
def _leaky_relu(c: Call, x: Value, slope: Scalar = 0.01) -> Value:
    return c.b.select(c.b.compare("gt", x, 0), x, c.b.mul(x, slope))


@aten("prelu.default", "_prelu_kernel.default")
def _prelu(c: Call, x: Value, weight: Value) -> Value:
    channels = [n if i == 1 else 1 for i, n in enumerate(x.shape)] if x.type.rank > 1 else [1]
    slope = c.b.reshape(weight, *(channels if weight.type.elements > 1 else [1] * x.type.rank))
    return c.b.select(c.b.compare("gt", x, 0), x, c.b.mul(x, c.b.broadcast(slope, x.shape)))


@aten("elu.default")
def _elu(c: Call, x: Value, alpha: Scalar = 1, scale: Scalar = 1, input_scale: Scalar = 1) -> Value:
    inner = x if input_scale == 1 else c.b.mul(x, input_scale)
    low = c.b.mul(c.b.apply("expm1", c.b.minimum(inner, 0)), alpha * scale)
    high = x if scale == 1 else c.b.mul(x, scale)
    return c.b.select(c.b.compare("gt", x, 0), high, low)


@aten("selu.default")
def _selu(c: Call, x: Value) -> Value:
    return _elu(c, x, _SELU_ALPHA, _SELU_SCALE)


@aten("celu.default")
def _celu(c: Call, x: Value, alpha: Scalar = 1) -> Value:
    return _elu(c, x, alpha, 1, 1 / alpha)


@aten("softplus.default")
def _softplus(c: Call, x: Value, beta: Scalar = 1, threshold: Scalar = 20) -> Value:
    if beta == 1:
        return c.b.apply("softplus", x)
    return c.b.mul(c.b.apply("softplus", c.b.mul(x, beta)), 1 / beta)


@aten("mish.default")
def _mish(c: Call, x: Value) -> Value:
    return c.b.mul(x, c.b.tanh(c.b.apply("softplus", x)))


@aten("log_sigmoid.default")
def _log_sigmoid(c: Call, x: Value) -> Value:
    return c.b.apply("neg", c.b.apply("softplus", c.b.apply("neg", x)))


def _sixths(c: Call, x: Value) -> Value:
    return c.b.mul(c.b.clamp(c.b.add(x, 3), 0, 6), 1 / 6)


@aten("hardsigmoid.default")
def _hardsigmoid(c: Call, x: Value) -> Value:
    return _sixths(c, x)


@aten("hardswish.default")
def _hardswish(c: Call, x: Value) -> Value:
    return c.b.mul(x, _sixths(c, x))


@aten("relu6.default")
def _relu6(c: Call, x: Value) -> Value:
    return c.b.clamp(x, 0, 6)

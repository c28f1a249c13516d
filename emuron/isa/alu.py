"""The arithmetic of the engines: one row for each ALU operator and each activation function.

Every formula is written with the tile operations of a numerics back end on fp32 arrays (stored
integers for the bit-vector operators), so that instructions and graph ops share it bit for bit.
Operators: NKI "Supported Math Operators"; activation functions and their valid ranges: NKI
"Supported Activation Functions". AWS gives names and ranges, not formulas: the standard ones here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from emuron.errors import UnknownNameError

Binary = Callable[[Any, Any, Any], Any]  # (ops, left, right)
Unary = Callable[[Any, Any], Any]  # (ops, x)

ARITHMETIC = "arith"
BIT_VECTOR = "bitvec"
UNARY = "unary"


@dataclass(frozen=True, slots=True)
class AluOperator:
    """One ALU operator: its class, its arithmetic, and its identity where it can reduce.

    `reduction` names the back end's row reduction that equals folding the operator from left to
    right up to the order of additions; None means the fold itself is taken.
    """

    name: str
    kind: str  # arith | bitvec | unary
    compute: Binary
    identity: float | None = None
    reduction: str | None = None

    @property
    def is_bit_vector(self) -> bool:
        """Whether the operator works on stored bits of integer types."""
        return self.kind == BIT_VECTOR


def _tile_op(name: str) -> Binary:
    return lambda ops, a, b: getattr(ops, name)(a, b)


def _comparison(name: str) -> Binary:
    return lambda ops, a, b: ops.compare(name, a, b)


def _unary_tile_op(name: str) -> Binary:
    return lambda ops, a, b: getattr(ops, name)(a)


def _truth(ops: Any, x: Any) -> Any:
    return float(x != 0) if isinstance(x, (int, float)) else ops.compare("ne", x, 0.0)


def _by_magnitude(comparison: str) -> Binary:
    # Ties return the second operand (NKI activate2).
    return lambda ops, a, b: ops.where(
        ops.compare(comparison, ops.abs(_array(ops, a, b)), ops.abs(_array(ops, b, a))), a, b
    )


def _array(ops: Any, x: Any, like: Any) -> Any:
    """Return `x` as an array: an immediate takes the shape of the other operand."""
    return ops.add(ops.multiply(like, 0.0), x) if isinstance(x, (int, float)) else x


_ROWS = (
    AluOperator("add", ARITHMETIC, _tile_op("add"), 0.0, "sum"),
    AluOperator("subtract", ARITHMETIC, _tile_op("subtract"), 0.0),
    AluOperator("multiply", ARITHMETIC, _tile_op("multiply"), 1.0, "prod"),
    AluOperator("divide", ARITHMETIC, _tile_op("divide")),
    AluOperator("maximum", ARITHMETIC, _tile_op("maximum"), -math.inf, "max"),
    AluOperator("minimum", ARITHMETIC, _tile_op("minimum"), math.inf, "min"),
    AluOperator("power", ARITHMETIC, _tile_op("power")),
    AluOperator("abs_max", ARITHMETIC, _by_magnitude("gt"), 0.0),
    AluOperator("abs_min", ARITHMETIC, _by_magnitude("lt"), math.inf),
    AluOperator("equal", ARITHMETIC, _comparison("eq")),
    AluOperator("not_equal", ARITHMETIC, _comparison("ne")),
    AluOperator("greater", ARITHMETIC, _comparison("gt")),
    AluOperator("greater_equal", ARITHMETIC, _comparison("ge")),
    AluOperator("less", ARITHMETIC, _comparison("lt")),
    AluOperator("less_equal", ARITHMETIC, _comparison("le")),
    AluOperator(
        "logical_and",
        ARITHMETIC,
        lambda ops, a, b: ops.multiply(_truth(ops, a), _truth(ops, b)),
        1.0,
    ),
    AluOperator(
        "logical_or",
        ARITHMETIC,
        lambda ops, a, b: ops.maximum(_truth(ops, a), _truth(ops, b)),
        0.0,
    ),
    AluOperator(
        "logical_xor",
        ARITHMETIC,
        lambda ops, a, b: ops.compare("ne", _truth(ops, a), _truth(ops, b)),
        0.0,
    ),
    AluOperator("bitwise_and", BIT_VECTOR, _tile_op("bitwise_and"), -1),
    AluOperator("bitwise_or", BIT_VECTOR, _tile_op("bitwise_or"), 0),
    AluOperator("bitwise_xor", BIT_VECTOR, _tile_op("bitwise_xor"), 0),
    AluOperator("left_shift", BIT_VECTOR, _tile_op("left_shift")),
    AluOperator("right_shift", BIT_VECTOR, _tile_op("right_shift")),
    AluOperator("invert", BIT_VECTOR, _unary_tile_op("invert")),
    AluOperator("abs", UNARY, _unary_tile_op("abs")),
    AluOperator("square", UNARY, lambda ops, a, b: ops.multiply(a, a)),
    AluOperator("relu", UNARY, lambda ops, a, b: ops.maximum(a, 0.0)),
    AluOperator("rsqrt", UNARY, _unary_tile_op("rsqrt")),
    AluOperator("reciprocal", UNARY, _unary_tile_op("reciprocal")),
)

ALU_OPERATORS: Mapping[str, AluOperator] = MappingProxyType({row.name: row for row in _ROWS})
"""The operators of `op`, `op0`, `op1` and `reduce_op` arguments, by their NKI name."""


def alu_operator(name: str) -> AluOperator:
    """Return the ALU operator of an NKI name; raise UnknownNameError."""
    found = ALU_OPERATORS.get(name)
    if found is None:
        raise UnknownNameError("ALU operator", str(name), ALU_OPERATORS)
    return found


@dataclass(frozen=True, slots=True)
class ActivationFunction:
    """One function of the Scalar engine: fp32 in, fp32 out, valid for `low` <= x <= `high`.

    Outside the valid range the hardware's result is not defined; `sin` follows the cubic that
    AWS's simulator extrapolates, the others their formula.
    """

    name: str
    compute: Unary
    low: float = -math.inf
    high: float = math.inf


_SQRT_HALF = math.sqrt(0.5)
_TANH_CUBIC = 0.044715  # Hendrycks and Gimpel, Gaussian Error Linear Units, eq. 2
_TANH_SCALE = math.sqrt(2.0 / math.pi)
_SIGMOID_SCALE = 1.702  # the same paper, the sigmoid approximation
_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


def _normal_cdf(ops: Any, x: Any) -> Any:
    return ops.multiply(ops.add(ops.erf(ops.multiply(x, _SQRT_HALF)), 1.0), 0.5)


def _gelu(ops: Any, x: Any) -> Any:
    half = ops.multiply(x, 0.5)
    return ops.multiply(half, ops.add(ops.erf(ops.multiply(x, _SQRT_HALF)), 1.0))


def _gelu_dx(ops: Any, x: Any) -> Any:
    density = ops.multiply(ops.exp(ops.multiply(ops.multiply(x, x), -0.5)), _INV_SQRT_2PI)
    return ops.add(_normal_cdf(ops, x), ops.multiply(x, density))


def _gelu_tanh(ops: Any, x: Any) -> Any:
    cube = ops.multiply(ops.multiply(x, x), x)
    inner = ops.multiply(ops.add(x, ops.multiply(cube, _TANH_CUBIC)), _TANH_SCALE)
    return ops.multiply(ops.multiply(x, 0.5), ops.add(ops.tanh(inner), 1.0))


def _gelu_sigmoid(ops: Any, x: Any) -> Any:
    return ops.multiply(x, ops.sigmoid(ops.multiply(x, _SIGMOID_SCALE)))


def _gelu_sigmoid_dx(ops: Any, x: Any) -> Any:
    gate = ops.sigmoid(ops.multiply(x, _SIGMOID_SCALE))
    slope = ops.multiply(ops.multiply(gate, ops.subtract(1.0, gate)), _SIGMOID_SCALE)
    return ops.add(gate, ops.multiply(x, slope))


def _silu(ops: Any, x: Any) -> Any:
    return ops.multiply(x, ops.sigmoid(x))


def _silu_dx(ops: Any, x: Any) -> Any:
    gate = ops.sigmoid(x)
    return ops.add(gate, ops.multiply(ops.multiply(x, gate), ops.subtract(1.0, gate)))


def _softplus(ops: Any, x: Any) -> Any:
    # max(x, 0) + log(1 + exp(−|x|)): the form that does not overflow.
    tail = ops.log(ops.add(ops.exp(ops.negative(ops.abs(x))), 1.0))
    return ops.add(ops.maximum(x, 0.0), tail)


def _mish(ops: Any, x: Any) -> Any:
    return ops.multiply(x, ops.tanh(_softplus(ops, x)))


def _erf_dx(ops: Any, x: Any) -> Any:
    return ops.multiply(ops.exp(ops.negative(ops.multiply(x, x))), _TWO_OVER_SQRT_PI)


def _sin(ops: Any, x: Any) -> Any:
    # Beyond ±π the cubic of the Taylor series at ±π: NKI's documented sin(9.0) is about 27.65.
    past = ops.subtract(x, ops.multiply(ops.sign(x), math.pi))
    cube = ops.multiply(ops.multiply(past, past), past)
    cubic = ops.subtract(ops.multiply(cube, 1.0 / 6.0), past)
    return ops.where(ops.compare("gt", ops.abs(x), math.pi), cubic, ops.sin(x))


def _tile_function(name: str) -> Unary:
    return lambda ops, x: getattr(ops, name)(x)


_FUNCTIONS = (
    ActivationFunction("copy", lambda ops, x: x),
    ActivationFunction("identity", lambda ops, x: x),
    ActivationFunction("square", lambda ops, x: ops.multiply(x, x)),
    ActivationFunction("abs", _tile_function("abs")),
    ActivationFunction("sign", _tile_function("sign")),
    ActivationFunction("relu", lambda ops, x: ops.maximum(x, 0.0)),
    ActivationFunction("exp", _tile_function("exp")),
    ActivationFunction("log", _tile_function("log"), 2.0**-64, 2.0**64),
    ActivationFunction("sqrt", _tile_function("sqrt"), 2.0**-116, 2.0**118),
    ActivationFunction("rsqrt", _tile_function("rsqrt"), 2.0**-87, 2.0**97),
    ActivationFunction("reciprocal", _tile_function("reciprocal"), -(2.0**42), 2.0**42),
    ActivationFunction("sin", _sin, -math.pi, math.pi),
    ActivationFunction("arctan", _tile_function("arctan"), -math.pi / 2, math.pi / 2),
    ActivationFunction("tanh", _tile_function("tanh")),
    ActivationFunction("sigmoid", _tile_function("sigmoid")),
    ActivationFunction("silu", _silu),
    ActivationFunction("silu_dx", _silu_dx),
    ActivationFunction("gelu", _gelu),
    ActivationFunction("gelu_dx", _gelu_dx),
    ActivationFunction("gelu_apprx_tanh", _gelu_tanh),
    ActivationFunction("gelu_apprx_sigmoid", _gelu_sigmoid),
    ActivationFunction("gelu_apprx_sigmoid_dx", _gelu_sigmoid_dx),
    ActivationFunction("softplus", _softplus),
    ActivationFunction("mish", _mish),
    ActivationFunction("erf", _tile_function("erf")),
    ActivationFunction("erf_dx", _erf_dx),
)

ACTIVATION_FUNCTIONS: Mapping[str, ActivationFunction] = MappingProxyType(
    {row.name: row for row in _FUNCTIONS}
)
"""The functions of `activation`, by their NKI name. Which share a table is the chip's data."""


def activation_function(name: str) -> ActivationFunction:
    """Return the activation function of an NKI name; raise UnknownNameError."""
    found = ACTIVATION_FUNCTIONS.get(name)
    if found is None:
        raise UnknownNameError("activation function", str(name), ACTIVATION_FUNCTIONS)
    return found

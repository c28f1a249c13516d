from __future__ import annotations

import math
import operator

import numpy as np
import pytest

from emuron.errors import UnknownNameError
from emuron.isa.alu import (
    ACTIVATION_FUNCTIONS,
    ALU_OPERATORS,
    UNARY,
    activation_function,
    alu_operator,
)
from emuron.numerics.backend import get_backend
from emuron.numerics.numpy_backend import NUMPY


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return math.log1p(math.exp(x)) if x < 30 else x


FORMULAS = {
    "copy": lambda x: x,
    "identity": lambda x: x,
    "square": lambda x: x * x,
    "abs": abs,
    "sign": lambda x: math.copysign(1, x) if x else 0,
    "relu": lambda x: max(x, 0),
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "sin": math.sin,
    "arctan": math.atan,
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "silu_dx": lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
    "gelu": lambda x: x * _phi(x),
    "gelu_dx": lambda x: _phi(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    "gelu_apprx_tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "gelu_apprx_sigmoid": lambda x: x * _sigmoid(1.702 * x),
    "gelu_apprx_sigmoid_dx": lambda x: (
        _sigmoid(1.702 * x) * (1 + 1.702 * x * (1 - _sigmoid(1.702 * x)))
    ),
    "softplus": _softplus,
    "mish": lambda x: x * math.tanh(_softplus(x)),
    "erf": math.erf,
    "erf_dx": lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x),
}
POSITIVE_ONLY = ("log", "sqrt", "rsqrt")


@pytest.mark.parametrize("name", sorted(ACTIVATION_FUNCTIONS))
def test_every_activation_function_equals_its_formula(name):
    row = activation_function(name)
    low = max(row.low, 0.01 if name in POSITIVE_ONLY else -6.0)
    x = np.linspace(low, min(row.high, 6.0), 201, dtype=np.float32)
    x = x[x != 0] if name == "reciprocal" else x
    found = row.compute(NUMPY, x)
    expected = np.array([FORMULAS[name](float(v)) for v in x])
    # A few roundings of fp32 on the way, and cancellation where factors approach 0 (gelu's tail).
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_sin_beyond_pi_follows_the_documented_cubic():
    # NKI: the AWS simulator extrapolates a cubic; sin(9.0) is about 27.65.
    found = activation_function("sin").compute(NUMPY, np.array([9.0, -9.0], np.float32))
    np.testing.assert_allclose(found, [27.65, -27.65], atol=0.01)


def test_softplus_does_not_overflow():
    found = activation_function("softplus").compute(NUMPY, np.array([200.0, -200.0], np.float32))
    np.testing.assert_array_equal(found, [200.0, 0.0])


PYTHON = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "maximum": max,
    "minimum": min,
    "power": operator.pow,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "logical_and": lambda a, b: bool(a) and bool(b),
    "logical_or": lambda a, b: bool(a) or bool(b),
    "logical_xor": lambda a, b: bool(a) != bool(b),
    "abs_max": lambda a, b: a if abs(a) > abs(b) else b,
    "abs_min": lambda a, b: a if abs(a) < abs(b) else b,
    "abs": lambda a, b: abs(a),
    "square": lambda a, b: a * a,
    "relu": lambda a, b: max(a, 0),
    "rsqrt": lambda a, b: 1 / math.sqrt(a),
    "reciprocal": lambda a, b: 1 / a,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
    "left_shift": operator.lshift,
    "right_shift": operator.rshift,
    "invert": lambda a, b: ~a & 0xFF,
}


@pytest.mark.parametrize("name", sorted(ALU_OPERATORS))
def test_every_operator_equals_pythons(name):
    row = alu_operator(name)
    kind = np.uint8 if row.is_bit_vector else np.float32
    a = np.array([1, 2, 5, 4], kind)
    b = np.array([2, 1, 5, 3], kind)
    expected = [PYTHON[name](x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    found = row.compute(NUMPY, a, b)
    np.testing.assert_allclose(found.astype(np.float64), np.array(expected, float), rtol=1e-7)


@pytest.mark.parametrize(
    "name", [n for n, row in ALU_OPERATORS.items() if row.identity is not None and n != "abs_min"]
)
def test_an_identity_leaves_the_other_operand_as_it_is(name):
    row = alu_operator(name)
    kind = np.uint8 if row.is_bit_vector else np.float32
    x = np.array([0, 1], kind)
    identity = np.uint8(int(row.identity) & 0xFF) if row.is_bit_vector else row.identity
    np.testing.assert_array_equal(row.compute(NUMPY, x, identity), x)


@pytest.mark.torch
@pytest.mark.parametrize("name", [n for n, row in ALU_OPERATORS.items() if not row.is_bit_vector])
def test_an_immediate_is_as_good_as_a_tile_on_torch(name):
    pytest.importorskip("torch")
    row, ops = alu_operator(name), get_backend("torch")
    tile = np.array([1, 2, 0.5, 3], np.float32)
    for immediate in (2.0, 0.5):
        full = np.full(4, immediate, np.float32)
        for a, b in ((tile, immediate), (immediate, tile)):
            if row.kind == UNARY and a is immediate:
                continue
            found = row.compute(ops, *(ops.asarray(x) if x is tile else x for x in (a, b)))
            wanted = row.compute(NUMPY, *(x if x is tile else full for x in (a, b)))
            np.testing.assert_allclose(ops.numpy(found), wanted, rtol=1e-6)


def test_an_unknown_operator_is_refused_with_the_closest_names():
    with pytest.raises(UnknownNameError, match="maximum"):
        alu_operator("maximun")
    with pytest.raises(UnknownNameError, match="gelu"):
        activation_function("gelux")

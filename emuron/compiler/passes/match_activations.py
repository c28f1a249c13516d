"""GELU and SiLU, found in their pieces."""

from __future__ import annotations

import math

from emuron.compiler.graph import Node, Value
from emuron.compiler.ops.gelu import Gelu
from emuron.compiler.ops.unary import Sigmoid, Silu
from emuron.compiler.passes.matching import Matching, is_close

_CUBIC = 0.044715
_TANH_SCALE = math.sqrt(2 / math.pi)
_ERF_SCALE = math.sqrt(0.5)


def gelu(match: Matching, node: Node) -> Value | None:
    """Match x · (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 and the forms with erf and erfc."""
    number, factors = match.product(node.outputs[0])
    if len(factors) != 2 or not is_close(number, 0.5):
        return None
    for x, gate in (factors, factors[::-1]):
        form = _gate(match, gate, x) if x.type == node.outputs[0].type else None
        if form is not None:
            return match.emit(node, Gelu(form), x)
    return None


def _gate(match: Matching, gate: Value, x: Value) -> str | None:
    """Return the form of GELU of which a value is the second factor, twice Φ(x)."""
    complement = match.maker(gate, "erfc")
    if complement is not None:
        return "none" if _is_scaled(match, complement.inputs[0], x, -_ERF_SCALE) else None
    parts = match.with_number(gate, "add")
    if parts is None or parts[1] != 1:
        return None
    inner = match.maker(parts[0], "erf", "tanh")
    if inner is None:
        return None
    if inner.op.name == "erf":
        return "none" if _is_scaled(match, inner.inputs[0], x, _ERF_SCALE) else None
    return "tanh" if _is_cubic(match, inner.inputs[0], x) else None


def _is_scaled(match: Matching, value: Value, x: Value, by: float) -> bool:
    number, factors = match.product(value)
    return factors == (x,) and is_close(number, by)


def _is_cubic(match: Matching, value: Value, x: Value) -> bool:
    """Tell √(2/π) (x + 0.044715 x³), also with x taken out of the bracket."""
    number, factors = match.product(value)
    if not is_close(number, _TANH_SCALE):
        return False
    if len(factors) == 2 and x in factors:
        other = factors[0] if factors[1] is x else factors[1]
        parts = match.with_number(other, "add")
        return parts is not None and parts[1] == 1 and _is_power(match, parts[0], x, 2)
    total = match.maker(factors[0], "add") if len(factors) == 1 else None
    if total is None or x not in total.inputs:
        return False
    other = total.inputs[0] if total.inputs[1] is x else total.inputs[1]
    return _is_power(match, other, x, 3)


def _is_power(match: Matching, value: Value, x: Value, exponent: int) -> bool:
    number, factors = match.product(value)
    return is_close(number, _CUBIC) and factors == (x,) * exponent


def silu(match: Matching, node: Node) -> Value | None:
    """Match x * sigmoid(x)."""
    for x, gate in (node.inputs, node.inputs[::-1]):
        found = match.maker(gate, "sigmoid")
        if found is not None and found.inputs[0] is x:
            return match.emit(node, Silu(), x)
    return None


def sigmoid(match: Matching, node: Node) -> Value | None:
    """Match 1 / (1 + exp(-x)), as a reciprocal or a division."""
    if node.op.name == "div" and match.number(node.inputs[0]) != 1:
        return None
    parts = match.with_number(node.inputs[-1], "add")
    power = match.maker(parts[0], "exp") if parts is not None and parts[1] == 1 else None
    if power is None:
        return None
    number, factors = match.product(power.inputs[0])
    if number != -1 or len(factors) != 1 or factors[0].type != node.outputs[0].type:
        return None
    return match.emit(node, Sigmoid(), factors[0])


def divided_silu(match: Matching, node: Node) -> Value | None:
    """Match x / (1 + exp(-x))."""
    x, total = node.inputs
    parts = match.with_number(total, "add")
    power = match.maker(parts[0], "exp") if parts is not None and parts[1] == 1 else None
    if power is None or match.product(power.inputs[0]) != (-1.0, (x,)):
        return None
    return match.emit(node, Silu(), x)

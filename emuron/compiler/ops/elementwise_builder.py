"""Builds graphs of element-wise operators: two operands of other shapes are broadcast first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from emuron.compiler.graph import NodeBuilder, Op, Value
from emuron.compiler.ops import (
    binary,
    bits,
    creation,
    division,
    functions,
    predicates,
    rounding,
    shaping,
    trigonometry,
    unary,
)
from emuron.compiler.ops.registry import find_op
from emuron.errors import UsageError
from emuron.numerics.dtypes import DType, dtype

Operand: TypeAlias = "Value | float"

FAMILIES = (binary, bits, division, functions, predicates, rounding, trigonometry, unary)
"""The modules whose operators `apply` and `combine` find by name."""


class ElementwiseBuilder(NodeBuilder):
    """A NodeBuilder whose methods are element-wise operators; broadcasts are explicit nodes."""

    def one(self, op: Op, *inputs: Value, name: str = "") -> Value:
        """Append a node of one output and return it."""
        (value,) = self.append(op, *inputs, name=name)
        return value

    def full(self, value: float, shape: Sequence[int], to: DType | str) -> Value:
        """`value` everywhere."""
        return self.one(creation.Full(value, tuple(shape), dtype(to)))

    def broadcast(self, x: Value, shape: Sequence[int], dims: Sequence[int] = ()) -> Value:
        """X stretched to `shape`; `dims` defaults to the trailing dimensions, as in NumPy."""
        shape = tuple(shape)
        if shape == x.shape:
            return x
        offset = len(shape) - x.type.rank
        dims = tuple(dims) or tuple(range(offset, len(shape)))
        return self.one(shaping.Broadcast(shape, dims), x)

    def apply(self, function: str, x: Value) -> Value:
        """Apply the one-operand operator `function` (exp, tanh, silu, rsqrt ...)."""
        return self.one(find_op(function)(), x)

    def silu(self, x: Value) -> Value:
        """X * sigmoid(x)."""
        return self.one(unary.Silu(), x)

    def tanh(self, x: Value) -> Value:
        """Hyperbolic tangent."""
        return self.one(unary.Tanh(), x)

    def add(self, x: Operand, y: Operand) -> Value:
        """X + y."""
        return self.binary(binary.Add(), x, y)

    def sub(self, x: Operand, y: Operand) -> Value:
        """X - y."""
        return self.binary(binary.Sub(), x, y)

    def mul(self, x: Operand, y: Operand) -> Value:
        """X * y."""
        return self.binary(binary.Mul(), x, y)

    def div(self, x: Operand, y: Operand, *, exact: bool = False) -> Value:
        """X / y, the nearest float32 if `exact`."""
        return self.binary(division.Division(exact), x, y)

    def maximum(self, x: Operand, y: Operand) -> Value:
        """Elementwise larger of x and y."""
        return self.binary(binary.Max(), x, y)

    def minimum(self, x: Operand, y: Operand) -> Value:
        """Elementwise smaller of x and y."""
        return self.binary(binary.Min(), x, y)

    def combine(self, operator: str, x: Operand, y: Operand) -> Value:
        """Apply the two-operand operator `operator` (pow, rem, mod, floordiv, atan2, and ...)."""
        return self.binary(find_op(operator)(), x, y)

    def clamp(self, x: Value, low: Operand, high: Operand) -> Value:
        """X between low and high: the larger of x and low, then the smaller of it and high."""
        return self.minimum(self.maximum(x, low), high)

    def shift_right(self, x: Operand, y: Operand, *, logical: bool = False) -> Value:
        """X >> y, with copies of the sign coming in, or zeros if `logical`."""
        return self.binary(bits.ShiftRight(logical), x, y)

    def compare(self, relation: str, x: Operand, y: Operand) -> Value:
        """Truth of `x relation y`; relation is eq, ne, lt, le, gt or ge."""
        return self.binary(find_op(relation)(), x, y)

    def select(self, condition: Value, x: Operand, y: Operand) -> Value:
        """X where condition holds, else y."""
        x, y = self._broadcast_pair(x, y)
        return self.one(binary.Select(), self.broadcast(condition, x.shape), x, y)

    def binary(self, op: Op, x: Operand, y: Operand) -> Value:
        """Append a two-operand node after broadcasting both operands as NumPy does."""
        return self.one(op, *self._broadcast_pair(x, y))

    def _broadcast_pair(self, x: Operand, y: Operand) -> tuple[Value, Value]:
        if not isinstance(x, Value):
            if not isinstance(y, Value):
                raise UsageError(f"one of the operands must be a tensor, found {x} and {y}")
            return self.full(x, y.shape, y.type.dtype), y
        if not isinstance(y, Value):
            return x, self.full(y, x.shape, x.type.dtype)
        shape = _common_shape(x.shape, y.shape)
        return self.broadcast(x, shape), self.broadcast(y, shape)


def _common_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    for left, right in zip(a, b, strict=True):
        if left != right and 1 not in (left, right):
            raise UsageError(f"shapes {list(a)} and {list(b)} do not broadcast together")
    return tuple(right if left == 1 else left for left, right in zip(a, b, strict=True))

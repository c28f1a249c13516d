"""General products of tensors, as matrix products of rearranged operands."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops.arguments import require, require_axis, require_operands
from emuron.compiler.ops.composite import Composite
from emuron.compiler.ops.context import Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import bfloat16, float32, int8, int32

if TYPE_CHECKING:
    from emuron.compiler.ops.builder import GraphBuilder

Dims: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[Dims, Dims]
"""Dimensions of x and, in the same order, those of y."""


@op("dot_general")
@dataclass(frozen=True, slots=True)
class DotGeneral(Composite):
    """z = the sum of x * y over `contract`, for each index of `batch` (pairs of dimensions).

    The dimensions of z are the batch ones, then the others of x, then the others of y. It is a
    matmul of rearranged operands and rounds like one. Integers are multiplied as float32 and give
    int32, exact up to 2**24.
    """

    contract: Pair
    batch: Pair = ((), ())

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return permuted and merged operands' matmul, reshaped."""
        require_operands(tuple(v.type for v in operands), "x", "y")
        x, y = operands
        self._check(x.type, y.type)
        integers = x.type.dtype.is_integer
        if integers:
            x, y = b.cast(x, float32), b.cast(y, float32)
        shared = tuple(x.shape[d] for d in self.batch[0])
        summed = prod(x.shape[d] for d in self.contract[0])
        rows, columns = (self._others(v.type, side) for side, v in enumerate((x, y)))
        left = b.permute(x, *self.batch[0], *rows, *self.contract[0])
        right = b.permute(y, *self.batch[1], *self.contract[1], *columns)
        heights, widths = (tuple(x.shape[d] for d in rows), tuple(y.shape[d] for d in columns))
        left = b.reshape(left, *shared, prod(heights), summed)
        right = b.reshape(right, *shared, summed, prod(widths))
        z = b.reshape(b.matmul(left, right), *shared, *heights, *widths)
        return (b.cast(z, int32) if integers else z,)

    def _others(self, type: TensorType, side: int) -> Dims:
        taken = (*self.batch[side], *self.contract[side])
        return tuple(d for d in range(type.rank) if d not in taken)

    def _check(self, x: TensorType, y: TensorType) -> None:
        require(
            x.dtype == y.dtype or (x.dtype.is_integer and y.dtype.is_integer),
            f"x ({x}) and y ({y}) must have one dtype, or both be integers",
        )
        for name, pair in (("contract", self.contract), ("batch", self.batch)):
            require(len(pair[0]) == len(pair[1]), f"{name} must pair dimensions, found {pair}")
            for dim, other in zip(*pair, strict=True):
                require_axis(dim, x.rank, name)
                require_axis(other, y.rank, name)
                require(
                    x.shape[dim] == y.shape[other],
                    f"{name} pairs dimension {dim} of {x} with {other} of {y}: sizes differ",
                )
        for side in (0, 1):
            used = (*self.batch[side], *self.contract[side])
            require(len(set(used)) == len(used), f"a dimension is used twice: {used}")

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a plain, a batched and a doubly contracted product, and one of integers."""
        whole = TensorType((3, 5), int8), TensorType((4, 5), int8)
        return (
            Example(
                cls(((1,), (0,))), (TensorType((3, 20), float32), TensorType((20, 4), float32))
            ),
            Example(
                cls(((3,), (2,)), ((0, 2), (0, 1))),
                (TensorType((2, 4, 3, 16), bfloat16), TensorType((2, 3, 16, 5), bfloat16)),
            ),
            Example(
                cls(((0, 2), (1, 0))), (TensorType((2, 3, 4), float32), TensorType((4, 2), float32))
            ),
            Example(cls(((1,), (1,))), whole, ((-128, 127), (-128, 127))),
        )

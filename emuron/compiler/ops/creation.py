"""Operators without operands: small constants, fills and counting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import movement
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_axis, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import DType, bfloat16, float32, int32

MOST_CONSTANT_ELEMENTS = 4096
"""Longer data is a parameter: a constant is part of the program text and of its hash."""


@op("constant")
@dataclass(frozen=True, slots=True)
class Constant(Op):
    """y holds `values` in row-major order; for small host data, never for weights."""

    values: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: DType

    def takes_storage(self, types: tuple[TensorType, ...]) -> bool:
        """Whether integers are made, which float32 might not hold."""
        return self.dtype.is_integer

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Copy the values from HBM, or name the one number that all of them are."""
        movement.constant(k, self.values, outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the declared type."""
        require_operands(types)
        require(
            len(self.values) == math.prod(self.shape),
            f"{len(self.values)} values do not fill {list(self.shape)}",
        )
        require(
            len(self.values) <= MOST_CONSTANT_ELEMENTS,
            f"a constant holds at most {MOST_CONSTANT_ELEMENTS} elements, found "
            f"{len(self.values)}; make it a parameter",
        )
        return (TensorType(self.shape, self.dtype),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the values."""
        held = self.dtype.np if self.dtype.is_integer else np.float32
        return (ev.backend.asarray(np.array(self.values).astype(held).reshape(self.shape)),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a bfloat16 matrix and an int32 scalar."""
        return (
            Example(cls((1.0, -2.5, 0.1, 3.0), (2, 2), bfloat16), ()),
            Example(cls((7,), (), int32), ()),
        )


@op("full")
@dataclass(frozen=True, slots=True)
class Full(Op):
    """y is `value` everywhere."""

    value: float
    shape: tuple[int, ...]
    dtype: DType

    def takes_storage(self, types: tuple[TensorType, ...]) -> bool:
        """Whether integers are made, which float32 might not hold."""
        return self.dtype.is_integer

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Name the number; it is written only where an array is needed."""
        movement.constant(k, (self.value,), outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the declared type."""
        require_operands(types)
        return (TensorType(self.shape, self.dtype),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the filled array."""
        if self.dtype.is_integer:
            return (ev.backend.full(self.shape, int(self.value), self.dtype),)
        return (ev.backend.full(self.shape, self.value, float32),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a bfloat16 matrix."""
        return (Example(cls(0.3, (3, 5), bfloat16), ()),)


@op("iota")
@dataclass(frozen=True, slots=True)
class Iota(Op):
    """y counts `start + step * index` along dimension `axis`, the same along the others."""

    shape: tuple[int, ...]
    axis: int
    dtype: DType
    start: int = 0
    step: int = 1

    def takes_storage(self, types: tuple[TensorType, ...]) -> bool:
        """Whether integers are made, which float32 might not hold."""
        return self.dtype.is_integer

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write the counts."""
        movement.counts(k, outputs[0], self.axis, self.start, self.step)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the declared type."""
        require_operands(types)
        require_axis(self.axis, len(self.shape))
        return (TensorType(self.shape, self.dtype),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the counts; of floats exact up to 2**24."""
        counts = self.start + self.step * np.arange(self.shape[self.axis])
        sizes = [1] * len(self.shape)
        sizes[self.axis] = -1
        held = self.dtype.np if self.dtype.is_integer else np.float32
        spread = np.broadcast_to(counts.astype(held).reshape(sizes), self.shape)
        return (ev.backend.asarray(np.ascontiguousarray(spread)),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return counts along each axis."""
        return (
            Example(cls((3, 5), 1, int32), ()),
            Example(cls((3, 5), 0, float32, start=2, step=-3), ()),
        )

"""Reductions, running sums and order."""

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
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bfloat16, float32, int32


def _rows_last(ev: EvalContext, x: Array, axes: tuple[int, ...]) -> Array:
    """Return x with `axes` moved last and merged into one dimension."""
    kept = tuple(i for i in range(len(x.shape)) if i not in axes)
    if kept + axes != tuple(range(len(x.shape))):
        x = ev.backend.transpose(x, kept + axes)
    sizes = tuple(x.shape[: len(kept)])
    return ev.backend.reshape(x, (*sizes, math.prod(x.shape[len(kept) :])))


@op("reduce")
@dataclass(frozen=True, slots=True)
class Reduce(Op):
    """y = the `kind` (sum, mean, max, min) of x over `axes`, in float32, rounded once.

    The reduced dimensions are merged, in order, into one contiguous row; mean = sum * (1 / n).
    """

    kind: str
    axes: tuple[int, ...]
    keepdims: bool = False

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Reduce along the last dimension, or along the one before it."""
        rank = len(inputs[0].shape)
        if self.axes == tuple(range(rank - len(self.axes), rank)):
            movement.reduce_last(k, inputs[0], self.kind, len(self.axes), outputs[0])
        elif self.axes == (rank - 2,):
            movement.reduce_rows(k, inputs[0], self.kind, outputs[0])
        else:
            raise UnsupportedOpError(f"reduce has no kernel over axes {list(self.axes)} of {rank}")

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type without `axes`, or with size 1 there."""
        require_operands(types, "x")
        x = types[0]
        require(self.kind in ("sum", "mean", "max", "min"), f"unknown reduction {self.kind!r}")
        require(
            len(self.axes) > 0 and list(self.axes) == sorted(set(self.axes)),
            f"axes must be increasing and at least one, found {list(self.axes)}",
        )
        for axis in self.axes:
            require_axis(axis, x.rank, "axes")
        one = (1,) if self.keepdims else ()
        shape = [s for i, n in enumerate(x.shape) for s in (one if i in self.axes else (n,))]
        return (x.with_shape(*shape),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the reduction of contiguous rows."""
        rows = _rows_last(ev, arrays[0], self.axes)
        function = {
            "sum": ev.backend.sum,
            "mean": ev.backend.sum,
            "max": ev.backend.max,
            "min": ev.backend.min,
        }[self.kind]
        y = function(rows, axis=-1, keepdims=False)
        if self.kind == "mean":
            y = ev.backend.multiply(y, 1.0 / rows.shape[-1])
        if self.keepdims:
            shape = (1 if i in self.axes else n for i, n in enumerate(arrays[0].shape))
            y = ev.backend.reshape(y, tuple(shape))
        return (y,)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return every kind over the last, the first and two dimensions."""
        x, narrow = TensorType((3, 5, 8), float32), TensorType((4, 33), bfloat16)
        return (
            *(Example(cls(kind, (2,)), (x,)) for kind in ("sum", "mean", "max", "min")),
            Example(cls("sum", (0, 2), keepdims=True), (x,)),
            Example(cls("mean", (0,)), (narrow,)),
        )


@op("argreduce")
@dataclass(frozen=True, slots=True)
class ArgReduce(Op):
    """y = the int32 place of the largest (`max`) or smallest (`min`) element; the first wins."""

    kind: str
    axis: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return int32 without dimension `axis`."""
        require_operands(types, "x")
        require(self.kind in ("max", "min"), f"unknown arg-reduction {self.kind!r}")
        require_axis(self.axis, types[0].rank)
        shape = (n for i, n in enumerate(types[0].shape) if i != self.axis)
        return (TensorType(tuple(shape), int32),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the smallest place that holds the extreme value."""
        b = ev.backend
        rows = _rows_last(ev, arrays[0], (self.axis,))
        extreme = (b.max if self.kind == "max" else b.min)(rows, axis=-1, keepdims=True)
        found = b.compare("eq", rows, b.broadcast_to(extreme, tuple(rows.shape)))
        count = rows.shape[-1]
        places = b.asarray(np.arange(count, dtype=np.float32))
        beyond = b.full((), float(count), float32)
        return (b.min(b.where(found, places, beyond), axis=-1, keepdims=False),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return real numbers and integers with ties."""
        return (
            Example(cls("max", 1), (TensorType((3, 17), float32),)),
            Example(cls("min", 0), (TensorType((9, 4), int32),), ((-2, 2),)),
        )


@op("cumulative")
@dataclass(frozen=True, slots=True)
class Cumulative(Op):
    """y[i] = x[0] + ... + x[i] along `axis`, added in this order in float32."""

    axis: int
    kind: str = "sum"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        require_operands(types, "x")
        require(self.kind == "sum", f"unknown running reduction {self.kind!r}")
        require_axis(self.axis, types[0].rank)
        return (types[0],)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Scan along the last dimension."""
        if self.axis != len(inputs[0].shape) - 1:
            raise UnsupportedOpError(f"cumulative has no kernel along dimension {self.axis}")
        movement.running_sum(k, inputs[0], outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the running sums."""
        return (ev.backend.scan("add", arrays[0], axis=self.axis),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both axes and integers."""
        return (
            Example(cls(1), (TensorType((3, 9), float32),)),
            Example(cls(0), (TensorType((5, 4), int32),), ((-5, 5),)),
        )


@op("topk")
@dataclass(frozen=True, slots=True)
class TopK(Op):
    """The k largest elements of each row (last dimension), in descending order, and their places.

    Equal elements come in the order of their places.
    """

    k: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the values' type and int32 places."""
        require_operands(types, "x")
        x = types[0]
        require(
            x.rank > 0 and 0 < self.k <= x.shape[-1],
            f"k must lie in 1..{x.shape[-1] if x.rank else 0}, found {self.k}",
        )
        values = x.with_shape(*x.shape[:-1], self.k)
        return (values, values.with_dtype(int32))

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return values and places by a stable sort on the host."""
        x = ev.backend.numpy(arrays[0])
        places = np.argsort(-x, axis=-1, kind="stable")[..., : self.k]
        values = np.take_along_axis(x, places, -1)
        return ev.backend.asarray(values), ev.backend.asarray(places.astype(np.float32))

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return real numbers and integers with ties."""
        return (
            Example(cls(4), (TensorType((3, 17), float32),)),
            Example(cls(3), (TensorType((2, 9), int32),), ((-2, 2),)),
        )

"""Operators about the order of elements: sort, topk, histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import order as kernel
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_axis, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bfloat16, float32, int32


def _sorted_places(ev: EvalContext, x: Array, descending: bool) -> np.ndarray:
    """Return the stable order of stored rows along the last dimension; NaN counts as largest."""
    b, stored = ev.backend, ev.types[0].dtype
    keys = np.asarray(b.numpy(b.widen(x, stored) if stored.is_float else x))
    if not descending:
        return np.asarray(np.argsort(keys, axis=-1, kind="stable"))
    last = keys.shape[-1] - 1
    return np.asarray(last - np.argsort(keys[..., ::-1], axis=-1, kind="stable")[..., ::-1])


def _picked(ev: EvalContext, x: Array, places: np.ndarray) -> Array:
    """Return the elements of rows at places of the last dimension."""
    b, (*lead, length) = ev.backend, x.shape
    rows = np.arange(int(np.prod(lead, dtype=np.int64))) * length
    flat = places.reshape(len(rows), -1) + rows[:, None]
    found = b.take(b.reshape(x, (-1,)), b.asarray(flat.reshape(-1)), 0)
    return b.reshape(found, (*lead, places.shape[-1]))


def _answer(ev: EvalContext, x: Array, places: np.ndarray) -> tuple[Array, Array]:
    counts = np.ascontiguousarray(places.astype(np.int32))
    return _picked(ev, x, places), ev.backend.asarray(counts)


@op("sort")
@dataclass(frozen=True, slots=True)
class Sort(Op):
    """x sorted along `axis`, and the int32 places in x of its elements.

    Ascending, or descending; equal elements stay in their order, -0 equals 0, and NaN counts as
    larger than all others.
    """

    axis: int
    descending: bool = False
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type and int32 of its shape."""
        require_operands(types, "x")
        require_axis(self.axis, types[0].rank)
        return (types[0], types[0].with_dtype(int32))

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return values and places by a stable sort on the host."""
        b, rank = ev.backend, len(arrays[0].shape)
        axes = (*(d for d in range(rank) if d != self.axis), self.axis)
        x = b.transpose(arrays[0], axes)
        found = _answer(ev, x, _sorted_places(ev, x, self.descending))
        back = tuple(int(d) for d in np.argsort(axes))
        values, places = (b.transpose(f, back) for f in found)
        return values, places

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both directions, and integers with ties along the first dimension."""
        x = TensorType((3, 17), float32)
        return (
            Example(cls(1), (x,)),
            Example(cls(1, descending=True), (x.with_dtype(bfloat16),)),
            Example(cls(0, descending=True), (TensorType((9, 4), int32),), ((-2, 2),)),
        )


@op("topk")
@dataclass(frozen=True, slots=True)
class TopK(Op):
    """The k largest (or smallest) elements of each row (last dimension) and their int32 places.

    The largest come in descending, the smallest in ascending order, equal ones in that of their
    places. NaN counts as larger than all others. The device's search does not give the places of
    NaN, nor of infinities that sort last; integers of 32 bits are sorted on the host.
    """

    k: int
    largest: bool = True
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the values' type and int32 places."""
        require_operands(types, "x")
        x = types[0]
        require(
            x.rank > 0 and 0 <= self.k <= x.shape[-1],
            f"k must lie in 0..{x.shape[-1] if x.rank else 0}, found {self.k}",
        )
        values = x.with_shape(*x.shape[:-1], self.k)
        return (values, values.with_dtype(int32))

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Search eight at a time."""
        if inputs[0].dtype.is_integer and inputs[0].dtype.itemsize > 2:
            raise UnsupportedOpError(f"topk has no kernel for {inputs[0].dtype}")
        kernel.topk(k, inputs[0], self.k, self.largest, *outputs)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return values and places by a stable sort on the host."""
        x = arrays[0]
        return _answer(ev, x, _sorted_places(ev, x, self.largest)[..., : self.k])

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return real numbers and integers with ties, and the smallest."""
        x = TensorType((3, 17), float32)
        return (
            Example(cls(4), (x,)),
            Example(cls(3), (TensorType((2, 9), int32),), ((-2, 2),)),
            Example(cls(5, largest=False), (x.with_dtype(bfloat16),)),
        )


@op("histogram")
@dataclass(frozen=True, slots=True)
class Histogram(Op):
    """y[i] = how many elements of x lie in the i-th of `bins` equal parts of `low`..`high`, int32.

    A part holds its lower bound, the last one its upper bound too; others and NaN do not count.
    """

    bins: int
    low: float
    high: float

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return int32 of the number of bins."""
        require_operands(types, "x")
        require(
            self.bins > 0 and self.low < self.high,
            f"takes at least one bin and low < high, found {self.bins}, {self.low}, {self.high}",
        )
        return (TensorType((self.bins,), int32),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the counts of (x - low) / (high - low) * bins, in float32, on the host."""
        x = np.asarray(ev.backend.numpy(arrays[0]), np.float32).reshape(-1)
        low, high = np.float32(self.low), np.float32(self.high)
        inside = x[(x >= low) & (x <= high)]
        part = ((inside - low) / (high - low) * np.float32(self.bins)).astype(np.int64)
        counts = np.bincount(np.minimum(part, self.bins - 1), minlength=self.bins)
        return (ev.backend.asarray(counts.astype(np.float32)),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return real numbers, some outside, and integers on the bounds."""
        return (
            Example(cls(5, -1.0, 1.5), (TensorType((4, 30), float32),)),
            Example(cls(4, 0.0, 4.0), (TensorType((50,), int32),), ((-1, 5),)),
        )

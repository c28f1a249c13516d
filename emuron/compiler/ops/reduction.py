"""Reductions and running reductions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import movement, order
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_axis, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.compiler.ops.windows import backwards
from emuron.errors import UnsupportedOpError
from emuron.numerics.backend import Scan
from emuron.numerics.dtypes import bfloat16, bool_, float32, int32

REDUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "sum": "sum",
        "mean": "sum",
        "prod": "prod",
        "max": "max",
        "min": "min",
        "any": "max",
        "all": "min",
    }
)
"""The back end's reduction of each kind."""

SCANS: Mapping[str, Scan] = MappingProxyType(
    {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}
)
"""The back end's operator of each running reduction but logsumexp."""


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
    """y = the `kind` of x over `axes`, in float32, rounded once.

    sum, mean, prod, max, min (NaN if there is one), and of bool_ any, all. The reduced dimensions
    are merged, in order, into one contiguous row; mean = sum * (1 / n).
    """

    kind: str
    axes: tuple[int, ...]
    keepdims: bool = False

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Reduce along the last dimensions, or along the one before; others are moved there."""
        x, rank = inputs[0], len(inputs[0].shape)
        if self.axes == (rank - 2,):
            movement.reduce_rows(k, x, self.kind, outputs[0])
            return
        kept = tuple(d for d in range(rank) if d not in self.axes)
        turned = x.seen_as(x.view.permute((*kept, *self.axes)))
        movement.reduce_last(k, turned, self.kind, len(self.axes), outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type without `axes`, or with size 1 there."""
        require_operands(types, "x")
        x = types[0]
        require(
            self.kind in REDUCTIONS,
            f"kind must be one of {', '.join(REDUCTIONS)}; found {self.kind!r}",
        )
        logical = self.kind in ("any", "all")
        require(logical == (x.dtype == bool_), f"any and all, and no others, take bool_; found {x}")
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
        y = getattr(ev.backend, REDUCTIONS[self.kind])(rows, axis=-1, keepdims=False)
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
        truths = TensorType((9, 2), bool_)
        return (
            *(Example(cls(kind, (2,)), (x,)) for kind in ("sum", "mean", "max", "min", "prod")),
            *(Example(cls(kind, (1,)), (truths,)) for kind in ("any", "all")),
            Example(cls("sum", (0, 2), keepdims=True), (x,)),
            Example(cls("mean", (0,)), (narrow,)),
        )


@op("argreduce")
@dataclass(frozen=True, slots=True)
class ArgReduce(Op):
    """y = the int32 place of the largest (`max`) or smallest (`min`) element.

    The first of equal ones wins; NaN, the first one, before all others.
    """

    kind: str
    axis: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return int32 without dimension `axis`."""
        require_operands(types, "x")
        require(self.kind in ("max", "min"), f"unknown arg-reduction {self.kind!r}")
        require_axis(self.axis, types[0].rank)
        shape = (n for i, n in enumerate(types[0].shape) if i != self.axis)
        return (TensorType(tuple(shape), int32),)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Find the extreme, then the smallest place that holds it."""
        order.argreduce(k, inputs[0], self.kind, self.axis, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the smallest place that holds the extreme value or NaN."""
        b = ev.backend
        rows = _rows_last(ev, arrays[0], (self.axis,))
        extreme = (b.max if self.kind == "max" else b.min)(rows, axis=-1, keepdims=True)
        found = b.compare("eq", rows, b.broadcast_to(extreme, tuple(rows.shape)))
        found = b.maximum(found, b.compare("ne", rows, rows))
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
    """y[i] = the `kind` of x[0] ... x[i] along `axis`, or, with `reverse`, of x[i] ... x[n - 1].

    sum, prod, max, min or logsumexp, one float32 step after another in this order, rounded once.
    logsumexp takes max(y, x) + log(1 + exp(-|y - x|)) as its step.
    """

    axis: int
    kind: str = "sum"
    reverse: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        require_operands(types, "x")
        kinds = (*SCANS, "logsumexp")
        require(self.kind in kinds, f"kind must be one of {', '.join(kinds)}; found {self.kind!r}")
        require_axis(self.axis, types[0].rank)
        return (types[0],)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Scan rows of the dimension."""
        if self.kind == "logsumexp":
            raise UnsupportedOpError("cumulative has no kernel for logsumexp")
        order.running(k, inputs[0], SCANS[self.kind], self.axis, self.reverse, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the running results."""
        x = backwards(ev, arrays[0], self.axis) if self.reverse else arrays[0]
        if self.kind == "logsumexp":
            y = self._log_sum_exp(ev, x)
        else:
            y = ev.backend.scan(SCANS[self.kind], x, axis=self.axis)
        return (backwards(ev, y, self.axis) if self.reverse else y,)

    def _log_sum_exp(self, ev: EvalContext, x: Array) -> Array:
        b, before = ev.backend, (slice(None),) * self.axis
        length = x.shape[self.axis]
        steps = [x[(*before, slice(i, i + 1))] for i in range(length)]
        for i in range(1, length):
            larger = b.maximum(steps[i - 1], steps[i])
            smaller = b.minimum(steps[i - 1], steps[i])
            # Equal infinities are not apart.
            equal = b.compare("eq", larger, smaller)
            apart = b.where(equal, b.full((), 0.0, float32), b.subtract(larger, smaller))
            tail = b.log(b.add(b.exp(b.negative(apart)), 1.0))
            steps[i] = b.add(larger, tail)
        return b.concatenate(steps, self.axis) if steps else x

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both axes, every kind, the other direction and integers."""
        x = TensorType((3, 9), float32)
        return (
            Example(cls(1), (x,)),
            Example(cls(0), (TensorType((5, 4), int32),), ((-5, 5),)),
            *(Example(cls(1, kind), (x,)) for kind in ("prod", "max", "min", "logsumexp")),
            Example(cls(1, reverse=True), (x,)),
            Example(cls(0, "max", reverse=True), (x.with_dtype(bfloat16),)),
        )

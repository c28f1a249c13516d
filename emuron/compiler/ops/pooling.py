"""Reductions over windows: max, average and sum pooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import pool
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.pool import Pooling
from emuron.compiler.kernels.windows import Window, windows_of
from emuron.compiler.ops.arguments import require, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bfloat16, float32, int32

_KINDS = ("max", "min", "sum", "avg")


@op("reduce_window")
@dataclass(frozen=True, slots=True)
class ReduceWindow(Op):
    """y[..., p] = the `kind` (max, min, sum, avg) of x over the window at p of the last dimensions.

    Position q of output p meets element p·stride + q·dilation − low; where that lies outside, max
    and min skip it and sum adds 0. A window that meets nothing gives ∓infinity, 0 or (avg) 0.
    With `ceil` a last window that begins within x or its low padding counts, though it reaches
    further. avg divides by the number of positions within x, or with `count_include_pad` within x
    and its padding (not what `ceil` adds).

    float32: the last dimension first, its positions in order, then the one before it; avg
    multiplies the sum by the float32 reciprocal of the count; one rounding.
    """

    kind: str
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    ceil: bool = False
    count_include_pad: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type with the outputs of the windows as last dimensions."""
        require_operands(types, "x")
        x, count = types[0], len(self.window)
        require(self.kind in _KINDS, f"unknown kind of window {self.kind!r}; take {_KINDS}")
        require(1 <= count <= x.rank, f"the window has {count} dimensions, x is {x}")
        for name in ("stride", "padding", "dilation"):
            values = getattr(self, name)
            require(len(values) == count, f"{name} must have {count} entries, found {list(values)}")
        least = min(*self.window, *self.stride, *self.dilation)
        require(least >= 1, f"window, stride and dilation must be 1 or more, found {least}")
        windows = self.windows(x.shape)
        for dim, window in enumerate(windows):
            require(
                window.outputs > 0,
                f"the window of {window.length} is larger than dimension {dim - count} of x ({x}) "
                "with its padding",
            )
        return (x.with_shape(*x.shape[:-count], *(w.outputs for w in windows)),)

    def windows(self, x: tuple[int, ...]) -> tuple[Window, ...]:
        """Return the window of each dimension for the shape of x."""
        spatial = x[len(x) - len(self.window) :]
        return windows_of(
            spatial, self.window, self.stride, self.padding, self.dilation, ceil=self.ceil
        )

    def reciprocals(self, windows: tuple[Window, ...]) -> np.ndarray:
        """Return the float32 reciprocals of the counts that an average divides by, 0 for none."""
        counts = np.ones((), np.float32)
        for window in windows:
            counted = window.counted if self.count_include_pad else window.met
            along = [counted(o) for o in range(window.outputs)]
            counts = np.multiply.outer(counts, np.array(along, np.float32))
        found = np.divide(np.float32(1), counts, out=np.zeros_like(counts), where=counts > 0)
        return np.asarray(found, np.float32)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Reduce images whose channels lie on partitions."""
        x = inputs[0]
        spatial = len(self.window)
        if spatial > 3 or len(x.shape) != spatial + 2:
            raise UnsupportedOpError(
                f"reduce_window has a kernel over 1 to 3 dimensions of [N, C, *spatial] only, "
                f"found {spatial} of {len(x.shape)}"
            )
        windows = self.windows(x.shape)
        pool.pool(k, x, windows, Pooling(self.kind, self.reciprocals(windows)), outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the windows reduced dimension by dimension, the last one first."""
        x = arrays[0]
        windows = self.windows(tuple(x.shape))
        first = len(x.shape) - len(windows)
        for dim in reversed(range(len(windows))):
            x = self._along(ev, x, first + dim, windows[dim])
        if self.kind == "avg":
            x = ev.backend.multiply(x, ev.backend.asarray(self.reciprocals(windows)))
        return (x,)

    def _along(self, ev: EvalContext, x: Array, axis: int, window: Window) -> Array:
        """Return the windows of one dimension, reduced."""
        b = ev.backend
        neutral = {"max": -np.inf, "min": np.inf}.get(self.kind, 0.0)
        combine = {"max": b.maximum, "min": b.minimum}.get(self.kind, b.add)
        shape = (*x.shape[:axis], window.outputs, *x.shape[axis + 1 :])
        total = b.full(shape, neutral, float32)
        before = (slice(None),) * axis
        for position in range(window.length):
            reach = window.reach(position)
            if reach is not None:
                at = (*before, reach.outputs)
                total[at] = combine(total[at], x[(*before, reach.inputs)])
        return total

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return every kind, with padding, dilation, ceil, one and three dimensions, integers."""
        x, row = TensorType((2, 5, 9, 8), float32), TensorType((1, 4, 13), bfloat16)
        cube, whole = TensorType((1, 3, 4, 5, 4), float32), TensorType((1, 2, 6, 6), int32)
        pads, one = ((1, 1), (1, 1)), (1, 1)
        return (
            Example(cls("max", (3, 3), (2, 2), pads, one), (x,)),
            Example(cls("min", (2, 3), (1, 2), ((0, 0), (2, 0)), (2, 1)), (x,)),
            Example(cls("sum", (3, 2), one, ((1, 0), (0, 1)), one), (x,)),
            Example(cls("avg", (3, 3), (2, 2), pads, one), (x,)),
            Example(cls("avg", (2, 3), (3, 3), pads, one, True, True), (x,)),
            Example(cls("max", (3,), (2,), ((0, 0),), (1,), ceil=True), (row,)),
            Example(cls("avg", (4,), (4,), ((0, 0),), (1,), ceil=True), (row,)),
            Example(cls("avg", (2, 2, 2), (2, 2, 2), ((0, 0),) * 3, (1, 1, 1)), (cube,)),
            Example(cls("max", (2, 2), (2, 2), ((0, 0),) * 2, one), (whole,), ((-9, 9),)),
        )

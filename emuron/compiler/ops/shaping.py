"""Operators that move elements without changing them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import elementwise, movement
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.view import LogicalView
from emuron.compiler.ops.arguments import require, require_axis, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import DType, bfloat16, float32, int32


@op("reshape")
@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """y holds the elements of x in row-major order, in another shape."""

    shape: tuple[int, ...]
    moves_storage: ClassVar[bool] = True

    def view(self, view: LogicalView) -> LogicalView | None:
        """Return the same elements in the new shape, or None if that needs a copy."""
        return view.reshape(self.shape)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Copy the elements, where they have no view in the new shape."""
        movement.reshape(k, inputs[0], outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the new shape, which must hold as many elements."""
        require_operands(types, "x")
        require(
            math.prod(self.shape) == types[0].elements,
            f"{types[0]} of {types[0].elements} elements cannot become {list(self.shape)}",
        )
        return (types[0].with_shape(*self.shape),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the reshaped array."""
        return (ev.backend.reshape(arrays[0], self.shape),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a split and a merge of dimensions."""
        return (
            Example(cls((2, 3, 8)), (TensorType((6, 8), float32),)),
            Example(cls((30,)), (TensorType((2, 15), bfloat16),)),
        )


@op("permute")
@dataclass(frozen=True, slots=True)
class Permute(Op):
    """Dimension i of y is dimension `axes[i]` of x."""

    axes: tuple[int, ...]
    moves_storage: ClassVar[bool] = True

    def view(self, view: LogicalView) -> LogicalView | None:
        """Return the permuted view."""
        return view.permute(self.axes)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the permuted shape."""
        require_operands(types, "x")
        require(
            sorted(self.axes) == list(range(types[0].rank)),
            f"axes must be an order of 0..{types[0].rank - 1}, found {list(self.axes)}",
        )
        return (types[0].with_shape(*(types[0].shape[a] for a in self.axes)),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the transposed array."""
        return (ev.backend.transpose(arrays[0], self.axes),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a matrix transpose and the split of attention heads."""
        return (
            Example(cls((1, 0)), (TensorType((5, 7), bfloat16),)),
            Example(cls((0, 2, 1, 3)), (TensorType((2, 5, 3, 4), float32),)),
        )


@op("broadcast")
@dataclass(frozen=True, slots=True)
class Broadcast(Op):
    """y repeats x: dimension i of x becomes dimension `dims[i]` of y, sizes 1 stretch."""

    shape: tuple[int, ...]
    dims: tuple[int, ...]
    moves_storage: ClassVar[bool] = True

    def view(self, view: LogicalView) -> LogicalView | None:
        """Return the stretched view."""
        return view.broadcast(self.shape, self.dims)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the target shape; `dims` must increase, one for each dimension of x."""
        require_operands(types, "x")
        x = types[0]
        require(
            len(self.dims) == x.rank and list(self.dims) == sorted(set(self.dims)),
            f"dims must name {x.rank} increasing dimensions, found {list(self.dims)}",
        )
        for size, dim in zip(x.shape, self.dims, strict=True):
            require_axis(dim, len(self.shape), "dims")
            require(
                size in (1, self.shape[dim]),
                f"{x} does not stretch to {list(self.shape)} along dimension {dim}",
            )
        return (x.with_shape(*self.shape),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return a broadcast view."""
        sizes = [1] * len(self.shape)
        for size, dim in zip(arrays[0].shape, self.dims, strict=True):
            sizes[dim] = size
        spread = ev.backend.reshape(arrays[0], tuple(sizes))
        return (ev.backend.broadcast_to(spread, self.shape),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a row, a column and a scalar."""
        return (
            Example(cls((3, 5), (1,)), (TensorType((5,), float32),)),
            Example(cls((3, 5), (0, 1)), (TensorType((3, 1), bfloat16),)),
            Example(cls((2, 3), ()), (TensorType((), int32),)),
        )


@op("slice")
@dataclass(frozen=True, slots=True)
class Slice(Op):
    """y = x[start:stop:step] in every dimension; steps are positive."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]
    moves_storage: ClassVar[bool] = True

    def view(self, view: LogicalView) -> LogicalView | None:
        """Return the view of the kept elements, or None if that needs a copy."""
        sliced: LogicalView | None = view
        bounds = zip(self.starts, self.stops, self.steps, strict=True)
        for dim, (start, stop, step) in enumerate(bounds):
            whole = start == 0 and step == 1 and stop == view.shape[dim]
            if sliced is not None and not whole:
                sliced = sliced.slice(dim, start, -(-(stop - start) // step), step)
        return sliced

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Copy the elements, where they have no view."""
        bounds = tuple(zip(self.starts, self.stops, self.steps, strict=True))
        movement.slices(k, inputs[0], bounds, outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the sliced shape; every bound must lie inside x."""
        require_operands(types, "x")
        x = types[0]
        require(
            len(self.starts) == len(self.stops) == len(self.steps) == x.rank,
            f"starts, stops and steps must have {x.rank} entries each",
        )
        for dim, (a, b, step) in enumerate(zip(self.starts, self.stops, self.steps, strict=True)):
            require(
                0 <= a <= b <= x.shape[dim] and step > 0,
                f"slice {a}:{b}:{step} does not lie in dimension {dim} of {x}",
            )
        bounds = zip(self.starts, self.stops, self.steps, strict=True)
        return (x.with_shape(*(-(-(b - a) // step) for a, b, step in bounds)),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return a view."""
        bounds = zip(self.starts, self.stops, self.steps, strict=True)
        return (arrays[0][tuple(slice(*b) for b in bounds)],)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a dense and a strided slice."""
        return (
            Example(cls((1, 0), (3, 7), (1, 1)), (TensorType((4, 7), float32),)),
            Example(cls((0, 1), (4, 7), (3, 2)), (TensorType((4, 7), bfloat16),)),
        )


@op("concat")
@dataclass(frozen=True, slots=True)
class Concat(Op):
    """y joins the operands along dimension `axis`."""

    axis: int
    moves_storage: ClassVar[bool] = True

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Copy the operands one after another."""
        movement.concatenate(k, list(inputs), self.axis, outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the joined shape; the operands agree but for `axis`."""
        require(len(types) > 0, "takes at least one operand")
        first = types[0]
        require_axis(self.axis, first.rank)

        def rest(t: TensorType) -> tuple[int, ...]:
            return t.shape[: self.axis] + t.shape[self.axis + 1 :]

        for index, t in enumerate(types):
            require(
                t.dtype == first.dtype and t.rank == first.rank and rest(t) == rest(first),
                f"operand {index} ({t}) does not join {first} along dimension {self.axis}",
            )
        shape = list(first.shape)
        shape[self.axis] = sum(t.shape[self.axis] for t in types)
        return (first.with_shape(*shape),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the joined array."""
        return (ev.backend.concatenate(arrays, self.axis),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return three operands along the last and two along the first dimension."""
        sizes = (TensorType((2, n), float32) for n in (3, 1, 4))
        pair = TensorType((3, 4), bfloat16)
        return (Example(cls(1), tuple(sizes)), Example(cls(0), (pair, pair)))


@op("cast")
@dataclass(frozen=True, slots=True)
class Cast(Op):
    """y = x in another dtype, through float32: round to nearest even, integers saturate."""

    dtype: DType

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write a copy in the other dtype."""
        elementwise.copy(k, inputs[0], outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's shape in the new dtype."""
        require_operands(types, "x")
        return (types[0].with_dtype(self.dtype),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return x; the write rounds."""
        return (arrays[0],)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a narrowing, a widening and two integer casts."""
        return (
            Example(cls(bfloat16), (TensorType((4, 9), float32),)),
            Example(cls(float32), (TensorType((4, 9), bfloat16),)),
            Example(cls(int32), (TensorType((4, 9), float32),), ((-9.0, 9.0),)),
            Example(cls(float32), (TensorType((4, 9), int32),), ((-9, 9),)),
        )

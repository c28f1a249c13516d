"""Builds graphs of operators that move elements: shapes, windows, places given by data."""

from __future__ import annotations

from collections.abc import Sequence

from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import bits, creation, indexed, points, shaping, windows
from emuron.compiler.ops.elementwise_builder import ElementwiseBuilder
from emuron.numerics.dtypes import DType, dtype


class MovementBuilder(ElementwiseBuilder):
    """An ElementwiseBuilder that can also move elements."""

    def reshape(self, x: Value, *shape: int) -> Value:
        """X in another shape; one size may be -1."""
        if -1 in shape:
            known = 1
            for size in shape:
                known *= 1 if size == -1 else size
            shape = tuple(x.type.elements // max(known, 1) if s == -1 else s for s in shape)
        return x if shape == x.shape else self.one(shaping.Reshape(shape), x)

    def permute(self, x: Value, *axes: int) -> Value:
        """X with its dimensions in another order."""
        if axes == tuple(range(x.type.rank)):
            return x
        return self.one(shaping.Permute(axes), x)

    def slice(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        """x[start:stop:step] along one dimension."""
        starts, stops, steps = [0] * x.type.rank, list(x.shape), [1] * x.type.rank
        starts[axis], stops[axis], steps[axis] = start, stop, step
        return self.one(shaping.Slice(tuple(starts), tuple(stops), tuple(steps)), x)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values joined along one dimension."""
        return self.one(shaping.Concat(axis), *values)

    def cast(self, x: Value, to: DType | str) -> Value:
        """X in another dtype."""
        new = dtype(to)
        return x if x.type.dtype == new else self.one(shaping.Cast(new), x)

    def bitcast(self, x: Value, to: DType | str) -> Value:
        """X's bytes as elements of another dtype."""
        return self.one(bits.Bitcast(dtype(to)), x)

    def pad(
        self,
        x: Value,
        low: Sequence[int],
        high: Sequence[int],
        interior: Sequence[int] = (),
        *,
        mode: str = "constant",
        value: float = 0.0,
    ) -> Value:
        """X with more elements at the sides of each dimension (fewer where negative)."""
        op = windows.Pad(tuple(low), tuple(high), tuple(interior), mode, value)
        return x if not any((*low, *high, *interior)) else self.one(op, x)

    def reverse(self, x: Value, axes: Sequence[int]) -> Value:
        """X in the opposite order along `axes`."""
        return self.one(windows.Reverse(tuple(axes)), x)

    def dynamic_slice(self, x: Value, start: Value, sizes: Sequence[int]) -> Value:
        """Window of x at a start that is data, clamped to lie inside."""
        return self.one(windows.DynamicSlice(tuple(sizes)), x, start)

    def dynamic_update_slice(self, x: Value, update: Value, start: Value) -> Value:
        """X with update at a start that is data, clamped to lie inside."""
        return self.one(windows.DynamicUpdateSlice(), x, update, start)

    def iota(self, shape: Sequence[int], axis: int, to: DType | str = "int32") -> Value:
        """0, 1, 2 ... along one dimension."""
        return self.one(creation.Iota(tuple(shape), axis, dtype(to)))

    def constant(self, values: Sequence[float], type: TensorType) -> Value:
        """Small host data in row-major order."""
        return self.one(creation.Constant(tuple(values), type.shape, type.dtype))

    def take(self, x: Value, index: Value, axis: int = 0) -> Value:
        """Slices of x at the places in index (embedding lookup)."""
        return self.one(indexed.Take(axis), x, index)

    def scatter(
        self, x: Value, update: Value, index: Value, axis: int, *, batched: bool = False
    ) -> Value:
        """X with the slices at `index` along `axis` replaced by those of update."""
        return self.one(indexed.Scatter(axis, batched), x, update, index)

    def gather_along(self, x: Value, index: Value, axis: int) -> Value:
        """Elements of x at places along one dimension, one for each element of index.

        The other dimensions of index may be smaller than x's.
        """
        for dim, size in enumerate(index.shape):
            if dim != axis and size < x.shape[dim]:
                x = self.slice(x, dim, 0, size)
        return self.one(indexed.GatherAlong(axis), x, index)

    def gather_nd(self, x: Value, indices: Sequence[Value], dims: Sequence[int]) -> Value:
        """Slices of x at places of `dims`; the index's dimensions come first."""
        return self.one(points.GatherNd(tuple(dims)), x, *indices)

    def scatter_nd(
        self,
        x: Value,
        update: Value,
        indices: Sequence[Value],
        dims: Sequence[int],
        combiner: str = "set",
        *,
        drop: bool = False,
    ) -> Value:
        """X with update combined (set, add, mul, min, max) at places of `dims`."""
        return self.one(points.ScatterNd(tuple(dims), combiner, drop), x, update, *indices)

    def scatter_along(
        self, x: Value, update: Value, index: Value, axis: int, combiner: str = "set"
    ) -> Value:
        """X with elements of update combined at places along one dimension.

        index has one place for each element of update; other dimensions count from 0.
        """
        places = [
            index if dim == axis else self.iota(index.shape, dim, index.type.dtype)
            for dim in range(x.type.rank)
        ]
        return self.scatter_nd(x, update, places, range(x.type.rank), combiner)

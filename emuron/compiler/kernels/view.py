"""Logical views: how a reshaped, permuted or sliced value lies in the value that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from emuron.isa.affine import Affine, Index

Run = tuple[int, int]
"""(count, stride): `count` elements, `stride` base elements apart."""


@dataclass(frozen=True, slots=True)
class LogicalView:
    """Dimensions over the row-major elements of a base value.

    Each dimension is a tuple of runs, slowest first, so that merging dimensions that do not lie
    next to each other (heads and head size after attention) needs no copy.
    """

    dims: tuple[tuple[Run, ...], ...]
    offset: Index = 0

    @classmethod
    def dense(cls, shape: tuple[int, ...]) -> LogicalView:
        """Return the view of a whole row-major value."""
        dims: list[tuple[Run, ...]] = []
        stride = prod(shape)
        for size in shape:
            stride = stride // size if size else 0
            dims.append(((size, stride),))
        return cls(tuple(dims))

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return tuple(prod(count for count, _ in dim) for dim in self.dims)

    def permute(self, axes: tuple[int, ...]) -> LogicalView:
        """Return the view whose dimension i is dimension axes[i] of this one."""
        return LogicalView(tuple(self.dims[a] for a in axes), self.offset)

    def reshape(self, shape: tuple[int, ...]) -> LogicalView | None:
        """Return the same row-major order in another shape; None if that needs a copy."""
        runs = _merge([run for dim in self.dims for run in dim if run[0] != 1])
        dims: list[tuple[Run, ...]] = []
        for size in reversed(shape):
            taken: list[Run] = []
            while size > 1:
                count, stride = runs.pop()
                if size % count == 0:
                    taken.insert(0, (count, stride))
                    size //= count
                elif count % size == 0:
                    taken.insert(0, (size, stride))
                    runs.append((count // size, stride * size))
                    size = 1
                else:
                    return None
            dims.insert(0, tuple(taken) or ((1, 0),))
        return LogicalView(tuple(dims), self.offset)

    def slice(self, dim: int, start: Index, size: int, step: int = 1) -> LogicalView | None:
        """Return `size` elements of one dimension from `start`; None if that needs a copy."""
        found = take(self.dims[dim], start, size, step)
        if found is None:
            return None
        offset, runs = found
        return LogicalView((*self.dims[:dim], runs, *self.dims[dim + 1 :]), self.offset + offset)

    def broadcast(self, shape: tuple[int, ...], dims: tuple[int, ...]) -> LogicalView:
        """Return the view stretched to `shape`; own dimension i becomes dims[i]."""
        new: list[tuple[Run, ...]] = [((size, 0),) for size in shape]
        for own, dim in zip(self.dims, dims, strict=True):
            if prod(count for count, _ in own) == shape[dim]:
                new[dim] = own
        return LogicalView(tuple(new), self.offset)

    def matrix(self) -> LogicalView:
        """Return the view as [rows, columns]: leading dimensions merged, the last one kept."""
        rows = _merge([run for dim in self.dims[:-1] for run in dim if run[0] != 1])
        columns = _merge([run for run in (self.dims[-1] if self.dims else ()) if run[0] != 1])
        return LogicalView((tuple(rows) or ((1, 0),), tuple(columns) or ((1, 1),)), self.offset)

    @property
    def is_dense(self) -> bool:
        """Whether the view is the whole base in row-major order."""
        runs = _merge([run for dim in self.dims for run in dim if run[0] != 1])
        return self.offset == 0 and (not runs or (len(runs) == 1 and runs[0][1] == 1))


def _merge(runs: list[Run]) -> list[Run]:
    merged: list[Run] = []
    for count, stride in runs:
        if merged and merged[-1][1] == count * stride:
            merged[-1] = (merged[-1][0] * count, stride)
        else:
            merged.append((count, stride))
    return merged


def take(
    dim: tuple[Run, ...], start: Index, size: int, step: int = 1
) -> tuple[Index, tuple[Run, ...]] | None:
    """Return (offset, runs) of `size` elements of a dimension from `start`, or None.

    None means that the elements are not a regular pattern (a range that cuts through the inner
    runs of a merged dimension).
    """
    if len(dim) == 1:
        _, stride = dim[0]
        return start * stride, ((size, stride * step),)
    if isinstance(start, Affine) or step != 1:
        return None
    inner = prod(count for count, _ in dim[1:])
    row, rest = divmod(start, inner)
    if rest + size <= inner:
        found = take(dim[1:], rest, size)
        return None if found is None else (row * dim[0][1] + found[0], found[1])
    if rest or size % inner:
        return None
    return row * dim[0][1], ((size // inner, dim[0][1]), *dim[1:])

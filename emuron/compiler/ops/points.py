"""Operators that read or write at places named by one index tensor a dimension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import places
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_axis, require_integer
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.indexed import host_indices
from emuron.compiler.ops.registry import op
from emuron.errors import OutOfBoundsError, UnsupportedOpError
from emuron.numerics.dtypes import bfloat16, float32, int32

_ALU: Mapping[str, str] = MappingProxyType(
    {"add": "add", "mul": "multiply", "min": "minimum", "max": "maximum"}
)
COMBINERS = ("set", *_ALU)


def _order(dims: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return the indexed dimensions, then the others."""
    return (*dims, *(d for d in range(rank) if d not in dims))


def _rest(x: TensorType, dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for d, n in enumerate(x.shape) if d not in dims)


def _check_places(x: TensorType, dims: tuple[int, ...], indices: tuple[TensorType, ...]) -> None:
    require(
        len(dims) > 0 and len(set(dims)) == len(dims) == len(indices),
        f"dims must name as many different dimensions as there are index operands "
        f"({len(indices)}), found {list(dims)}",
    )
    for dim, index in zip(dims, indices, strict=True):
        require_axis(dim, x.rank, "dims")
        require_integer(index, "index")
        require(
            index.shape == indices[0].shape,
            f"index operands must have one shape, found {indices[0]} and {index}",
        )


@op("gather_nd")
@dataclass(frozen=True, slots=True)
class GatherNd(Op):
    """y[p, ...] = x at places (index_0[p], index_1[p], ...) of the dimensions `dims`.

    The dimensions of the index operands come first, then the others of x in their order. An index
    outside raises OutOfBoundsError.
    """

    dims: tuple[int, ...]
    moves_storage = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the index's shape and x's other dimensions."""
        require(len(types) >= 2, f"takes x and index operands, found {len(types)} operands")
        x, *indices = types
        _check_places(x, self.dims, tuple(indices))
        return (x.with_shape(*indices[0].shape, *_rest(x, self.dims)),)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Gather rows by DMA, their numbers worked out from the indices."""
        places.gather_nd(k, inputs[0], self.dims, inputs[1:], outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the gathered slices, by one gather of rows."""
        b, (x, *indices) = ev.backend, arrays
        sizes = tuple(x.shape[d] for d in self.dims)
        found = [host_indices(ev, i, n, "gather_nd") for i, n in zip(indices, sizes, strict=True)]
        rows = b.reshape(b.transpose(x, _order(self.dims, len(x.shape))), (prod(sizes), -1))
        flat = np.ravel_multi_index(tuple(found), sizes)
        picked = b.take(rows, b.asarray(flat.reshape(-1)), 0)
        (y,) = self.infer(*ev.types)
        return (b.reshape(picked, y.shape),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return single elements, rows of a middle dimension, and two outer dimensions."""
        x = TensorType((4, 5, 6), float32)
        at, grid = TensorType((7,), int32), TensorType((2, 3), int32)
        return (
            Example(cls((0, 1, 2)), (x, at, at, at), ((-2, 2), (0, 3), (0, 4), (0, 5))),
            Example(cls((1,)), (x.with_dtype(bfloat16), grid), ((-2, 2), (0, 4))),
            Example(cls((2, 0)), (x, grid, grid), ((-2, 2), (0, 5), (0, 3))),
        )


@op("scatter_nd")
@dataclass(frozen=True, slots=True)
class ScatterNd(Op):
    """y = x combined with update[p, ...] at places (index_0[p], ...) of the dimensions `dims`.

    update has the index operands' dimensions first, then the others of x. `combiner` is set (the
    last of equal places wins), add, mul, min or max (float32, in order, rounded once). An index
    outside raises OutOfBoundsError, or with `drop` is left out.
    """

    dims: tuple[int, ...]
    combiner: str = "set"
    drop: bool = False

    @property
    def moves_storage(self) -> bool:  # type: ignore[override]
        """Whether elements stay as they are."""
        return self.combiner == "set"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        require(len(types) >= 3, f"takes x, update and index operands, found {len(types)}")
        x, update, *indices = types
        _check_places(x, self.dims, tuple(indices))
        require(
            self.combiner in COMBINERS,
            f"combiner must be one of {', '.join(COMBINERS)}; found {self.combiner!r}",
        )
        expected = x.with_shape(*indices[0].shape, *_rest(x, self.dims))
        require(update == expected, f"update must be {expected}, found {update}")
        return (x,)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write row after row by DMA; combined ones are read before."""
        x, update, *indices = inputs
        combine = None if self.combiner == "set" else _ALU[self.combiner]
        if self.drop or (combine is not None and x.dtype != float32):
            raise UnsupportedOpError(
                "scatter_nd has a kernel without drop, and of float32 where it combines"
            )
        places.scatter_nd(k, x, self.dims, update, indices, combine, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return a copy of x with the rows combined, first all first writes, then second ones."""
        b, (x, update, *indices) = ev.backend, arrays
        order = _order(self.dims, len(x.shape))
        turned = b.transpose(x, order)
        out = b.empty(tuple(turned.shape), ev.types[0].dtype if self.moves_storage else float32)
        b.copyto(out, turned)
        sizes = tuple(x.shape[d] for d in self.dims)
        flat, kept = self._places(ev, indices, sizes)
        rows = b.reshape(out, (prod(sizes), -1))
        updates = b.reshape(update, (flat.size, -1)) if flat.size else update
        for chosen in _turns(flat, kept, last=self.combiner == "set"):
            at, new = b.asarray(flat[chosen]), b.take(updates, b.asarray(chosen), 0)
            rows[at] = self._combined(b, b.take(rows, at, 0), new)
        back = tuple(int(d) for d in np.argsort(order))
        return (b.transpose(b.reshape(rows, tuple(turned.shape)), back),)

    def _places(
        self, ev: EvalContext, indices: list[Array], sizes: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return flat row numbers and the numbers of the updates that lie inside."""
        found = [np.asarray(ev.backend.numpy(i)).astype(np.int64).reshape(-1) for i in indices]
        inside = np.ones(found[0].shape, bool)
        for at, size in zip(found, sizes, strict=True):
            inside &= (at >= 0) & (at < size)
        if not (self.drop or inside.all()):
            wrong = [int(at[~inside][0]) for at in found]
            raise OutOfBoundsError(f"scatter_nd: index {wrong} is outside {list(sizes)}")
        flat = np.ravel_multi_index(tuple(np.where(inside, p, 0) for p in found), sizes)
        return np.asarray(flat), np.flatnonzero(inside)

    def _combined(self, b: Any, old: Array, new: Array) -> Array:
        if self.combiner == "set":
            return new
        return getattr(b, _ALU[self.combiner])(old, new)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return every combiner with places that repeat, two dimensions, and a dropped one."""
        x, at = TensorType((6, 4), float32), TensorType((9,), int32)
        rows = (x, x.with_shape(9, 4), at)
        single = (x, x.with_shape(9), at, at)
        return (
            *(Example(cls((0,), c), rows, ((-2, 2), (-2, 2), (0, 5))) for c in COMBINERS),
            Example(cls((1, 0)), single, ((-2, 2), (-2, 2), (0, 3), (0, 5))),
            Example(
                cls((0,), "add", drop=True),
                tuple(t.with_dtype(bfloat16) for t in rows[:2]) + rows[2:],
                ((-2, 2), (-2, 2), (-2, 7)),
            ),
        )


def _turns(flat: np.ndarray, kept: np.ndarray, *, last: bool) -> Iterator[np.ndarray]:
    """Yield numbers of updates without equal places: first ones, second ones, or the last alone."""
    at = flat[kept]
    order = np.argsort(at, kind="stable")
    starts = np.flatnonzero(np.diff(at[order], prepend=-1))
    lengths = np.diff(starts, append=len(at))
    turn = np.empty(len(at), np.int64)
    turn[order] = np.arange(len(at)) - np.repeat(starts, lengths)
    if last:
        yield kept[np.sort(order[starts + lengths - 1])]
        return
    for number in range(int(turn.max(initial=-1)) + 1):
        yield kept[turn == number]

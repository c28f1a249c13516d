"""Operators that read or write at places given by data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import movement, places
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import (
    require,
    require_axis,
    require_integer,
    require_operands,
)
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import OutOfBoundsError
from emuron.numerics.dtypes import bfloat16, float32, int32


def host_indices(ev: EvalContext, index: Array, size: int, name: str) -> np.ndarray:
    """Return stored indices as int64; raise OutOfBoundsError if one is outside 0..size - 1."""
    found: np.ndarray = np.asarray(ev.backend.numpy(index)).astype(np.int64)
    if found.size and not (found.min() >= 0 and found.max() < size):
        wrong = found.min() if found.min() < 0 else found.max()
        raise OutOfBoundsError(f"{name}: index {wrong} is outside 0..{size - 1}")
    return found


@op("take")
@dataclass(frozen=True, slots=True)
class Take(Op):
    """Slices of x along `axis` at the places in index, whose dimensions take the axis' place.

    The embedding lookup is `take(table, ids)` with axis 0. An index outside raises.
    """

    axis: int = 0
    moves_storage: ClassVar[bool] = True

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Gather rows by DMA."""
        places.take(k, inputs[0], inputs[1], self.axis, outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's shape with dimension `axis` replaced by index's dimensions."""
        require_operands(types, "x", "index")
        x, index = types
        require_axis(self.axis, x.rank)
        require_integer(index, "index")
        return (x.with_shape(*x.shape[: self.axis], *index.shape, *x.shape[self.axis + 1 :]),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the gathered slices."""
        x, index = arrays
        found = host_indices(ev, index, x.shape[self.axis], "take")
        flat = ev.backend.take(x, ev.backend.asarray(found.reshape(-1)), self.axis)
        shape = (*x.shape[: self.axis], *found.shape, *x.shape[self.axis + 1 :])
        return (ev.backend.reshape(flat, shape),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return an embedding and a gather along the last dimension."""
        table, ids = TensorType((11, 6), bfloat16), TensorType((2, 5), int32)
        row = TensorType((4,), int32)
        return (
            Example(cls(0), (table, ids), ((-2, 2), (0, 10))),
            Example(cls(1), (table, row), ((-2, 2), (0, 5))),
        )


@op("gather_along")
@dataclass(frozen=True, slots=True)
class GatherAlong(Op):
    """y[..., i, ...] = x[..., index[..., i, ...], ...] along `axis`; other dimensions agree.

    An index outside raises.
    """

    axis: int
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return index's shape in x's dtype."""
        require_operands(types, "x", "index")
        x, index = types
        require_axis(self.axis, x.rank)
        require_integer(index, "index")
        rest = [s for i, s in enumerate(index.shape) if i != self.axis]
        require(
            index.rank == x.rank and rest == [s for i, s in enumerate(x.shape) if i != self.axis],
            f"index ({index}) must match x ({x}) but for dimension {self.axis}",
        )
        return (x.with_shape(*index.shape),)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Gather element by element."""
        places.gather_along(k, inputs[0], inputs[1], self.axis, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the gathered elements, by one flat gather."""
        x, index = arrays
        found = host_indices(ev, index, x.shape[self.axis], "gather_along")
        at: list[np.ndarray] = list(np.indices(found.shape, sparse=True))
        at[self.axis] = found
        flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*at)), tuple(x.shape))
        column = ev.backend.reshape(x, (-1,))
        picked = ev.backend.take(column, ev.backend.asarray(flat.reshape(-1)), 0)
        return (ev.backend.reshape(picked, found.shape),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a gather along each axis of a matrix."""
        x = TensorType((4, 6), float32)
        return (
            Example(cls(1), (x, TensorType((4, 3), int32)), ((-2, 2), (0, 5))),
            Example(cls(0), (x, TensorType((2, 6), int32)), ((-2, 2), (0, 3))),
        )


@op("scatter")
@dataclass(frozen=True, slots=True)
class Scatter(Op):
    """y = x with slice `index[i]` along `axis` replaced by slice i of update; the last write wins.

    With `batched`, index is [B, n] and row b of it serves x[b] (the write to a KV cache).
    An index outside raises.
    """

    axis: int
    batched: bool = False
    moves_storage: ClassVar[bool] = True

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write the slices in place; `outputs[0]` holds x's memory, or a copy of it."""
        x, update, index = inputs
        movement.replace_slices(k, x, update, index, self.axis, self.batched, outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        require_operands(types, "x", "update", "index")
        x, update, index = types
        require_axis(self.axis, x.rank)
        require_integer(index, "index")
        require(not (self.batched and self.axis == 0), "a batched scatter cannot write axis 0")
        count = update.shape[self.axis] if update.rank == x.rank else -1
        shape = list(x.shape)
        shape[self.axis] = count
        require(
            update == x.with_shape(*shape) if count >= 0 else False,
            f"update ({update}) must match x ({x}) but for dimension {self.axis}",
        )
        expected = (x.shape[0], count) if self.batched else (count,)
        require(index.shape == expected, f"index must have shape {list(expected)}, found {index}")
        return (x,)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return x, or a copy of it, with the slices replaced; runs of places at once."""
        x, update, index = arrays
        found = host_indices(ev, index, x.shape[self.axis], "scatter")
        out = ev.writable(x, 0)
        if not self.batched:
            _write(out, update, found, self.axis)
            return (out,)
        for row, at in enumerate(found):
            _write(out[row], update[row], at, self.axis - 1)
        return (out,)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a plain scatter and a batched write to a KV cache."""
        x, cache = TensorType((7, 4), float32), TensorType((2, 3, 8, 4), bfloat16)
        return (
            Example(
                cls(0),
                (x, TensorType((3, 4), float32), TensorType((3,), int32)),
                ((-2, 2), (-2, 2), (0, 6)),
            ),
            Example(
                cls(2, batched=True),
                (cache, TensorType((2, 3, 2, 4), bfloat16), TensorType((2, 2), int32)),
                ((-2, 2), (-2, 2), (0, 7)),
            ),
        )


def _write(out: Array, update: Array, at: np.ndarray, axis: int) -> None:
    before = (slice(None),) * axis
    count = len(at)
    if count and bool((np.diff(at) == 1).all()):
        first = int(at[0])
        out[(*before, slice(first, first + count))] = update
        return
    for i, place in enumerate(at):
        out[(*before, int(place))] = update[(*before, i)]

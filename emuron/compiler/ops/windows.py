"""Operators that take or surround a window of a tensor: pad, reverse, dynamic slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import parts as kernel
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import (
    require,
    require_axis,
    require_integer,
    require_operands,
)
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bfloat16, float32, int32

PAD_MODES = ("constant", "reflect", "edge", "wrap")


@op("pad")
@dataclass(frozen=True, slots=True)
class Pad(Op):
    """y = x with `low` and `high` elements more on the sides of each dimension; negative ones crop.

    `interior` elements come between neighbours of x (as in dilation). `mode` says what is new:
    constant (`value`), reflect (mirrored without the edge), edge (the edge again) or wrap (from the
    other side); the last three take no interior.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]
    interior: tuple[int, ...] = ()
    mode: str = "constant"
    value: float = 0.0
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the padded shape, which must not be negative."""
        require_operands(types, "x")
        x = types[0]
        require(
            len(self.low) == len(self.high) == x.rank and len(self.interior) in (0, x.rank),
            f"low, high and interior must have {x.rank} entries each",
        )
        require(self.mode in PAD_MODES, f"mode must be one of {', '.join(PAD_MODES)}")
        between = any(self.gaps(x.rank))
        require(
            min(self.gaps(x.rank), default=0) >= 0 and not (between and self.mode != "constant"),
            f"interior must not be negative, and 0 in mode {self.mode}; found {self.interior}",
        )
        shape = [
            low + n + max(0, n - 1) * gap + high
            for n, low, high, gap in zip(
                x.shape, self.low, self.high, self.gaps(x.rank), strict=True
            )
        ]
        require(min(shape, default=0) >= 0, f"crops more than {x} has: {shape}")
        empty = self.mode != "constant" and 0 in x.shape
        require(not empty, f"{x} has nothing to pad with in mode {self.mode}")
        return (x.with_shape(*shape),)

    def gaps(self, rank: int) -> tuple[int, ...]:
        """Return the interior padding of each dimension."""
        return self.interior or (0,) * rank

    def sources(self, dim: int, size: int) -> np.ndarray:
        """Return, of a mode that repeats x, which element each one of y is along a dimension."""
        low, high = self.low[dim], self.high[dim]
        grown = np.arange(size)
        before, after = max(low, 0), max(high, 0)
        if before or after:
            mode = "symmetric" if size == 1 and self.mode == "reflect" else self.mode
            grown = np.pad(grown, (before, after), mode=mode)  # type: ignore[call-overload]
        return grown[max(-low, 0) : len(grown) - max(-high, 0)]

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Fill and copy, or copy run by run."""
        x, out = inputs[0], outputs[0]
        if self.mode != "constant":
            sources = [self.sources(dim, size) for dim, size in enumerate(x.shape)]
            kernel.repeat(k, x, sources, out)
            return
        kept = [self.kept(dim, size, out.shape[dim]) for dim, size in enumerate(x.shape)]
        steps = [gap + 1 for gap in self.gaps(len(x.shape))]
        number = self.value if out.dtype.is_float else int(self.value)
        kernel.pad(k, x, kept, steps, number, out)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return x written into a filled array, or gathered along each dimension."""
        b, x = ev.backend, arrays[0]
        if self.mode != "constant":
            for dim, size in enumerate(tuple(x.shape)):
                if self.low[dim] or self.high[dim]:
                    x = b.take(x, b.asarray(self.sources(dim, size)), dim)
            return (x,)
        (y,) = self.infer(*ev.types)
        value = self.value if y.dtype.is_float else int(self.value)
        out = b.full(y.shape, value, y.dtype)
        kept = [self.kept(dim, size, y.shape[dim]) for dim, size in enumerate(x.shape)]
        if all(count for _, _, count in kept):
            steps = [gap + 1 for gap in self.gaps(len(y.shape))]
            target = tuple(
                slice(at, at + (count - 1) * step + 1, step)
                for (_, at, count), step in zip(kept, steps, strict=True)
            )
            out[target] = x[tuple(slice(first, first + count) for first, _, count in kept)]
        return (out,)

    def kept(self, dim: int, size: int, padded: int) -> tuple[int, int, int]:
        """Return (first element kept, its place in y, number kept) along a dimension."""
        step, low = self.gaps(len(self.low))[dim] + 1, self.low[dim]
        first = -(low // step) if low < 0 else 0
        last = min(size - 1, (padded - 1 - low) // step)
        return first, low + first * step, max(0, last - first + 1)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both signs, interior padding, and every mode."""
        x = TensorType((4, 6), float32)
        return (
            Example(cls((1, 2), (0, 3)), (x,)),
            Example(cls((-1, 2), (2, -3), value=7.5), (x.with_dtype(bfloat16),)),
            Example(cls((1, -3), (-1, 2), (1, 2), value=-1.0), (x,)),
            Example(cls((0, 1), (1, 0), value=3), (x.with_dtype(int32),), ((-9, 9),)),
            *(Example(cls((2, -1), (1, 4), mode=mode), (x,)) for mode in PAD_MODES[1:]),
        )


@op("reverse")
@dataclass(frozen=True, slots=True)
class Reverse(Op):
    """y = x with the elements along `axes` in the opposite order."""

    axes: tuple[int, ...]
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        require_operands(types, "x")
        for axis in self.axes:
            require_axis(axis, types[0].rank, "axes")
        require(len(set(self.axes)) == len(self.axes), f"axes repeat: {list(self.axes)}")
        return (types[0],)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Copy with negative strides."""
        kernel.reverse(k, inputs[0], self.axes, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return x taken backwards along each axis."""
        x = arrays[0]
        for axis in self.axes:
            x = backwards(ev, x, axis)
        return (x,)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return the last, the first and two dimensions."""
        x = TensorType((3, 4, 5), float32)
        return (
            Example(cls((2,)), (x,)),
            Example(cls((0,)), (x.with_dtype(bfloat16),)),
            Example(cls((0, 1)), (x,)),
        )


def backwards(ev: EvalContext, x: Array, axis: int) -> Array:
    """Return x in the opposite order along a dimension."""
    order = np.arange(x.shape[axis])[::-1].copy()
    return ev.backend.take(x, ev.backend.asarray(order), axis)


def _require_countable(op: Op, shape: tuple[int, ...]) -> None:
    if not shape or not kernel.fits_counting(shape):
        raise UnsupportedOpError(f"{op.name} has a kernel for up to 2**24 elements, not {shape}")


def _starts(ev: EvalContext, start: Array, room: Sequence[int]) -> list[int]:
    """Return starts clamped so that the window lies inside."""
    given = [int(i) for i in ev.backend.numpy(start)]
    return [min(max(at, 0), most) for at, most in zip(given, room, strict=True)]


@op("dynamic_slice")
@dataclass(frozen=True, slots=True)
class DynamicSlice(Op):
    """y = the window of x of `sizes` at `start`, an integer vector with an entry a dimension.

    Starts are clamped so that the window lies inside x.
    """

    sizes: tuple[int, ...]
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the window's type."""
        require_operands(types, "x", "start")
        x, start = types
        require_integer(start, "start")
        require(start.shape == (x.rank,), f"start must have {x.rank} entries, found {start}")
        fits = len(self.sizes) == x.rank and all(
            0 <= n <= s for n, s in zip(self.sizes, x.shape, strict=True)
        )
        require(fits, f"a window of {list(self.sizes)} does not fit into {x}")
        return (x.with_shape(*self.sizes),)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Copy from an address that is worked out at run time."""
        _require_countable(self, inputs[0].shape)
        kernel.dynamic_slice(k, inputs[0], inputs[1], outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the window."""
        x, start = arrays
        room = [s - n for s, n in zip(x.shape, self.sizes, strict=True)]
        begin = _starts(ev, start, room)
        return (x[tuple(slice(a, a + n) for a, n in zip(begin, self.sizes, strict=True))],)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a window inside and one that is clamped."""
        types = TensorType((6, 7), float32), TensorType((2,), int32)
        return (
            Example(cls((2, 3)), types, ((-2, 2), (0, 4))),
            Example(cls((4, 1)), types, ((-2, 2), (5, 9))),
        )


@op("dynamic_update_slice")
@dataclass(frozen=True, slots=True)
class DynamicUpdateSlice(Op):
    """y = x with update written at `start`, an integer vector with an entry a dimension.

    Starts are clamped so that the window lies inside x.
    """

    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        require_operands(types, "x", "update", "start")
        x, update, start = types
        require_integer(start, "start")
        require(start.shape == (x.rank,), f"start must have {x.rank} entries, found {start}")
        fits = update.rank == x.rank and all(
            u <= s for u, s in zip(update.shape, x.shape, strict=True)
        )
        require(fits and update.dtype == x.dtype, f"update ({update}) does not fit into x ({x})")
        return (x,)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Copy x, then update to an address that is worked out at run time."""
        _require_countable(self, inputs[0].shape)
        x, update, start = inputs
        kernel.dynamic_update_slice(k, x, update, start, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return x, or a copy of it, with the window replaced."""
        x, update, start = arrays
        room = [s - n for s, n in zip(x.shape, update.shape, strict=True)]
        begin = _starts(ev, start, room)
        out = ev.writable(x, 0)
        out[tuple(slice(a, a + n) for a, n in zip(begin, update.shape, strict=True))] = update
        return (out,)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a window inside a matrix and one that is clamped."""
        types = TensorType((6, 7), float32), TensorType((2, 3), float32), TensorType((2,), int32)
        return (
            Example(cls(), types, ((-2, 2), (-2, 2), (0, 4))),
            Example(cls(), types, ((-2, 2), (-2, 2), (-3, -1))),
        )

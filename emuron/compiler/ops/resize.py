"""Resampling of the last dimensions: nearest, linear and cubic, as sums of few taps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import resample
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.resample import Taps
from emuron.compiler.ops.arguments import require, require_float, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bfloat16, float32

_MODES = ("nearest", "linear", "cubic")
_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
)
_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda x: ceil(x - 0.5),
    "round_prefer_ceil": lambda x: floor(x + 0.5),
    "floor": floor,
    "ceil": ceil,
}


@op("resize")
@dataclass(frozen=True, slots=True)
class Resize(Op):
    """y samples x at other places of its last dimensions, `sizes` of them; modes as ONNX's Resize.

    `scales` are outputs by inputs, sizes[d] / x.shape[d] if left out. `coordinates` says which
    place of x an output stands for, `rounding` which element `nearest` takes; `cubic` is the
    coefficient a of cubic convolution. With `antialias` the filter grows as x shrinks;
    `exclude_outside` drops taps outside x, else they read the edge.

    float32: the last dimension first; in each, weight·element products rounded one by one and
    added in the order of their places; weights are rounded to float32; one rounding at the end.
    """

    sizes: tuple[int, ...]
    mode: str
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    scales: tuple[float, ...] = ()
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type with `sizes` as its last dimensions."""
        require_operands(types, "x")
        x, count = types[0], len(self.sizes)
        require(self.mode in _MODES, f"unknown mode {self.mode!r}; take one of {_MODES}")
        require(
            self.coordinates in _COORDINATES,
            f"unknown coordinates {self.coordinates!r}; take one of {_COORDINATES}",
        )
        require(
            self.rounding in _ROUNDINGS,
            f"unknown rounding {self.rounding!r}; take one of {tuple(_ROUNDINGS)}",
        )
        if self.mode != "nearest":
            require_float(x, "x")
        require(1 <= count <= x.rank, f"{count} sizes are too many for x ({x})")
        sources = x.shape[x.rank - count :]
        require(min(*sources, *self.sizes) >= 1, f"sizes must be 1 or more, {list(self.sizes)}")
        require(
            len(self.scales) in (0, count) and all(s > 0 for s in self.scales),
            f"scales must be {count} numbers above 0, found {list(self.scales)}",
        )
        return (x.with_shape(*x.shape[:-count], *self.sizes),)

    def taps(self, x: tuple[int, ...]) -> tuple[Taps, ...]:
        """Return the taps of each of the last dimensions of x's shape."""
        sources = x[len(x) - len(self.sizes) :]
        scales = self.scales or [o / i for o, i in zip(self.sizes, sources, strict=True)]
        given = zip(sources, self.sizes, scales, strict=True)
        return tuple(self._taps(*one) for one in given)

    def _taps(self, size: int, outputs: int, scale: float) -> Taps:
        rows = [
            self._row(size, self._place(o, size, outputs, scale), scale) for o in range(outputs)
        ]
        longest = max(len(row) for row in rows)
        places = np.zeros((outputs, longest), np.int64)
        weights = np.zeros((outputs, longest), np.float32)
        for output, row in enumerate(rows):
            places[output] = [*(p for p, _ in row), *[row[-1][0]] * (longest - len(row))]
            weights[output, : len(row)] = [w for _, w in row]
        return Taps(size, places, weights)

    def _place(self, output: int, size: int, outputs: int, scale: float) -> float:
        """Return the coordinate in x that an output stands for."""
        exact = outputs == size * scale
        over = size / outputs if exact else 1 / scale
        if self.coordinates == "align_corners":
            last = (outputs if exact else size * scale) - 1
            return output * (size - 1) / last if outputs > 1 else 0.0
        if self.coordinates == "asymmetric":
            return output * size / outputs if exact else output / scale
        if self.coordinates == "pytorch_half_pixel" and outputs == 1:
            return 0.0
        place = (output + 0.5) * over - 0.5
        if self.coordinates == "half_pixel_symmetric":
            place += size / 2 * (1 - outputs / (scale * size))
        return place

    def _row(self, size: int, place: float, scale: float) -> list[tuple[int, float]]:
        """Return (place in x, weight) of the taps of one output."""
        if self.mode == "nearest":
            return [(min(max(_ROUNDINGS[self.rounding](place), 0), size - 1), 1.0)]
        shrink = min(scale, 1.0) if self.antialias else 1.0
        reach = (1 if self.mode == "linear" else 2) / shrink
        found = [
            (j, self._filter(abs(j - place) * shrink))
            for j in range(ceil(place - reach), floor(place + reach) + 1)
        ]
        row = [(j, w) for j, w in found if w != 0]
        if self.exclude_outside:
            row = [(j, w) for j, w in row if 0 <= j < size]
        total = sum(w for _, w in row) if self.antialias or self.exclude_outside else 1.0
        return [(min(max(j, 0), size - 1), w / total) for j, w in row]

    def _filter(self, x: float) -> float:
        if self.mode == "linear":
            return max(0.0, 1 - x)
        a = self.cubic
        if x < 1:
            return ((a + 2) * x - (a + 3)) * x * x + 1
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Sum strided runs of taps, channels on partitions."""
        x, count = inputs[0], len(self.sizes)
        if count > 3 or len(x.shape) != count + 2:
            raise UnsupportedOpError(
                f"resize has a kernel over 1 to 3 dimensions of [N, C, *spatial] only, found "
                f"{count} of {len(x.shape)}"
            )
        resample.resample(k, x, self.taps(x.shape), outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the sums of taps, dimension by dimension."""
        x = arrays[0]
        shape = tuple(x.shape)
        for dim, taps in reversed(list(enumerate(self.taps(shape)))):
            if not taps.changes_nothing:
                x = _sampled(ev, x, len(shape) - len(self.sizes) + dim, taps)
        return (x,)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return every mode, growing and shrinking, on one and two dimensions."""
        x, narrow = TensorType((2, 3, 4, 5), float32), TensorType((1, 4, 6, 6), bfloat16)
        return (
            Example(cls((8, 10), "nearest", "asymmetric", "floor"), (x,)),
            Example(cls((7, 3), "nearest", "half_pixel"), (x,)),
            Example(cls((8, 10), "linear"), (x,)),
            Example(cls((9, 4), "linear", "align_corners"), (narrow,)),
            Example(cls((12,), "linear", "pytorch_half_pixel"), (narrow.with_shape(2, 4, 6),)),
            Example(cls((6, 2, 5), "linear"), (TensorType((1, 3, 3, 4, 5), float32),)),
            Example(cls((8, 8), "cubic", "half_pixel"), (x,)),
            Example(cls((1, 3), "nearest", "asymmetric", "floor"), (x,)),
            Example(cls((3, 2), "linear", antialias=True, exclude_outside=True), (x,)),
            Example(cls((3, 7), "cubic", "asymmetric", exclude_outside=True), (narrow,)),
        )


def _sampled(ev: EvalContext, x: Array, axis: int, taps: Taps) -> Array:
    """Return the outputs of one dimension."""
    b = ev.backend
    total = None
    along = (-1, *(1 for _ in x.shape[axis + 1 :]))
    for tap in range(taps.places.shape[1]):
        part = b.take(x, b.asarray(taps.places[:, tap]), axis)
        if not taps.copies:
            part = b.multiply(part, b.reshape(b.asarray(taps.weights[:, tap].copy()), along))
        total = part if total is None else b.add(total, part)
    return total

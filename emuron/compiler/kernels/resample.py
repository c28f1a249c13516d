"""Images resampled by sums of taps: runs of outputs that share a stride and a weight at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from emuron.compiler.kernels import movement
from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.images import (
    Band,
    Image,
    band_image,
    landing,
    own_image,
    store,
    strided,
)
from emuron.compiler.kernels.windows import PARTITIONS
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float32

_BAND_BYTES = 24 * 1024  # a partition's share of SBUF for a band of images
_MOST_STEPS = 8  # between outputs of one run


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Output o of one dimension is Σ over t of weights[o, t]·x[places[o, t]], t in order."""

    size: int  # of x
    places: np.ndarray
    weights: np.ndarray

    @property
    def copies(self) -> bool:
        """Whether outputs are inputs as they are."""
        return self.places.shape[1] == 1 and bool((self.weights == 1).all())

    @property
    def changes_nothing(self) -> bool:
        """Whether the outputs are all inputs in order."""
        return self.copies and np.array_equal(self.places[:, 0], np.arange(self.size))

    def span(self, first: int, count: int) -> tuple[int, int]:
        """Return (first, count) of the inputs that some outputs read."""
        read = self.places[first : first + count]
        low, high = int(read.min()), int(read.max())
        return low, high - low + 1

    def runs(self, first: int, count: int) -> list[list[Run]]:
        """Return, tap by tap, the runs of outputs first … first + count − 1, counted from first."""
        return [
            _runs(self.places[first : first + count, tap], self.weights[first : first + count, tap])
            for tap in range(self.places.shape[1])
        ]


@dataclass(frozen=True, slots=True)
class Run:
    """Outputs first, first + step … (`count`) that read places start, start + stride …, weighed."""

    first: int
    step: int
    count: int
    start: int
    stride: int
    weight: float


def identity(size: int) -> Taps:
    """Return the taps of a dimension that stays as it is."""
    return Taps(size, np.arange(size)[:, None], np.ones((size, 1), np.float32))


def _runs(places: np.ndarray, weights: np.ndarray) -> list[Run]:
    """Return the fewest runs that cover the outputs, over steps up to a few."""
    steps = range(1, min(_MOST_STEPS, len(places)) + 1)
    return min((list(_runs_of(places, weights, step)) for step in steps), key=len)


def _runs_of(places: np.ndarray, weights: np.ndarray, step: int) -> Iterator[Run]:
    for phase in range(step):
        at, by = places[phase::step], weights[phase::step]
        begin = 0
        while begin < len(at):
            end = begin + 1
            stride = int(at[end] - at[begin]) if end < len(at) else 1
            while end < len(at) and by[end] == by[begin] and at[end] - at[end - 1] == stride > 0:
                end += 1
            count = end - begin
            yield Run(
                phase + begin * step, step, count, int(at[begin]), max(1, stride), float(by[begin])
            )
            begin = end


def resample(k: KernelContext, x: Placed, taps: tuple[Taps, ...], out: Placed) -> None:
    """Write x [N, C, *spatial] resampled along its last dimensions, the last one first."""
    home = landing(k, out)
    missing = (identity(1),) * (3 - len(taps))
    depth, rows, columns = (*missing, *taps)
    _Resampling(k, x, depth, rows, columns, home).run()
    if home is not out:
        movement.move(k, home, out)


@dataclass(eq=False)
class _Resampling:
    k: KernelContext
    x: Placed
    depth: Taps
    rows: Taps
    columns: Taps
    out: Placed

    def run(self) -> None:
        """Write the outputs in bands of rows."""
        outputs = len(self.rows.places)
        height = min(outputs, self._height())
        depths = range(len(self.depth.places))
        for image, at, first in product(range(self.x.shape[0]), depths, range(0, outputs, height)):
            self._band(Band((image, 1), at, (first, min(height, outputs - first))))

    def _height(self) -> int:
        """Return how many rows of outputs a band has."""
        inputs, outputs = self.x.shape[-2] if len(self.x.shape) > 3 else 1, len(self.rows.places)
        row_bytes = 4 * max(self.x.shape[-1], len(self.columns.places))
        return max(1, _BAND_BYTES // (row_bytes * max(1, -(-inputs // outputs))))

    @property
    def _between(self) -> DType:
        """The dtype between the dimensions: the stored one where elements are only copied."""
        copies = all(t.copies for t in (self.depth, self.rows, self.columns))
        return self.x.dtype if copies else float32

    def _band(self, band: Band) -> None:
        met = self.rows.span(*band.rows)
        planes = sorted({int(p) for p in self.depth.places[band.depth]})
        images = {
            at: band_image(self.k, self.x, self.x.dtype, Band(band.images, at, met))
            for at in planes
        }
        for first in range(0, self.x.shape[1], PARTITIONS):
            channels = (first, min(PARTITIONS, self.x.shape[1] - first))
            self._block(band, channels, images, met)

    def _block(
        self,
        band: Band,
        channels: tuple[int, int],
        images: dict[int, Image],
        met: tuple[int, int],
    ) -> None:
        """Write one block of channels of a band: columns, then rows, then depths."""
        width = len(self.columns.places)
        planes: dict[int, NkiTensor] = {}
        for at, image in images.items():
            whole = (0, 1, self.x.shape[-1])
            source = image.part(channels, band.images, at, (met[0], 1, met[1]), whole)
            wide = self._along(source, self.columns, (0, width), 0, 3)
            planes[at] = self._along(wide, self.rows, band.rows, met[0], 2)
        total = self._over_depths(planes, band.depth)
        image, local = self._target(band, channels)
        at_channels = (0, channels[1]) if local else channels
        steps = ((band.rows[0], 1, band.rows[1]), (0, 1, width))
        target = image.part(at_channels, band.images, band.depth, *steps)
        nisa.tensor_copy(target, total, engine="vector")
        if local:
            store(self.k, image, self.out, band, channels)

    def _over_depths(self, planes: dict[int, NkiTensor], depth: int) -> NkiTensor:
        if self.depth.copies:
            return planes[int(self.depth.places[depth, 0])]
        total: NkiTensor | None = None
        for place, weight in zip(self.depth.places[depth], self.depth.weights[depth], strict=True):
            plane = planes[int(place)]
            made = self.k.sbuf(plane.shape, float32, "resampled")
            if total is None:
                nisa.tensor_scalar(made, plane, "multiply", float(weight))
            else:
                nisa.scalar_tensor_tensor(made, plane, "multiply", float(weight), "add", total)
            total = made
        assert total is not None
        return total

    def _target(self, band: Band, channels: tuple[int, int]) -> tuple[Image, bool]:
        """Return the image to write, and whether it has to be stored."""
        own = own_image(self.out)
        if own is not None:
            return own, False
        width = len(self.columns.places)
        shape = (channels[1], 1, band.rows[1] * width)
        tile = self.k.sbuf(shape, self.out.dtype, "band")
        split = tile.reshape((channels[1], 1, 1, 1, band.rows[1], width))
        return Image(split, channels[1], (band.depth, band.rows[0]), local=True), True

    def _along(
        self, source: NkiTensor, taps: Taps, span: tuple[int, int], origin: int, dim: int
    ) -> NkiTensor:
        """Return outputs `span` of one dimension; the source begins at `origin` of it."""
        if taps.changes_nothing:
            return source
        shape = list(source.shape)
        shape[dim] = span[1]
        made = self.k.sbuf(tuple(shape), self._between, "resampled")
        for number, runs in enumerate(taps.runs(*span)):
            for run in runs:
                written = strided(made, dim, run.first, run.step, run.count)
                read = strided(source, dim, run.start - origin, run.stride, run.count)
                if taps.copies:
                    nisa.tensor_copy(written, read, engine="vector")
                elif number == 0:
                    nisa.tensor_scalar(written, read, "multiply", run.weight)
                else:
                    nisa.scalar_tensor_tensor(written, read, "multiply", run.weight, "add", written)
        return made

"""Windows of images reduced on the Vector engine, one dimension after another."""

from __future__ import annotations

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
from emuron.compiler.kernels.view import LogicalView
from emuron.compiler.kernels.windows import PARTITIONS, Reach, Window
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float32

_BAND_BYTES = 24 * 1024  # a partition's share of SBUF for a band of images
_ALU = {"max": "maximum", "min": "minimum", "sum": "add", "avg": "add"}
_MOST_BEFORE = 1  # additions commute, so that the second position of a sum may come first


@dataclass(frozen=True, slots=True, eq=False)
class Pooling:
    """What a window does: its kind and, for an average, the reciprocals of its counts."""

    kind: str
    reciprocals: np.ndarray

    @property
    def exact(self) -> bool:
        """Whether rounding the elements first gives the rounded result."""
        return self.kind in ("max", "min")

    @property
    def neutral(self) -> float:
        """What changes nothing."""
        return {"max": -np.inf, "min": np.inf}.get(self.kind, 0.0)


def pool(
    k: KernelContext, x: Placed, windows: tuple[Window, ...], pooling: Pooling, out: Placed
) -> None:
    """Write the reduction of the windows over the last dimensions of x [N, C, *spatial]."""
    one = (Window(1, 1),) * (3 - len(windows))
    depth, rows, columns = (*one, *windows)
    home = landing(k, out)
    _Pool(k, x, (depth, rows, columns), pooling, home).run()
    if home is not out:
        movement.move(k, home, out)


@dataclass(eq=False)
class _Pool:
    k: KernelContext
    x: Placed
    windows: tuple[Window, Window, Window]
    pooling: Pooling
    out: Placed

    def run(self) -> None:
        """Write the outputs in bands of rows, block of channels by block."""
        depth, rows, _ = self.windows
        height = min(rows.outputs, self._height())
        bands = product(
            range(self.x.shape[0]), range(depth.outputs), range(0, rows.outputs, height)
        )
        for image, at, first in bands:
            band = Band((image, 1), at, (first, min(height, rows.outputs - first)))
            self._band(band)

    def _height(self) -> int:
        """Return how many rows of outputs have their inputs in a band."""
        _, rows, columns = self.windows
        wide = max(columns.size, columns.outputs) * 4
        if own_image(self.x) is not None:
            wide = columns.outputs * 4
        blocks = -(-self.x.shape[1] // PARTITIONS)
        fitting = _BAND_BYTES // (wide * blocks) - rows.dilation * (rows.length - 1)
        return max(1, fitting // rows.stride)

    def _band(self, band: Band) -> None:
        depth, rows, _ = self.windows
        reaches = (_within(depth, p, (band.depth, 1)) for p in range(depth.length))
        planes = [reach.start for reach in reaches if reach is not None]
        first, count = _rows_met(rows, band.rows)
        images = {
            at: band_image(self.k, self.x, self.x.dtype, Band(band.images, at, (first, count)))
            for at in planes
        }
        for block in range(-(-self.x.shape[1] // PARTITIONS)):
            begin = block * PARTITIONS
            channels = (begin, min(PARTITIONS, self.x.shape[1] - begin))
            self._block(band, channels, images, (first, count))

    def _block(
        self,
        band: Band,
        channels: tuple[int, int],
        images: dict[int, Image],
        met: tuple[int, int],
    ) -> None:
        """Write one block of channels: columns, then rows, then depths."""
        _, rows, columns = self.windows
        target, local = self._target(band, channels)
        dtype = self.out.dtype if self.pooling.exact else float32
        at_once = len(images) == 1 and self.pooling.kind != "avg" and dtype == self.out.dtype
        whole = (met[0], 1, met[1])
        planes = []
        for at, image in images.items():
            source = image.part(channels, band.images, at, whole, (0, 1, columns.size))
            narrow = self._tile(channels[1], met[1], columns.outputs, dtype)
            self._along(narrow, source, columns, (0, columns.outputs), 0, 3)
            plane = target
            if not at_once:
                plane = self._tile(channels[1], band.rows[1], columns.outputs, dtype)
            self._along(plane, narrow, rows, band.rows, met[0], 2)
            planes.append(plane)
        if not at_once:
            total = planes[0] if planes else self._empty(target.shape, dtype)
            for plane in planes[1:]:
                nisa.tensor_tensor(total, total, plane, _ALU[self.pooling.kind])
            self._finish(target, total, band)
        if local is not None:
            store(self.k, local, self.out, band, channels)

    def _tile(self, channels: int, height: int, width: int, dtype: DType) -> NkiTensor:
        return self.k.sbuf((channels, 1, height, width), dtype, "pooled")

    def _empty(self, shape: tuple[int, ...], dtype: DType) -> NkiTensor:
        made = self.k.sbuf(shape, dtype, "pooled")
        nisa.memset(made, self.pooling.neutral)
        return made

    def _target(self, band: Band, channels: tuple[int, int]) -> tuple[NkiTensor, Image | None]:
        """Return where a block is written, and the image to store if it is not out's own."""
        width = self.windows[2].outputs
        steps = ((band.rows[0], 1, band.rows[1]), (0, 1, width))
        own = own_image(self.out)
        if own is not None:
            return own.part(channels, band.images, band.depth, *steps), None
        tile = self._tile(channels[1], band.rows[1], width, self.out.dtype)
        shape = (channels[1], 1, 1, 1, band.rows[1], width)
        image = Image(tile.reshape(shape), channels[1], (band.depth, band.rows[0]), local=True)
        return image.part((0, channels[1]), band.images, band.depth, *steps), image

    def _along(
        self,
        target: NkiTensor,
        source: NkiTensor,
        window: Window,
        span: tuple[int, int],
        origin: int,
        dim: int,
    ) -> None:
        """Reduce the windows of outputs `span` of one dimension; the source begins at `origin`."""
        alu = _ALU[self.pooling.kind]
        parts = [(p, _within(window, p, span)) for p in range(window.length)]
        met = [(p, reach) for p, reach in parts if reach is not None]
        whole = [p for p, reach in met if reach.count == span[1]]

        def part(reach: Reach) -> NkiTensor:
            begin = reach.start - origin
            return strided(source, dim, begin, reach.stride, reach.count)

        reaches = dict(met)
        if self.pooling.exact and len(whole) > 1:
            first, second = whole[:2]
            nisa.tensor_tensor(target, part(reaches[first]), part(reaches[second]), alu)
            begun = {first, second}
        elif whole and (self.pooling.exact or whole[0] <= _MOST_BEFORE):
            nisa.tensor_copy(target, part(reaches[whole[0]]), engine="vector")
            begun = {whole[0]}
        else:
            nisa.memset(target, self.pooling.neutral)
            begun = set()
        for position, reach in met:
            if position not in begun:
                written = strided(target, dim, reach.first, reach.step, reach.count)
                nisa.tensor_tensor(written, written, part(reach), alu)

    def _finish(self, target: NkiTensor, total: NkiTensor, band: Band) -> None:
        """Write the totals, for an average by the reciprocals of the counts."""
        if self.pooling.kind != "avg":
            nisa.tensor_copy(target, total, engine="vector")
            return
        shares = self.pooling.reciprocals
        if (shares == shares.flat[0]).all():
            nisa.tensor_scalar(target, total, "multiply", float(shares.flat[0]))
            return
        depth, rows, columns = self.windows
        volume = shares.reshape(depth.outputs, rows.outputs, columns.outputs)
        plane = volume[band.depth, band.rows[0] : band.rows[0] + band.rows[1]]
        line = self.k.constant(plane.reshape(1, -1), float32, "shares")
        line = line.seen_as(LogicalView.dense((1, plane.size)))
        spread = self.k.spread(line, target.shape[0], (0, plane.size))
        nisa.tensor_tensor(target, total, spread.reshape(total.shape), "multiply")


def _within(window: Window, position: int, span: tuple[int, int]) -> Reach | None:
    reach = window.reach(position)
    return None if reach is None else reach.within(*span)


def _rows_met(window: Window, span: tuple[int, int]) -> tuple[int, int]:
    """Return (first, count) of the rows from the first that outputs meet to the last."""
    parts = [r for p in range(window.length) if (r := _within(window, p, span)) is not None]
    if not parts:
        return 0, 1
    first = min(r.start for r in parts)
    last = max(r.start + (r.count - 1) * r.stride for r in parts)
    return first, last - first + 1

"""Convolutions as products on the Tensor engine, without copies of the windows.

Channels lie on partitions. For a block of output channels and a tile of pixels each pass multiplies
the weights of one kernel position by the elements that this position of every window meets: a
shifted, strided view of the image. Passes add up in PSUM; those at the border write only the pixels
that they meet. Convolutions of few channels put several positions on partitions first, so that a
pass fills the array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from emuron.compiler.kernels import movement
from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.conv_patches import Patch, build_patch
from emuron.compiler.kernels.conv_weights import ConvPacking, Step
from emuron.compiler.kernels.images import (
    Band,
    Image,
    Span,
    band_image,
    channel_columns,
    landing,
    own_image,
    store,
    whole_bytes,
    whole_image,
)
from emuron.compiler.kernels.linear import Epilogue
from emuron.compiler.kernels.windows import PARTITIONS, Position, Reach, Window
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32

_WEIGHT_BYTES = 64 * 1024  # a partition's share of SBUF for the weights of some output blocks
_WHOLE_BYTES = 40 * 1024  # and for an image that is kept whole
_BAND_BYTES = 24 * 1024  # and for a band of one that is not
_MANY_IMAGES = 4  # from which they become a recorded loop


def conv(
    k: KernelContext,
    x: Placed,
    weight: Placed,
    packing: ConvPacking,
    out: Placed,
    epilogue: Epilogue,
) -> None:
    """Write epilogue(convolution of x with the packed weight) to out; see the operator `conv`."""
    home = landing(k, out)
    _Convolution(k, x, weight, packing, home, epilogue).run()
    if home is not out:
        movement.move(k, home, out)


@dataclass(eq=False)
class _Convolution:
    k: KernelContext
    x: Placed
    weight: Placed
    packing: ConvPacking
    out: Placed
    epilogue: Epilogue

    def run(self) -> None:
        """Write all bands for as many blocks of outputs as have their weights in SBUF at once."""
        packing = self.packing
        given = self.epilogue.bias
        bias = None if given is None else channel_columns(self.k, given, packing.columns)
        _, _, steps, columns = packing.shape
        step = max(1, _WEIGHT_BYTES // (steps * columns * packing.itemsize))
        for first in range(0, packing.blocks, step):
            blocks = range(first, min(packing.blocks, first + step))
            weights = {block: self._weight(block) for block in blocks}
            for band in self._bands():
                source = _Source(self, band)
                added = self._added(band)
                for block, tile in weights.items():
                    column = None if bias is None else bias[: self._outputs(block)[1], block]
                    self._block(band, source, block, tile, column, added)

    @cached_property
    def windows(self) -> tuple[Window, Window, Window]:
        """Windows of depth, rows and columns."""
        given = self.packing.windows
        one = (Window(1, 1),) * (3 - len(given))
        depth, rows, columns = (*one, *given)
        return depth, rows, columns

    @cached_property
    def reaches(self) -> tuple[list[Reach | None], ...]:
        """What each position of each window meets."""
        return tuple([w.reach(p) for p in range(w.length)] for w in self.windows)

    def _outputs(self, block: int) -> tuple[int, int]:
        """Return (first, count) of the output channels of a block."""
        first = block * self.packing.columns
        return first, min(self.packing.columns, self.packing.outputs - first)

    def _weight(self, block: int) -> NkiTensor:
        tile = self.k.sbuf(self.packing.shape[1:], self.weight.dtype, "weight")
        nisa.dma_copy(tile, self.weight.storage[block])
        return tile

    # What is done at once

    @cached_property
    def whole(self) -> Image | None:
        """All of x as the product reads it, if it is there or may be kept whole."""
        dtype = self.weight.dtype
        there = self.x.dtype == dtype and own_image(self.x) is not None
        if there or whole_bytes(self.x, dtype) <= _WHOLE_BYTES:
            return whole_image(self.k, self.x, dtype)
        return None

    def _bands(self) -> Iterator[Band]:
        """Yield the bands of output pixels: some images, one depth, some rows."""
        depth, rows, columns = self.windows
        batch = self.x.shape[0]
        pixels = depth.outputs * rows.outputs * columns.outputs
        together = min(batch, max(1, self.k.core.moving_max // pixels))
        height = self._height(together)
        full, rest = divmod(batch, together)
        _ = self.whole  # made before the loop
        loop = self.k.loop(full, name="image") if full >= _MANY_IMAGES else range(full)
        spans: list[Span] = [(full * together, rest)] if rest else []
        for number in loop:
            yield from self._bands_of((number * together, together), height)
        for span in spans:
            yield from self._bands_of(span, height)

    def _bands_of(self, images: Span, height: int) -> Iterator[Band]:
        depth, rows, _ = self.windows
        for at, first in product(range(depth.outputs), range(0, rows.outputs, height)):
            yield Band(images, at, (first, min(height, rows.outputs - first)))

    def _height(self, images: int) -> int:
        """Return how many rows of outputs a band has."""
        _, rows, columns = self.windows
        blocks = -(-self.packing.channels // PARTITIONS)
        in_bytes = images * blocks * columns.size * self.weight.dtype.itemsize
        by_input = rows.outputs
        folded = any(len(s.positions) > 1 for s in self.packing.of_block(0))
        if self.whole is None or folded:
            fitting = _BAND_BYTES // in_bytes - rows.dilation * (rows.length - 1)
            by_input = max(1, fitting * rows.spread // rows.stride)
        by_output = rows.outputs
        if own_image(self.out) is None:
            by_output = _BAND_BYTES // (images * columns.outputs * self.out.dtype.itemsize)
        tile = max(1, self.k.core.moving_max // (images * columns.outputs))
        least = max(1, min(by_input, by_output))
        return min(rows.outputs, max(tile, least // tile * tile))

    def _tiles(self, band: Band) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield (rows, columns) ranges of outputs whose sums fit a bank of PSUM."""
        width, most = self.windows[2].outputs, self.k.core.moving_max
        wide = min(width, most)
        height = max(1, most // (band.images[1] * wide))
        first, count = band.rows
        for row in range(first, first + count, height):
            for column in range(0, width, wide):
                yield (
                    (row, min(height, first + count - row)),
                    (column, min(wide, width - column)),
                )

    # Sums

    def _block(
        self,
        band: Band,
        source: _Source,
        block: int,
        weight: NkiTensor,
        bias: NkiTensor | None,
        added: Image | None,
    ) -> None:
        """Write a band of one block of output channels."""
        channels = self._outputs(block)
        target = self._target(band, channels[1])
        at = channels if not target.local else (0, channels[1])
        for rows, columns in self._tiles(band):
            sums = self.k.psum((channels[1], band.images[1] * rows[1] * columns[1]), float32)
            shape = (channels[1], band.images[1], rows[1], columns[1])
            grid = sums.reshape(shape)
            self._sum(grid, source, block, weight, band, rows, columns)
            steps = ((rows[0], 1, rows[1]), (columns[0], 1, columns[1]))
            other = None
            if added is not None:
                other = added.part(channels, band.images, band.depth, *steps)
            written = target.part(at, band.images, band.depth, *steps)
            self._evict(written, grid, bias, other)
        if target.local:
            store(self.k, target, self.out, band, channels)

    def _sum(
        self,
        grid: NkiTensor,
        source: _Source,
        block: int,
        weight: NkiTensor,
        band: Band,
        rows: tuple[int, int],
        columns: tuple[int, int],
    ) -> None:
        """Add up the passes of a tile in PSUM, in order."""
        count = grid.shape[0]
        begun = False
        for number, step in enumerate(self.packing.of_block(block)):
            met = source.meets(step, band, rows, columns)
            if met is None:
                continue
            moving, at = met
            stationary = weight[: step.rows, number, :count]
            if not begun and moving.size * count != grid.size * step.rows:
                self._clear(grid, stationary)
                begun = True
            nisa.nc_matmul(grid[at], stationary, moving, accumulate=begun)
            begun = True
        if not begun:
            self._clear(grid, weight[:1, 0, :count])

    def _clear(self, grid: NkiTensor, stationary: NkiTensor) -> None:
        """Write zeros, as the product with a row of zeros."""
        size = grid.size // grid.shape[0]
        zeros = self.k.filled(0.0, self.k.core.moving_max, 1, stationary.dtype)
        nisa.nc_matmul(
            grid.reshape((grid.shape[0], size)), stationary[:1], zeros[:, :size], accumulate=False
        )

    # What leaves

    def _target(self, band: Band, count: int) -> Image:
        """Return where a band of `count` channels is written: out's own bytes or a new tile."""
        own = own_image(self.out)
        if own is not None:
            return own
        width = self.windows[2].outputs
        shape = (count, 1, band.images[1] * band.rows[1] * width)
        tile = self.k.sbuf(shape, self.out.dtype, "band")
        split = tile.reshape((count, 1, band.images[1], 1, band.rows[1], width))
        return Image(split, count, (band.depth, band.rows[0]), local=True)

    def _added(self, band: Band) -> Image | None:
        """Return the band of the value that is added."""
        added = self.epilogue.added
        return None if added is None else band_image(self.k, added, added.dtype, band)

    def _evict(
        self, target: NkiTensor, sums: NkiTensor, bias: NkiTensor | None, added: NkiTensor | None
    ) -> None:
        """Take sums out of PSUM: plus the bias, plus another value, through a function."""
        function = self.epilogue.activation
        if added is None:
            nisa.activation(target, function or "copy", sums, bias=bias)
            return
        between = target
        if function is not None:
            between = self.k.sbuf(target.shape, float32, "sum")
        if bias is None:
            nisa.tensor_tensor(between, sums, added, "add")
        else:
            nisa.scalar_tensor_tensor(between, sums, "add", bias, "add", added)
        if function is not None:
            nisa.activation(target, function, between)


@dataclass(eq=False)
class _Source:
    """What the passes of a band read: views of an image, or patches of several positions."""

    work: _Convolution
    band: Band

    def __post_init__(self) -> None:
        self._images: dict[int, Image | None] = {}
        self._patches: list[Patch] = []

    def meets(
        self, step: Step, band: Band, rows: tuple[int, int], columns: tuple[int, int]
    ) -> tuple[NkiTensor, tuple[slice, ...]] | None:
        """Return what a step of the outputs reads and the part of the outputs that it adds to."""
        everything = (slice(None),) * 4
        if len(step.positions) > 1:
            patch = self._patch(step)
            base = step.positions[0]
            return patch.part(step.rows, base, band.images, rows, columns), everything
        reach = self._reach(step.positions[0], rows, columns)
        if reach is None:
            return None
        depth, across, along = reach
        image = self._image(depth)
        first, count = image.block(step.block)
        moving = image.part(
            (first, count),
            band.images,
            depth,
            (across.start, across.stride, across.count),
            (along.start, along.stride, along.count),
        )
        return moving, (slice(None), slice(None), across.outputs, along.outputs)

    def _reach(
        self, position: Position, rows: tuple[int, int], columns: tuple[int, int]
    ) -> tuple[int, Reach, Reach] | None:
        """Return the depth, rows and columns that a position of the outputs meets."""
        spans = ((self.band.depth, 1), rows, columns)
        place = (*(0,) * (3 - len(position)), *position)
        found = []
        for reaches, at, span in zip(self.work.reaches, place, spans, strict=True):
            reach = reaches[at]
            part = None if reach is None else reach.within(*span)
            if part is None:
                return None
            found.append(part)
        return found[0].start, found[1], found[2]

    def _image(self, depth: int) -> Image:
        """Return the image, or the rows of it that the band needs."""
        work = self.work
        if work.whole is not None:
            return work.whole
        made = self._images.get(depth)
        if made is None:
            rows = self._rows()
            band = Band(self.band.images, depth, rows)
            made = self._images[depth] = band_image(work.k, work.x, work.weight.dtype, band)
        return made

    def _rows(self) -> tuple[int, int]:
        """Return (first, count) of the rows from the first that the outputs meet to the last."""
        window = self.work.windows[1]
        if window.spread == 1:
            begin = self.band.rows[0] * window.stride - window.low
            span = (self.band.rows[1] - 1) * window.stride + window.dilation * (window.length - 1)
            first, end = max(0, begin), min(window.size, begin + span + 1)
            return (first, end - first) if first < end else (0, 1)
        reaches = self.work.reaches[1]
        parts = [r.within(*self.band.rows) for r in reaches if r is not None]
        met = [p for p in parts if p is not None]
        first = min((p.start for p in met), default=0)
        last = max((p.start + (p.count - 1) * p.stride for p in met), default=0)
        return first, last - first + 1

    def _patch(self, step: Step) -> Patch:
        for patch in self._patches:
            if patch.serves(step.positions):
                return patch
        work = self.work
        image = self._image(self.band.depth)
        made = build_patch(work.k, image, step.positions, work.windows[1:], self.band)
        self._patches.append(made)
        return made

"""Values [N, C, *spatial] with their channels on partitions, as convolutions read and write them.

The base of such a value is the matrix [C, N·spatial] in the rows layout (or in HBM): channel c
lies on partition c % 128 of block c // 128, image after image, row after row. It is but another
view of a base, so that every kernel can read it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.view import LogicalView, Run, take
from emuron.compiler.kernels.windows import PARTITIONS
from emuron.isa.affine import Index
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float32

Span = tuple[Index, int]
"""(first, count)."""
Steps = tuple[int, int, int]
"""(first, stride, count)."""


@dataclass(frozen=True, slots=True)
class Band:
    """Images, one depth and a range of rows of a value."""

    images: Span
    depth: int
    rows: tuple[int, int]


def channel_view(shape: tuple[int, ...]) -> LogicalView:
    """Return the view of [N, C, *spatial] over the base [C, N·spatial]."""
    batch, channels, *spatial = shape
    base = LogicalView.dense((channels, batch, *spatial))
    return base.permute((1, 0, *range(2, len(shape))))


def by_channel(value: Placed) -> bool:
    """Tell whether a value is the whole of a base [C, N·spatial]."""
    if len(value.shape) < 3 or value.rows != value.shape[1] or value.view.offset != 0:
        return False
    own, wanted = value.view.dims, channel_view(value.shape).dims
    return prod(value.shape) == value.rows * value.columns and _runs(own) == _runs(wanted)


def _runs(dims: tuple[tuple[Run, ...], ...]) -> list[list[Run]]:
    return [[run for run in dim if run[0] != 1] for dim in dims]


def channel_rows(value: Placed) -> Placed:
    """Return [N, C, *spatial] seen as the matrix [C, N·spatial]."""
    rest = (0, *range(2, len(value.shape)))
    dims = tuple(run for a in rest for run in value.view.dims[a] if run[0] != 1)
    columns = dims or ((1, 1),)
    return value.seen_as(LogicalView((value.view.dims[1], columns), value.view.offset))


def as_volume(value: Placed) -> Placed:
    """Return [N, C, *spatial] seen as [N, C, D, H, W]."""
    dims = value.view.dims
    extra = (((1, 0),),) * (5 - len(dims))
    return value.seen_as(LogicalView((*dims[:2], *extra, *dims[2:]), value.view.offset))


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Part of a value in SBUF: `tile` is [partitions, blocks, N, D, H, W].

    It begins with a depth and a row of the value (`origin`), and with the first image of the band
    that it was made for if it is `local`, else with the value's.
    """

    tile: NkiTensor
    channels: int
    origin: tuple[int, int] = (0, 0)
    local: bool = False

    def block(self, number: int) -> tuple[int, int]:
        """Return (first, count) of the channels of a block of partitions."""
        first = number * PARTITIONS
        return first, min(PARTITIONS, self.channels - first)

    def part(
        self, channels: tuple[int, int], images: Span, depth: int, rows: Steps, columns: Steps
    ) -> NkiTensor:
        """Return [channels, images, rows, columns] of channels (first, count) of one block."""
        block, partition = divmod(channels[0], PARTITIONS)
        strides = self.tile.strides
        begin = 0 if self.local else images[0]
        offset = begin * strides[2] + (
            self.tile.offset
            + partition * strides[0]
            + block * strides[1]
            + (depth - self.origin[0]) * strides[3]
            + (rows[0] - self.origin[1]) * strides[4]
            + columns[0] * strides[5]
        )
        return NkiTensor(
            self.tile.tensor,
            (channels[1], images[1], rows[2], columns[2]),
            (strides[0], strides[2], rows[1] * strides[4], columns[1] * strides[5]),
            offset,
            self.tile.dtype,
        )


def landing(k: KernelContext, out: Placed) -> Placed:
    """Return where to write a value by channels: itself, or HBM if it lies otherwise on chip."""
    if not out.on_chip or by_channel(out):
        return out
    return k.hbm(out.shape, out.dtype, f"{out.storage.name}.hbm", "temporary")


def channel_columns(k: KernelContext, value: Placed, width: int = PARTITIONS) -> NkiTensor:
    """Return a vector of channels in float32 as [width, blocks, 1]: channel c at c % width."""
    home = k.spill(value)
    channels, stride = home.view.dims[0][0]
    tile = k.sbuf((min(width, channels), -(-channels // width), 1), float32, "columns")
    begin = home.storage.offset + home.view.offset
    for first in range(0, channels, width):
        count = min(width, channels - first)
        shape, strides = (count, 1), (stride, 1)
        offset = begin + first * stride
        source = NkiTensor(home.storage.tensor, shape, strides, offset, home.dtype)
        nisa.dma_copy(tile[:count, first // width], source)
    return tile


def own_image(value: Placed) -> Image | None:
    """Return a value's own bytes if its channels lie on partitions, else None."""
    if not (value.on_chip and by_channel(value)):
        return None
    return Image(_split(value.storage, as_volume(value).shape), value.shape[1])


def _split(tile: NkiTensor, shape: tuple[int, ...]) -> NkiTensor:
    """Return [partitions, blocks, N·D·H·W] seen as [partitions, blocks, N, D, H, W]."""
    return tile.reshape((*tile.shape[:2], shape[0], *shape[2:]))


def new_image(k: KernelContext, channels: int, sizes: tuple[int, ...], dtype: DType) -> Image:
    """Return a tile of images [N, D, H, W] with all channels."""
    blocks = -(-channels // PARTITIONS)
    shape = (min(PARTITIONS, channels), blocks, prod(sizes))
    tile = k.sbuf(shape, dtype, "image").reshape((*shape[:2], *sizes))
    return Image(tile, channels)


def whole_bytes(value: Placed, dtype: DType) -> int:
    """Return the bytes in each partition of a whole value with channels on partitions."""
    batch, channels, *spatial = value.shape
    return batch * prod(spatial) * -(-channels // PARTITIONS) * dtype.itemsize


def whole_image(k: KernelContext, value: Placed, dtype: DType) -> Image:
    """Return all of a value in `dtype`; what had to be moved for it is kept for the next kernel."""
    own = own_image(value) if value.dtype == dtype else None
    if own is not None:
        return own
    shape = as_volume(value).shape
    channels = shape[1]
    pixels = _pixels(k, value)
    if pixels is not None:
        turned = k.transposed(pixels, (0, pixels.shape[0]), dtype)
        return Image(_split(turned, shape), channels)
    key = ("image", value.storage.tensor, str(value.view), dtype)

    def make() -> NkiTensor:
        made = new_image(k, channels, (shape[0], *shape[2:]), dtype)
        for depth in range(shape[2]):
            fill(k, made, value, Band((0, shape[0]), depth, (0, shape[3])))
        return made.tile

    return Image(k.kept(key, make), channels)


def _pixels(k: KernelContext, value: Placed) -> Placed | None:
    """Return a value as rows of channels if they lie so, as linear layers write them, else None."""
    channel, last = value.view.dims[1], value.view.dims[-1]
    if value.shape[1] == 1 or channel[-1][1] != 1 or last[-1][1] == 1:
        return None
    view = value.view.permute((0, *range(2, len(value.shape)), 1))
    rows = view.reshape((prod(value.shape) // value.shape[1], value.shape[1]))
    return None if rows is None else k.reachable(value.seen_as(rows), value.shape[1])


def band_image(k: KernelContext, value: Placed, dtype: DType, band: Band) -> Image:
    """Return a band of a value in `dtype`."""
    own = own_image(value) if value.dtype == dtype else None
    if own is not None:
        return own
    count, width = band.rows[1], value.shape[-1]
    pixels = _pixels(k, value) if band.images[1] == 1 else None
    if pixels is not None:
        _, channels, depths, height, _ = as_volume(value).shape
        first = ((band.images[0] * depths + band.depth) * height + band.rows[0]) * width
        turned = k.transposed(pixels, (first, count * width), dtype)
        tile = _split(turned, (1, channels, 1, count, width))
        return Image(tile, channels, (band.depth, band.rows[0]), local=True)
    made = new_image(k, value.shape[1], (band.images[1], 1, count, width), dtype)
    made = replace(made, origin=(band.depth, band.rows[0]), local=True)
    fill(k, made, value, band)
    return made


def fill(k: KernelContext, image: Image, value: Placed, band: Band) -> None:
    """Write a band of a value into an image that holds it, rounded to the image's dtype."""
    own = own_image(value)
    home = None if own is not None else as_volume(k.spill(value))
    rows, columns = (band.rows[0], 1, band.rows[1]), (0, 1, value.shape[-1])
    for block in range(-(-value.shape[1] // PARTITIONS)):
        channels = image.block(block)
        target = image.part(channels, band.images, band.depth, rows, columns)
        if own is not None:
            source = own.part(channels, band.images, band.depth, rows, columns)
            nisa.tensor_copy(target, source, engine="vector")
            continue
        assert home is not None
        for number in range(band.images[1]) if _cut(home, band) else (None,):
            images = band.images if number is None else (band.images[0] + number, 1)
            one = target if number is None else target[:, number : number + 1]
            region = home_pattern(home, images, channels, band.depth, band.rows, (0, columns[2]))
            nisa.dma_copy(one, region)


def store(
    k: KernelContext, image: Image, out: Placed, band: Band, channels: tuple[int, int]
) -> None:
    """Write a band's channels (first, count), which are all of an image's, to a value in HBM."""
    home = as_volume(out)
    rows, columns = (band.rows[0], 1, band.rows[1]), (0, 1, out.shape[-1])
    source = image.part((0, channels[1]), band.images, band.depth, rows, columns)
    for number in range(band.images[1]) if _cut(home, band) else (None,):
        images = band.images if number is None else (band.images[0] + number, 1)
        one = source if number is None else source[:, number : number + 1]
        region = home_pattern(home, images, channels, band.depth, band.rows, (0, columns[2]))
        nisa.dma_copy(region, one)


def _cut(home: Placed, band: Band) -> bool:
    """Tell whether a band's images must be moved one by one: they are no single pattern."""
    return take(home.view.dims[0], *band.images) is None


def home_pattern(
    home: Placed, images: Span, channels: Span, depth: int, rows: Span, columns: Span
) -> NkiTensor:
    """Return [channels, images, rows, columns] of a volume [N, C, D, H, W] in HBM."""
    offset = home.view.offset + home.storage.offset
    runs: list[Run] = []
    spans = (channels, images, (depth, 1), rows, columns)
    for dim, (start, count) in zip((1, 0, 2, 3, 4), spans, strict=True):
        found = take(home.view.dims[dim], start, count)
        assert found is not None, (home.view, dim, start, count)
        offset = offset + found[0]
        runs += [run for run in found[1] if run[0] != 1] or ([(1, 1)] if dim == 1 else [])
    return NkiTensor(
        home.storage.tensor,
        tuple(n for n, _ in runs),
        tuple(stride for _, stride in runs),
        offset,
        home.storage.dtype,
    )


def strided(tile: NkiTensor, dim: int, start: int, stride: int, count: int) -> NkiTensor:
    """Return `count` elements of one dimension of a tile, `stride` apart."""
    shape, strides = list(tile.shape), list(tile.strides)
    shape[dim], strides[dim] = count, strides[dim] * stride
    offset = tile.offset + start * tile.strides[dim]
    return NkiTensor(tile.tensor, tuple(shape), tuple(strides), offset, tile.dtype)

"""Several positions of a kernel side by side on partitions, for convolutions of few channels."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.kernels.context import KernelContext, nisa
from emuron.compiler.kernels.images import Band, Image, Span
from emuron.compiler.kernels.windows import Position, Window
from emuron.nki.tensor import NkiTensor

Shift = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A padded image as each of several positions sees it: `tile` is [positions·C, N, rows, width].

    Element (r, j) of position p holds what the padded image has `shifts[p]` further than the
    position that the first one stands for: it serves every run of positions with these shifts.
    """

    tile: NkiTensor
    shifts: tuple[Shift, ...]
    windows: tuple[Window, Window]
    first_row: int

    def serves(self, positions: tuple[Position, ...]) -> bool:
        """Tell whether a run of positions begins with the same shifts."""
        return shifts_of(positions) == self.shifts[: len(positions)]

    def part(
        self,
        count: int,
        base: Position,
        images: Span,
        rows: tuple[int, int],
        columns: tuple[int, int],
    ) -> NkiTensor:
        """Return [count, images, rows, columns] that outputs read for a run that begins at base."""
        tall, wide = self.windows
        above, before = _last_two(base)
        _, per_image, per_row, per_column = self.tile.strides
        row = rows[0] * tall.stride + above * tall.dilation - self.first_row
        column = columns[0] * wide.stride + before * wide.dilation
        return NkiTensor(
            self.tile.tensor,
            (count, images[1], rows[1], columns[1]),
            (self.tile.strides[0], per_image, tall.stride * per_row, wide.stride * per_column),
            self.tile.offset + row * per_row + column * per_column,
            self.tile.dtype,
        )


def _last_two(position: Position) -> Shift:
    return (position[-2] if len(position) > 1 else 0), position[-1]


def shifts_of(positions: tuple[Position, ...]) -> tuple[Shift, ...]:
    """Return how far each position lies from the first one."""
    row, column = _last_two(positions[0])
    pairs = map(_last_two, positions)
    return tuple((r - row, c - column) for r, c in pairs)


def build_patch(
    k: KernelContext,
    image: Image,
    positions: tuple[Position, ...],
    windows: tuple[Window, Window],
    band: Band,
) -> Patch:
    """Return the patch for a band of outputs, large enough for every run of the kernel."""
    tall, wide = windows
    channels, images = image.channels, band.images
    first = band.rows[0] * tall.stride
    shifts = shifts_of(positions)
    height = (band.rows[1] - 1) * tall.stride + (tall.length - 1) * tall.dilation + 1
    width = (wide.outputs - 1) * wide.stride + (wide.length - 1) * wide.dilation + 1
    shape = (len(shifts) * channels, images[1], height, width)
    tile = k.sbuf(shape, image.tile.dtype, "patch")
    across = [_kept(tall, first, row * tall.dilation, height) for row, _ in shifts]
    along = [_kept(wide, 0, column * wide.dilation, width) for _, column in shifts]
    _clear_rest(tile, across, along)
    for number, (rows, columns) in enumerate(zip(across, along, strict=True)):
        if rows[1] < 1 or columns[1] < 1:
            continue
        at = slice(number * channels, (number + 1) * channels)
        part = tile[at, :, rows[0] : rows[0] + rows[1], columns[0] : columns[0] + columns[1]]
        steps = ((rows[2], 1, rows[1]), (columns[2], 1, columns[1]))
        nisa.dma_copy(part, image.part((0, channels), images, band.depth, *steps))
    return Patch(tile, shifts, windows, first)


def _kept(window: Window, first: int, shift: int, count: int) -> tuple[int, int, int]:
    """Return (first, count, source) of the places that hold elements, `shift` further than here.

    `count` padded places from `first` on are those that windows reach; the last of a shifted view
    lie beyond them.
    """
    begin = max(first + shift, window.low)
    end = min(first + count, window.low + window.size)
    return begin - first - shift, end - begin, begin - window.low


def _clear_rest(
    tile: NkiTensor, across: list[tuple[int, int, int]], along: list[tuple[int, int, int]]
) -> None:
    """Write zeros where not every position will have an element."""
    _, _, height, width = tile.shape
    top, bottom = max(r[0] for r in across), min(r[0] + r[1] for r in across)
    left, right = max(c[0] for c in along), min(c[0] + c[1] for c in along)
    if top >= bottom or left >= right:
        nisa.memset(tile, 0.0)
        return
    for rows, columns in (
        (slice(0, top), slice(0, width)),
        (slice(bottom, height), slice(0, width)),
        (slice(top, bottom), slice(0, left)),
        (slice(top, bottom), slice(right, width)),
    ):
        if rows.start < rows.stop and columns.start < columns.stop:
            nisa.memset(tile[:, :, rows, columns], 0.0)

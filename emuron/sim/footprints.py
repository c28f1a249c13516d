"""Which bytes an operand touches, as cells: the elementary rectangles of its tensor.

A tensor is seen as rows × bytes (on chip rows are partitions, in HBM the last dimension is a row).
The borders of all accesses of a program cut it into cells, so that each access covers whole cells.
An operand that skips bytes counts as touching its hull.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import product
from math import prod

from emuron.isa.tensor import AccessPattern, Tensor

# With more borders than this a tensor is one row (column) of cells: accesses then conflict more
# often than they must, which is safe.
_MOST_BORDERS = 4096

Rectangle = tuple[int, int, int, int]  # rows from, to; bytes from, to


@dataclass(frozen=True, slots=True)
class Footprint:
    """The hull of an access pattern without its offset, in bytes, on rows of `pitch` bytes."""

    pitch: int
    low: int  # bytes before the offset (negative strides)
    rows: int  # rows beyond the first
    width: int  # bytes touched in each row
    whole: bool  # the access may go anywhere in the tensor
    all_rows: int

    def at(self, offset: int) -> Rectangle:
        """Return the rectangle touched with the pattern at a byte offset."""
        if self.whole:
            return 0, self.all_rows, 0, self.pitch
        start = offset - self.low
        row, column = divmod(start, self.pitch)
        if column + self.width <= self.pitch:
            return row, row + self.rows + 1, column, column + self.width
        last = start + self.rows * self.pitch + self.width - 1
        return row, last // self.pitch + 1, 0, self.pitch


def pitch_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor's rows."""
    if tensor.buffer.is_on_chip:
        return max(1, tensor.partition_bytes)
    return max(1, (tensor.shape[-1] if tensor.shape else 1) * tensor.dtype.itemsize)


def footprint(pattern: AccessPattern, tensor: Tensor) -> Footprint:
    """Return the footprint of an access pattern on a tensor of its layout."""
    size, pitch = pattern.dtype.itemsize, pitch_of(tensor)
    all_rows = max(1, -(-tensor.nbytes // pitch))
    if pattern.indirection is not None or prod(pattern.shape) == 0:
        return Footprint(pitch, 0, 0, pitch, True, all_rows)
    low, rows, width = 0, 0, size
    for count, stride in zip(pattern.shape, pattern.strides, strict=True):
        span = (count - 1) * abs(stride) * size
        if stride < 0:
            low += span
        if stride * size % pitch == 0:
            rows += span // pitch
        else:
            width += span
    return Footprint(pitch, low, rows, width, False, all_rows)


class Cells:
    """The cells of one tensor, numbered from `first`."""

    def __init__(self, first: int, rectangles: set[Rectangle]) -> None:
        self.first = first
        self._rows = _borders(rectangles, 0)
        self._columns = _borders(rectangles, 2)
        self._across = len(self._columns) - 1
        self._found: dict[Rectangle, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return (len(self._rows) - 1) * self._across

    def of(self, rectangle: Rectangle) -> tuple[int, ...]:
        """Return the numbers of the cells in a rectangle."""
        found = self._found.get(rectangle)
        if found is None:
            rows = _between(self._rows, rectangle[0], rectangle[1])
            columns = _between(self._columns, rectangle[2], rectangle[3])
            found = tuple(self.first + r * self._across + c for r, c in product(rows, columns))
            self._found[rectangle] = found
        return found


def _borders(rectangles: set[Rectangle], axis: int) -> list[int]:
    borders = sorted({border for r in rectangles for border in (r[axis], r[axis + 1])})
    return borders if len(borders) <= _MOST_BORDERS else [borders[0], borders[-1]]


def _between(borders: list[int], low: int, high: int) -> range:
    if len(borders) == 2:
        return range(1)
    return range(bisect_left(borders, low), bisect_left(borders, high))

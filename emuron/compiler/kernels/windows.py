"""Windows that slide over dimensions: sizes, and which elements each position of one meets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import gcd

PARTITIONS = 128
"""Rows of the Tensor engine: the most that one pass contracts."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Outputs first, first + step … (`count` of them) meet inputs start, start + stride …"""

    first: int
    step: int
    count: int
    start: int
    stride: int

    @property
    def outputs(self) -> slice:
        """The outputs as a slice."""
        return slice(self.first, self.first + self.step * (self.count - 1) + 1, self.step)

    @property
    def inputs(self) -> slice:
        """The inputs as a slice."""
        return slice(self.start, self.start + self.stride * (self.count - 1) + 1, self.stride)

    def within(self, first: int, count: int) -> Reach | None:
        """Return the part that lies in `count` outputs from `first`, counted from there."""
        low = max(0, -((self.first - first) // self.step))
        high = min(self.count - 1, (first + count - 1 - self.first) // self.step)
        if high < low:
            return None
        output = self.first + low * self.step - first
        start = self.start + low * self.stride
        return Reach(output, self.step, high - low + 1, start, self.stride)


@dataclass(frozen=True, slots=True)
class Window:
    """A window of `length` along one dimension of `size` elements.

    Position p of output o meets element (o·stride + p·dilation − low) / spread of the input where
    that is a whole number within it, else padding. `spread` > 1 puts spread − 1 zeros between the
    elements (a transposed convolution); negative padding crops. With `ceil`, a last window that
    begins within the input or its low padding counts though it reaches beyond the high padding.
    """

    size: int
    length: int
    stride: int = 1
    low: int = 0
    high: int = 0
    dilation: int = 1
    spread: int = 1
    ceil: bool = False

    @property
    def spread_size(self) -> int:
        """Elements with the zeros between them."""
        return (self.size - 1) * self.spread + 1 if self.size else 0

    @property
    def outputs(self) -> int:
        """Number of outputs; 0 if the window does not fit."""
        room = self.spread_size + self.low + self.high - self.dilation * (self.length - 1) - 1
        if room < 0:
            return 0
        count = room // self.stride + 1
        begins_within = count * self.stride < self.spread_size + self.low
        return count + 1 if self.ceil and room % self.stride and begins_within else count

    def reach(self, position: int) -> Reach | None:
        """Return the outputs whose `position` meets an element, or None if there is none."""
        shift = position * self.dilation - self.low
        common = gcd(self.stride, self.spread)
        step = self.spread // common
        place = next((o for o in range(step) if (o * self.stride + shift) % self.spread == 0), None)
        if place is None:
            return None
        first = place + max(0, -((place * self.stride + shift) // (step * self.stride))) * step
        last = min(self.outputs - 1, (self.spread_size - 1 - shift) // self.stride)
        if last < first:
            return None
        start = (first * self.stride + shift) // self.spread
        return Reach(first, step, (last - first) // step + 1, start, self.stride // common)

    def counted(self, output: int) -> int:
        """Return how many positions of an output's window lie within the input and its padding."""
        begin = output * self.stride
        end = self.spread_size + self.low + self.high
        return sum(begin + p * self.dilation < end for p in range(self.length))

    def met(self, output: int) -> int:
        """Return how many positions of an output's window meet an element."""
        first = output * self.stride - self.low
        return sum(0 <= first + p * self.dilation < self.size for p in range(self.length))


Position = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one pass of the Tensor engine contracts: channels start … stop at some positions."""

    positions: tuple[Position, ...]
    start: int
    stop: int


def ordered_positions(windows: tuple[Window, ...]) -> list[Position]:
    """Return the positions in row-major order, but first the first one that every output meets.

    A kernel may then let that one write all sums and the others add to those that they meet.
    """
    positions = list(product(*(range(w.length) for w in windows)))
    whole = next((p for p in positions if meets_all(windows, p)), positions[0])
    return [whole, *(p for p in positions if p != whole)]


def meets_all(windows: tuple[Window, ...], position: Position) -> bool:
    """Tell whether a position of every output meets an element."""
    reaches = [w.reach(i) for w, i in zip(windows, position, strict=True)]
    return all(
        r is not None and r.count == w.outputs for r, w in zip(reaches, windows, strict=True)
    )


def folds(channels: int, groups: int, windows: tuple[Window, ...]) -> bool:
    """Tell whether a convolution of one or two dimensions takes several positions in a chunk."""
    flat = all(w == Window(w.size, 1) for w in windows[:-2])
    spread = any(w.spread > 1 for w in windows)
    return groups == 1 and 2 * channels <= PARTITIONS and flat and not spread


def contraction_chunks(
    channels: int, groups: int, group: int, windows: tuple[Window, ...]
) -> tuple[Chunk, ...]:
    """Return the chunks of a group's outputs in the order in which they are added.

    Channels are those of the whole input: a chunk takes one position (`ordered_positions`) and the
    group's share of a block of 128 channels, block after block. Where it
    `folds` a chunk takes several positions in row-major order, channels within each: as many of
    one kernel row as fit 128, or as many whole rows.
    """
    if folds(channels, groups, windows):
        return tuple(Chunk(run, 0, channels) for run in _runs(channels, windows))
    size = channels // groups
    begin, end = group * size, (group + 1) * size
    cuts = [begin, *range(begin // PARTITIONS * PARTITIONS + PARTITIONS, end, PARTITIONS), end]
    return tuple(Chunk((p,), a, b) for p in ordered_positions(windows) for a, b in pairwise(cuts))


def _runs(channels: int, windows: tuple[Window, ...]) -> Iterator[tuple[Position, ...]]:
    """Yield the positions of each chunk of few channels, in even parts."""
    positions = list(product(*(range(w.length) for w in windows)))
    row = windows[-1].length
    most = PARTITIONS // channels
    unit = row if most >= row else 1
    whole = len(positions) if unit == row else row
    parts = -(-whole // (most // unit * unit))
    size = -(-whole // unit // parts) * unit
    for start in range(0, len(positions), whole):
        for first in range(start, start + whole, size):
            yield tuple(positions[first : min(first + size, start + whole)])


def windows_of(
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    spread: tuple[int, ...] = (),
    ceil: bool = False,
) -> tuple[Window, ...]:
    """Return the window of every dimension."""
    spread = spread or (1,) * len(kernel)
    given = zip(spatial, kernel, stride, padding, dilation, spread, strict=True)
    return tuple(Window(n, k, s, low, high, d, sp, ceil) for n, k, s, (low, high), d, sp in given)

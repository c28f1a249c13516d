"""Windows that slide over dimensions: sizes, and which elements each position of one meets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
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


def channel_block(channels: int) -> int:
    """Return the size of the fewest equal blocks of at most 128 channels."""
    return -(-channels // -(-channels // PARTITIONS))


def contraction_chunks(channels: int, kernel: tuple[int, ...], groups: int) -> tuple[Chunk, ...]:
    """Return the chunks of a convolution in the order in which they are added.

    `channels` are those of one group. Positions of the kernel come in row-major order and, within
    one, equal blocks of at most 128 channels. If there is but one group, of few channels, a chunk
    takes several positions: as many of one kernel row as fit 128, or as many whole rows.
    """
    positions = list(product(*(range(n) for n in kernel)))
    if groups > 1 or 2 * channels > PARTITIONS:
        block = channel_block(channels)
        starts = range(0, channels, block)
        return tuple(Chunk((p,), s, min(channels, s + block)) for p in positions for s in starts)
    most = max(1, PARTITIONS // channels)
    row = kernel[-1]
    limit, size = (row, most) if most < row else (len(positions), most // row * row)
    runs = []
    for start in range(0, len(positions), limit):
        parts = -(-limit // size)
        even = -(-limit // parts)
        even = even if limit == row else -(-even // row) * row
        runs += [
            positions[i : min(i + even, start + limit)] for i in range(start, start + limit, even)
        ]
    return tuple(Chunk(tuple(run), 0, channels) for run in runs)


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

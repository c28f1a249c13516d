"""How the weight of a convolution lies in HBM: one matrix for each pass of the Tensor engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from emuron.compiler.kernels.windows import (
    PARTITIONS,
    Position,
    Window,
    contraction_chunks,
    folds,
    ordered_positions,
)

_MOST_BYTES = 48 * 1024  # a partition's share of SBUF for the matrices of one block of outputs
_LEAST_COLUMNS = 32  # partitions come in quarters


@dataclass(frozen=True, slots=True)
class Step:
    """One pass: `rows` partitions hold a block of input channels, or several positions of few."""

    positions: tuple[Position, ...]
    block: int
    rows: int


@dataclass(frozen=True, slots=True)
class ConvPacking:
    """A weight as [blocks of outputs, rows, steps, columns]: element [m, p, s, o].

    It is what partition p of step s adds to output channel m·columns + o: the weight of input
    channel 128·block + p at the step's position, or of channel p % C at position p // C of several.
    Beyond the weight, and between groups, it is zero.
    """

    weight: tuple[int, ...]
    groups: int
    transposed: bool
    windows: tuple[Window, ...]
    itemsize: int

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.weight[0] if self.transposed else self.weight[1] * self.groups

    @property
    def outputs(self) -> int:
        """Channels of the output."""
        return self.weight[1] * self.groups if self.transposed else self.weight[0]

    @property
    def columns(self) -> int:
        """Output channels of a block: 128, or fewer where their matrices would be too large."""
        return _plan(self).columns

    @property
    def blocks(self) -> int:
        """Blocks of output channels."""
        return len(_plan(self).steps)

    def of_block(self, block: int) -> tuple[Step, ...]:
        """Return the passes of a block of output channels."""
        return _plan(self).steps[block]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in HBM."""
        plan = _plan(self)
        rows = max(step.rows for found in plan.steps for step in found)
        return (len(plan.steps), rows, max(map(len, plan.steps)), plan.columns)

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Return a weight in the packed shape, same dtype."""
        packed = np.zeros(self.shape, weight.dtype)
        by_group = self._by_group(weight)
        for block in range(self.blocks):
            for number, step in enumerate(self.of_block(block)):
                matrix = packed[block, :, number]
                for group in range(self.groups):
                    self._write(matrix, block, step, group, by_group[group])
        return packed

    def _by_group(self, weight: np.ndarray) -> np.ndarray:
        """Return [groups, outputs of one, channels of one, *kernel], positions as they are met."""
        split = weight.reshape(self.groups, weight.shape[0] // self.groups, *weight.shape[1:])
        if not self.transposed:
            return split
        return np.flip(split.swapaxes(1, 2), tuple(range(3, split.ndim)))

    def _write(
        self, matrix: np.ndarray, block: int, step: Step, group: int, weight: np.ndarray
    ) -> None:
        """Write a group's part of the matrix [rows, columns] of a step."""
        each, size = weight.shape[:2]
        first = max(block * self.columns, group * each)
        last = min((block + 1) * self.columns, (group + 1) * each)
        if first >= last:
            return
        taken = weight[first - group * each : last - group * each]
        columns = slice(first - block * self.columns, last - block * self.columns)
        if len(step.positions) > 1:
            for number, position in enumerate(step.positions):
                rows = slice(number * size, (number + 1) * size)
                matrix[rows, columns] = _at(taken, position).T
            return
        begin = max(step.block * PARTITIONS, group * size)
        end = min((step.block + 1) * PARTITIONS, (group + 1) * size)
        if begin < end:
            rows = slice(begin - step.block * PARTITIONS, end - step.block * PARTITIONS)
            part = taken[:, begin - group * size : end - group * size]
            matrix[rows, columns] = _at(part, step.positions[0]).T


@dataclass(frozen=True, slots=True)
class _Plan:
    columns: int
    steps: tuple[tuple[Step, ...], ...]  # of each block of output channels


@cache
def _plan(packing: ConvPacking) -> _Plan:
    """Return the blocks of output channels and the passes of each."""
    positions = ordered_positions(packing.windows)
    columns = PARTITIONS
    while True:
        starts = range(0, packing.outputs, columns)
        steps = tuple(_steps(packing, first, columns, positions) for first in starts)
        size_bytes = max(map(len, steps)) * columns * packing.itemsize
        if size_bytes <= _MOST_BYTES or columns == _LEAST_COLUMNS:
            return _Plan(min(columns, packing.outputs), steps)
        columns //= 2


def _steps(
    packing: ConvPacking, first: int, count: int, positions: list[Position]
) -> tuple[Step, ...]:
    """Return the passes for `count` output channels from `first` on."""
    channels, groups = packing.channels, packing.groups
    if folds(channels, groups, packing.windows):
        chunks = contraction_chunks(channels, groups, 0, packing.windows)
        return tuple(Step(c.positions, 0, len(c.positions) * channels) for c in chunks)
    each, size = packing.outputs // groups, channels // groups
    last = min(packing.outputs, first + count) - 1
    begin, end = first // each * size, (last // each + 1) * size
    blocks = range(begin // PARTITIONS, -(-end // PARTITIONS))
    return tuple(
        Step((p,), block, min(PARTITIONS, channels - block * PARTITIONS))
        for p in positions
        for block in blocks
    )


def _at(weight: np.ndarray, position: Position) -> np.ndarray:
    """Return [outputs, channels] at a position of [outputs, channels, *kernel]."""
    index: tuple[slice | int, ...] = (slice(None), slice(None), *position)
    return np.asarray(weight[index])

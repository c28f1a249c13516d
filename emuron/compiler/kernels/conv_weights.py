"""How the weight of a convolution lies in HBM: one matrix for each pass of the Tensor engine."""

from __future__ import annotations

from dataclasses import dataclass

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
        columns = PARTITIONS
        most = max(len(self.steps(first, PARTITIONS)) for first in range(0, self.outputs, columns))
        while most * columns * self.itemsize > _MOST_BYTES and columns > _LEAST_COLUMNS:
            columns //= 2
        return min(columns, self.outputs)

    @property
    def blocks(self) -> int:
        """Blocks of output channels."""
        return -(-self.outputs // self.columns)

    def steps(self, first: int, count: int) -> tuple[Step, ...]:
        """Return the passes for output channels from `first` on."""
        channels, groups = self.channels, self.groups
        if folds(channels, groups, self.windows):
            chunks = contraction_chunks(channels, groups, 0, self.windows)
            return tuple(Step(c.positions, 0, len(c.positions) * channels) for c in chunks)
        each, size = self.outputs // groups, channels // groups
        last = min(self.outputs, first + count) - 1
        begin, end = first // each * size, (last // each + 1) * size
        return tuple(
            Step((p,), block, min(PARTITIONS, channels - block * PARTITIONS))
            for p in ordered_positions(self.windows)
            for block in range(begin // PARTITIONS, -(-end // PARTITIONS))
        )

    def of_block(self, block: int) -> tuple[Step, ...]:
        """Return the passes of a block of output channels."""
        return self.steps(block * self.columns, self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in HBM."""
        steps = [self.of_block(m) for m in range(self.blocks)]
        rows = max(step.rows for found in steps for step in found)
        return (self.blocks, rows, max(map(len, steps)), self.columns)

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


def _at(weight: np.ndarray, position: Position) -> np.ndarray:
    """Return [outputs, channels] at a position of [outputs, channels, *kernel]."""
    index: tuple[slice | int, ...] = (slice(None), slice(None), *position)
    return np.asarray(weight[index])

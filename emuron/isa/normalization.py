"""Batch-norm statistics on the vector engine, and the mean and variance they add up to.

The arithmetic stands in functions on [rows, n] arrays of any number of rows, so that a graph's
layer norm on whole tensors and its tiles on the simulator agree bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.instruction import Cost, In, Instruction, Out, instruction
from emuron.numerics.dtypes import float32

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

STATS = 6  # count, mean, variance·count of the even, then of the odd elements
TRIPLE = 3  # one group of statistics: count, mean, variance·count


def bn_statistics(ops: Any, x: Any) -> Any:
    """Return [rows, 6] statistics of fp32 `x` [rows, n]: even elements, then odd elements.

    Each group gives count, mean = Σx / count and Σ(x − mean)²; an empty group gives zeros.
    """
    columns: list[Any] = []
    for parity in (0, 1):
        group = x[:, parity::2]
        count = group.shape[1]
        if count == 0:
            columns.extend([ops.multiply(x[:, :1], 0.0)] * TRIPLE)
            continue
        mean = ops.divide(ops.sum(group, 1, True), float(count))
        away = ops.subtract(group, mean)
        squares = ops.sum(ops.multiply(away, away), 1, True)
        columns.extend([ops.full(mean.shape, float(count), float32), mean, squares])
    return ops.concatenate(columns, 1)


def bn_aggregate(ops: Any, stats: Any) -> Any:
    """Return [rows, 2] mean and population variance from groups of (count, mean, Σ(x − mean)²)."""
    counts = stats[:, 0::TRIPLE]
    means = stats[:, 1::TRIPLE]
    squares = stats[:, 2::TRIPLE]
    total = ops.sum(counts, 1, True)
    mean = ops.divide(ops.sum(ops.multiply(counts, means), 1, True), total)
    away = ops.subtract(means, mean)
    between = ops.sum(ops.multiply(ops.multiply(away, away), counts), 1, True)
    variance = ops.divide(ops.add(ops.sum(squares, 1, True), between), total)
    return ops.concatenate([mean, variance], 1)


def mean_and_variance(ops: Any, x: Any, chunk: int) -> tuple[Any, Any]:
    """Return fp32 mean and population variance [rows, 1] of `x` [rows, n] as the engine does.

    Statistics of `chunk` columns at a time (the core's `limits.bn_stats_max`), then aggregated.
    """
    chunks = range(0, x.shape[1], chunk)
    parts = [bn_statistics(ops, x[:, first : first + chunk]) for first in chunks]
    result = bn_aggregate(ops, parts[0] if len(parts) == 1 else ops.concatenate(parts, 1))
    return result[:, :1], result[:, 1:]


@instruction(engine="vector", nki="bn_stats", source="ISA32 bn_stats; cost ISA26")
class BnStats(Instruction):
    """dst[P, 6] = count, mean, variance·count of data's even, then of its odd elements."""

    dst: Out
    data: In

    def check(self, core: NeuronCore) -> None:
        """Refuse more elements than the engine takes and a destination of another size."""
        for name in ("dst", "data"):
            limits.check_tile(self, core, name)
        limits.check_columns(self, "dst", self.data.partitions, STATS)
        limit = core.limits.bn_stats_max
        if self.data.free_size > limit:
            raise self.refuse(
                f"data has {self.data.free_size} elements a partition; the limit is {limit}",
                "Take the statistics of parts and combine them with bn_aggr.",
            )

    def compute(self, ops: Any, data: Any) -> Any:
        """Return the statistics."""
        return bn_statistics(ops, data)

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N) (ISA v2.26)."""
        elements = self.data.free_size
        return Cost(cycles=limits.stream_cycles(core, elements), flops=4 * self.data.size)


@instruction(engine="vector", nki="bn_aggr", source="ISA32 bn_aggr; cost ISA26")
class BnAggr(Instruction):
    """dst[P, 2] = mean and population variance from data's (count, mean, variance·count) groups."""

    dst: Out
    data: In

    def check(self, core: NeuronCore) -> None:
        """Refuse data that is not in groups of three."""
        for name in ("dst", "data"):
            limits.check_tile(self, core, name)
        limits.check_columns(self, "dst", self.data.partitions, 2)
        if self.data.free_size % TRIPLE:
            raise self.refuse(
                f"data has {self.data.free_size} elements a partition",
                "Give groups of three as bn_stats writes them.",
            )

    def compute(self, ops: Any, data: Any) -> Any:
        """Return mean and variance."""
        return bn_aggregate(ops, data)

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, 13·N/3) (ISA v2.26)."""
        cycles = self.data.free_size / TRIPLE * core.vector.bn_aggr_cycles_per_3
        return Cost(cycles=limits.stream_cycles(core, cycles), flops=4 * self.data.size)

"""Instructions of the gpsimd engine that search: non-zeros, segments, the largest of many.

The engine has eight processors; each is wired to 16 partitions.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emuron.isa import limits
from emuron.isa.instruction import Band, Cost, In, Instruction, Out, instruction
from emuron.isa.tensor import AccessPattern

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

PROCESSOR_PARTITIONS = 16
ID_TYPES = ("float32", "int32")


def _search_cost(core: NeuronCore, elements: int) -> Cost:
    cycles = core.timing.search_cycles_per_element * elements
    return Cost(cycles=core.timing.gpsimd_start_cycles + cycles)


@instruction(
    engine="gpsimd",
    nki="nonzero_with_count",
    since=3,
    source="ISA32 nonzero_with_count; cost assumed",
)
class NonzeroWithCount(Instruction):
    """dst[p] = the places in src[p] that are not zero, then padding, then their number.

    Of each 16 partitions only the first is read and written; dst has one column more than src.
    `index_offset` is added to the places.
    """

    dst: Out
    src: In
    index_offset: int = 0
    padding_val: int = -1

    @property
    def raw(self) -> bool:
        """Integers keep all bits."""
        return True

    def band(self, name: str) -> Band | None:
        """Each processor reaches the first of its partitions."""
        operand: AccessPattern = getattr(self, name)
        return Band(ceil(operand.partitions / PROCESSOR_PARTITIONS), 1, PROCESSOR_PARTITIONS, True)

    def check(self, core: NeuronCore) -> None:
        """Refuse earlier generations, other dtypes and a destination without a place to count."""
        for name in ("dst", "src"):
            limits.check_tile(self, core, name, limits.SBUF)
        limits.check_dtype(self, "src", ID_TYPES)
        limits.check_dtype(self, "dst", ("int32",))
        limits.check_columns(self, "dst", self.src.partitions, self.src.free_size + 1)

    def compute(self, ops: Any, src: Any) -> Any:
        """Return places, padding and count of each processor's row."""
        rows = ops.numpy(src)
        found = np.full((len(rows), rows.shape[1] + 1), self.padding_val, np.int32)
        for result, row in zip(found, rows, strict=True):
            places = np.flatnonzero(row)
            result[: places.size] = places + self.index_offset
            result[-1] = places.size
        return ops.asarray(found)

    def cost(self, core: NeuronCore) -> Cost:
        """Return 150 + 4N, assumed: no formula is published."""
        return _search_cost(core, self.src.free_size)


@instruction(engine="gpsimd", nki="sequence_bounds", source="ISA32 sequence_bounds; cost assumed")
class SequenceBounds(Instruction):
    """dst[0, 0, i], dst[0, 1, i] = start and end of the segment that element i belongs to.

    A segment is a run of equal `segment_ids` [1, n]; its end is exclusive. Padding, id 0, starts at
    n and ends at -1.
    """

    dst: Out
    segment_ids: In

    def check(self, core: NeuronCore) -> None:
        """Refuse several partitions, other dtypes and a destination of another size."""
        for name in ("dst", "segment_ids"):
            limits.check_tile(self, core, name, limits.SBUF)
            limits.check_dtype(self, name, ID_TYPES)
        elements = self.segment_ids.free_size
        limits.check_columns(self, "segment_ids", 1, elements)
        limits.check_columns(self, "dst", 1, 2 * elements)

    def compute(self, ops: Any, segment_ids: Any) -> Any:
        """Return all starts, then all ends."""
        ids = ops.numpy(segment_ids)[0]
        borders = np.flatnonzero(np.diff(ids)) + 1
        edges = np.concatenate([[0], borders, [ids.size]])
        lengths = np.diff(edges)
        starts = np.where(ids == 0, ids.size, np.repeat(edges[:-1], lengths))
        ends = np.where(ids == 0, -1, np.repeat(edges[1:], lengths))
        return ops.asarray(np.stack([starts, ends]).astype(np.float32).reshape(1, -1))

    def cost(self, core: NeuronCore) -> Cost:
        """Return 150 + 4N, assumed: no formula is published."""
        return _search_cost(core, self.segment_ids.free_size)


@instruction(engine="gpsimd", nki="topk", source="ISA32 topk, cost too")
class Topk(Instruction):
    """val_dst[P, K], idx_dst[P, K] = the K largest of n values and their places, ascending.

    The n values of 16 partitions of src stand in a snake: number i in partition i mod 16, column
    i // 16. Each of the 16 rows of the result holds the same. Of equal values the later ones are
    taken first.
    """

    val_dst: Out
    idx_dst: Out
    src: In
    n: int

    @property
    def raw(self) -> bool:
        """Values are copied bit by bit; places are integers."""
        return True

    @property
    def k(self) -> int:
        """How many are wanted."""
        return self.val_dst.free_size

    def check(self, core: NeuronCore) -> None:
        """Refuse other dtypes, partial groups of partitions and sizes beyond the limits."""
        for name in ("val_dst", "idx_dst", "src"):
            limits.check_tile(self, core, name, limits.SBUF)
        for name in ("val_dst", "src"):
            limits.check_dtype(self, name, ("bfloat16",))
        limits.check_dtype(self, "idx_dst", ("uint32",))
        partitions = self.src.partitions
        if partitions % PROCESSOR_PARTITIONS:
            raise self.refuse(
                f"src has {partitions} partitions",
                f"Give a multiple of {PROCESSOR_PARTITIONS}.",
            )
        for name in ("val_dst", "idx_dst"):
            limits.check_columns(self, name, partitions, self.k)
        self._check_sizes(core)

    def _check_sizes(self, core: NeuronCore) -> None:
        low, below, k_below = core.limits.topk_min, core.limits.topk_below, core.limits.topk_k_below
        if not low <= self.n < below:
            raise self.refuse(f"n={self.n}", f"It is {low} to {below - 1}.")
        if self.k > self.n or self.k >= k_below:
            raise self.refuse(
                f"val_dst asks for {self.k} of n={self.n} values",
                f"At most n, and fewer than {k_below}.",
            )
        held = PROCESSOR_PARTITIONS * self.src.free_size
        if self.n > held:
            raise self.refuse(
                f"n={self.n}, but {PROCESSOR_PARTITIONS} partitions of src hold {held} values",
                "Give src more columns, or a smaller n.",
            )

    def compute(self, ops: Any, src: Any) -> Any:
        """Return values and places."""
        stored = ops.numpy(src)
        values, places = [], []
        for first in range(0, len(stored), PROCESSOR_PARTITIONS):
            snake = stored[first : first + PROCESSOR_PARTITIONS].T.reshape(-1)[: self.n]
            order = np.argsort(snake.astype(np.float32), kind="stable")[-self.k :]
            values.append(_repeated(snake[order]))
            places.append(_repeated(order.astype(np.uint32)))
        return ops.asarray(np.concatenate(values)), ops.asarray(np.concatenate(places))

    def cost(self, core: NeuronCore) -> Cost:
        """Return 4n + K (ISA32)."""
        return Cost(cycles=core.timing.topk_cycles_per_element * self.n + self.k)


def _repeated(row: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.broadcast_to(row, (PROCESSOR_PARTITIONS, row.size))

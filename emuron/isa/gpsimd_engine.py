"""Instructions of the gpsimd engine: index patterns, gathers, reduction across partitions."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emuron.isa import limits
from emuron.isa.alu import alu_operator
from emuron.isa.instruction import Cost, In, Instruction, Out, Scalar, instruction
from emuron.isa.reductions import reduce_rows
from emuron.isa.tensor import AccessPattern, MemoryRegion

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

Pattern = tuple[tuple[int, int], ...]  # (step, count), slowest first

COMPARISONS = ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")
PARTITION_REDUCTIONS = ("add", "average", "maximum", "bitwise_or", "bitwise_and")
ELEMENTS_PER_INDEX = (1, 2, 4, 8, 16, 32)  # local_gather
GATHER_GROUP = 16  # partitions that share the indices of local_gather
PATTERN_DIMENSIONS = 4


def affine_values(
    pattern: Pattern, offset: Any, channel_multiplier: int, partitions: int
) -> npt.NDArray[np.int32]:
    """Return offset + p·channel_multiplier + Σ step·index as int32 [partitions, elements].

    `offset` is a number or an array of one, a register's content.
    """
    first = int(np.asarray(offset).reshape(-1)[0])
    values = np.zeros(1, np.int64)
    for step, count in pattern:
        values = (values[:, None] + np.arange(count, dtype=np.int64) * step).reshape(-1)
    rows = np.arange(partitions, dtype=np.int64)[:, None] * channel_multiplier
    return np.asarray(first + rows + values, np.int64).astype(np.int32)


def _check_pattern(instruction: Instruction, pattern: Pattern, elements: int) -> None:
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pattern):
        raise instruction.refuse(
            f"pattern is {list(pattern)}",
            "Give a list of [step, count] pairs, such as [[1, 512]].",
        )
    if len(pattern) > PATTERN_DIMENSIONS:
        raise instruction.refuse(
            f"pattern has {len(pattern)} dimensions; the limit is {PATTERN_DIMENSIONS}",
            "Merge some of them.",
        )
    covered = prod(count for _, count in pattern)
    if covered != elements:
        raise instruction.refuse(
            f"pattern {list(pattern)} covers {covered} elements, dst has {elements} a partition",
            "Make both equal.",
        )


def _check_offset(instruction: Iota | AffineSelect, core: NeuronCore) -> None:
    limits.check_buffer(instruction, core, "offset", (MemoryRegion.register, MemoryRegion.sbuf))
    offset = instruction.offset
    if isinstance(offset, AccessPattern) and (offset.size != 1 or not offset.dtype.is_integer):
        raise instruction.refuse(
            f"offset is {list(offset.shape)} {offset.dtype}",
            "Give an int, or a register or tile that holds one.",
        )


def _content(ops: Any, offset: Any) -> Any:
    return offset if isinstance(offset, int | float) else ops.numpy(offset)


@instruction(engine="gpsimd", nki="iota", source="ISA32 iota; cost ISA26")
class Iota(Instruction):
    """dst[p, …] = offset + p·channel_multiplier + Σ step·index, in int32, converted to dst."""

    dst: Out
    pattern: Pattern
    offset: Scalar = 0
    channel_multiplier: int = 0

    @property
    def stored(self) -> tuple[str, ...]:
        """32-bit integers keep all bits."""
        return ("dst", "offset") if self.dst.dtype in ("int32", "uint32") else ("offset",)

    def check(self, core: NeuronCore) -> None:
        """Refuse destinations outside SBUF and patterns of another size."""
        limits.check_tile(self, core, "dst", limits.SBUF)
        _check_pattern(self, self.pattern, self.dst.free_size)
        _check_offset(self, core)

    def compute(self, ops: Any, offset: Any) -> Any:
        """Return the values."""
        values = affine_values(
            self.pattern, _content(ops, offset), self.channel_multiplier, self.dst.partitions
        )
        whole = "dst" in self.stored
        return ops.asarray(values.view(self.dst.dtype.np) if whole else values.astype(np.float32))

    def cost(self, core: NeuronCore) -> Cost:
        """Return 150 + N (ISA v2.26)."""
        return Cost(cycles=core.timing.gpsimd_start_cycles + self.dst.free_size)


@instruction(engine="gpsimd", nki="affine_select", source="ISA32 affine_select; cost ISA26")
class AffineSelect(Instruction):
    """dst = on_true_tile where cmp_op(affine value, 0) holds, else on_false_value.

    The affine value is iota's: offset + p·channel_multiplier + Σ step·index.
    """

    dst: Out
    pattern: Pattern
    channel_multiplier: int
    on_true_tile: In
    on_false_value: float
    cmp_op: str = "equal"
    offset: Scalar = 0

    @property
    def stored(self) -> tuple[str, ...]:
        """A run-time offset is an integer; integers that stay of one type keep all bits."""
        same = self.dst.dtype == self.on_true_tile.dtype and self.dst.dtype.is_integer
        return ("offset", "dst", "on_true_tile") if same else ("offset",)

    def check(self, core: NeuronCore) -> None:
        """Refuse tiles outside SBUF, unequal sizes and patterns of another size."""
        for name in ("dst", "on_true_tile"):
            limits.check_tile(self, core, name, limits.SBUF)
        limits.check_same_elements(self, "dst", "on_true_tile")
        limits.check_operator(self, "cmp_op", COMPARISONS)
        _check_pattern(self, self.pattern, self.dst.free_size)
        _check_offset(self, core)

    def compute(self, ops: Any, on_true_tile: Any, offset: Any) -> Any:
        """Return the selected values."""
        values = affine_values(
            self.pattern, _content(ops, offset), self.channel_multiplier, self.dst.partitions
        )
        # The sign is all that a comparison with 0 needs, and fp32 holds it exactly.
        sign = ops.asarray(np.sign(values).astype(np.float32))
        holds = alu_operator(self.cmp_op).compute(ops, sign, 0.0)
        otherwise = self.on_false_value
        if "dst" in self.stored:
            kind = self.dst.dtype
            otherwise = round(min(max(otherwise, kind.min), kind.max))
        return ops.where(holds, on_true_tile, otherwise)

    def cost(self, core: NeuronCore) -> Cost:
        """Return 150 + N (ISA v2.26)."""
        return Cost(cycles=core.timing.gpsimd_start_cycles + self.dst.free_size)


@instruction(
    engine="gpsimd",
    nki="tensor_partition_reduce",
    source="ISA32 tensor_partition_reduce; cost assumed",
)
class TensorPartitionReduce(Instruction):
    """dst[1, N] = op over the partitions of data[P, N]; `average` divides the sum by P."""

    dst: Out
    op: str
    data: In

    @property
    def raw(self) -> bool:
        """Bit-vector operators work on stored integers."""
        return self.op.startswith("bitwise")

    def check(self, core: NeuronCore) -> None:
        """Refuse PSUM, operators that cannot reduce and destinations of another size."""
        for name in ("dst", "data"):
            limits.check_tile(self, core, name, limits.SBUF)
        limits.check_operator(self, "op", PARTITION_REDUCTIONS)
        limits.check_columns(self, "dst", 1, self.data.free_size)
        if self.raw:
            limits.check_bit_vector_types(self, alu_operator(self.op), "dst", "data")

    def compute(self, ops: Any, data: Any) -> Any:
        """Return the reduction."""
        op = "add" if self.op == "average" else self.op
        result = reduce_rows(ops, op, ops.transpose(data, (1, 0)), 1)
        if self.op == "average":
            result = ops.divide(result, float(self.data.partitions))
        return ops.reshape(result, (1, self.data.free_size))

    def cost(self, core: NeuronCore) -> Cost:
        """Return 150 + N for each halving of the partitions; no formula is published."""
        halvings = max(1, ceil(np.log2(self.data.partitions)))
        cycles = core.timing.gpsimd_start_cycles + self.data.free_size * halvings
        return Cost(cycles=cycles, flops=self.data.size)


@instruction(engine="gpsimd", nki="local_gather", source="ISA32 local_gather; cost ISA26")
class LocalGather(Instruction):
    """dst[p, k·n + j] = src_buffer[p, index_k + j], n elements at each index.

    Each group of 16 partitions shares the indices in its rows of `index`, partition first; the
    first `num_valid_indices` of them count (None: all).
    """

    dst: Out
    src_buffer: In
    index: In
    num_elem_per_idx: int = 1
    num_valid_indices: int | None = None

    @property
    def raw(self) -> bool:
        """A gather moves stored bits."""
        return True

    @property
    def indices(self) -> int:
        """Indices of one group that count."""
        given = self.index.free_size * GATHER_GROUP
        return given if self.num_valid_indices is None else self.num_valid_indices

    def check(self, core: NeuronCore) -> None:
        """Refuse PSUM, partial groups, wrong dtypes and too many indices."""
        for name in ("dst", "src_buffer", "index"):
            limits.check_tile(self, core, name, limits.SBUF)
        limits.check_same_dtype(self, "dst", "src_buffer")
        limits.check_dtype(self, "index", ("uint16",))
        partitions = self.src_buffer.partitions
        if partitions % GATHER_GROUP or self.index.partitions != partitions:
            raise self.refuse(
                f"src_buffer has {partitions} partitions, index {self.index.partitions}",
                f"Give both the same multiple of {GATHER_GROUP}.",
            )
        if self.num_elem_per_idx not in ELEMENTS_PER_INDEX:
            raise self.refuse(
                f"num_elem_per_idx={self.num_elem_per_idx}",
                f"It is one of {', '.join(map(str, ELEMENTS_PER_INDEX))}.",
            )
        limit = core.limits.local_gather_max_indices
        if self.indices > min(limit, self.index.free_size * GATHER_GROUP):
            raise self.refuse(
                f"a group has {self.indices} indices; the limit is {limit}", "Gather in parts."
            )
        limits.check_columns(self, "dst", partitions, self.indices * self.num_elem_per_idx)

    def compute(self, ops: Any, src_buffer: Any, index: Any) -> Any:
        """Return the gathered elements."""
        source, places = ops.numpy(src_buffer), ops.numpy(index).astype(np.int64)
        groups = places.reshape(-1, GATHER_GROUP, places.shape[1])
        chosen = groups.transpose(0, 2, 1).reshape(len(groups), -1)[:, : self.indices]
        spread = chosen[:, :, None] + np.arange(self.num_elem_per_idx)
        columns = np.repeat(spread.reshape(len(groups), -1), GATHER_GROUP, axis=0)
        return ops.asarray(_gathered(self, source, columns))

    def cost(self, core: NeuronCore) -> Cost:
        """Return the formula of ISA v2.26, multiplied where it prints a division."""
        count, size = self.num_elem_per_idx, self.src_buffer.dtype.itemsize
        words = core.timing.local_gather_word_bytes
        rate = (core.timing.local_gather_index_bytes + words * count) / (words * count)
        elements = self.indices * count * rate / min(words / size, count)
        return Cost(cycles=core.timing.gpsimd_start_cycles + elements)


@instruction(engine="gpsimd", nki="nc_n_gather", source="ISA32 nc_n_gather; cost assumed")
class NcNGather(Instruction):
    """dst[p, i] = data[p, indices[p, i]]."""

    dst: Out
    data: In
    indices: In

    @property
    def raw(self) -> bool:
        """A gather moves stored bits."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse PSUM, wrong dtypes and unequal sizes."""
        for name in ("dst", "data", "indices"):
            limits.check_tile(self, core, name, limits.SBUF)
        limits.check_same_dtype(self, "dst", "data")
        limits.check_dtype(self, "indices", ("uint32",))
        limits.check_same_elements(self, "dst", "indices")
        if self.data.partitions != self.dst.partitions:
            raise self.refuse(
                f"data has {self.data.partitions} partitions, dst {self.dst.partitions}",
                "Make them equal.",
            )

    def compute(self, ops: Any, data: Any, indices: Any) -> Any:
        """Return the gathered elements."""
        return ops.asarray(_gathered(self, ops.numpy(data), ops.numpy(indices).astype(np.int64)))

    def cost(self, core: NeuronCore) -> Cost:
        """Return 150 + 4N, assumed: no formula is published."""
        cycles = core.timing.gpsimd_start_cycles
        return Cost(cycles=cycles + core.timing.gather_cycles_per_element * self.dst.free_size)


def _gathered(
    gather: Instruction, source: npt.NDArray[Any], columns: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """Return source[p, columns[p, i]]; refuse an index beyond the row."""
    limit = source.shape[1]
    if columns.size and columns.max() >= limit:
        raise gather.refuse(
            f"an index is {columns.max()}; a partition of the source has {limit} elements",
            "Correct the indices.",
        )
    return np.take_along_axis(source, columns, axis=1)

"""Limits that many instructions share: where operands lie, how large they are, their dtypes.

Sources: NKI architecture guides (start partitions, access patterns, PSUM banks) and the `nki.isa`
reference; the figures come from the core's data.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from emuron.isa.alu import ACTIVATION_FUNCTIONS, ALU_OPERATORS, AluOperator, alu_operator
from emuron.isa.instruction import Instruction
from emuron.isa.tensor import AccessPattern, MemoryRegion

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

Buffers = tuple[MemoryRegion, ...]

SBUF = (MemoryRegion.sbuf,)
PSUM = (MemoryRegion.psum,)
ON_CHIP = (MemoryRegion.sbuf, MemoryRegion.psum)
SBUF_OR_HBM = (MemoryRegion.sbuf, MemoryRegion.private_hbm, MemoryRegion.shared_hbm)

Operand = AccessPattern | float | None


def check_tile(
    instruction: Instruction,
    core: NeuronCore,
    name: str,
    buffers: Buffers = ON_CHIP,
) -> None:
    """Refuse an operand in the wrong memory, over too many partitions or badly started.

    An operand that is absent or an immediate passes.
    """
    check_buffer(instruction, core, name, buffers)
    operand: Operand = getattr(instruction, name)
    if isinstance(operand, AccessPattern) and operand.buffer.is_on_chip:
        _check_partitions(instruction, core, name, operand)
        _check_free_size(instruction, core, name, operand)


def check_buffer(instruction: Instruction, core: NeuronCore, name: str, buffers: Buffers) -> None:
    """Refuse an operand in the wrong memory or of a dtype that the generation lacks.

    This is all that a DMA transfer requires: it may start at any partition. An operand that is
    absent or an immediate passes.
    """
    operand: Operand = getattr(instruction, name)
    if not isinstance(operand, AccessPattern):
        return
    if operand.buffer not in buffers:
        allowed = " or ".join(buffer.value for buffer in buffers)
        raise instruction.refuse(
            f"{name} must lie in {allowed}, but {_name(operand)} lies in {operand.buffer.value}",
            f"Copy it to {allowed} first.",
        )
    check_dtype_exists(instruction, core, name, operand)


def _name(operand: AccessPattern) -> str:
    return f"'{operand.tensor.name}' {list(operand.shape)}"


def _check_partitions(
    instruction: Instruction, core: NeuronCore, name: str, operand: AccessPattern
) -> None:
    count, start = operand.partitions, operand.start_partition
    if count > core.partitions:
        raise instruction.refuse(
            f"{name} {_name(operand)} spans {count} partitions; the limit is {core.partitions}",
            "Tile dimension 0, the partition dimension.",
        )
    allowed = core.limits.start_partitions_for(count)
    if start not in allowed:
        raise instruction.refuse(
            f"{name} {_name(operand)} spans {count} partitions from partition {start}; "
            f"{count} partitions may start at {_listed(allowed)}",
            "Place the tile on a legal start partition, or use fewer partitions.",
        )
    if start + count > core.partitions:
        raise instruction.refuse(
            f"{name} {_name(operand)} ends at partition {start + count}; "
            f"the limit is {core.partitions}",
            "Start it lower.",
        )


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _check_free_size(
    instruction: Instruction, core: NeuronCore, name: str, operand: AccessPattern
) -> None:
    in_psum = operand.buffer is MemoryRegion.psum
    limit = core.limits.psum_max_free_elements if in_psum else core.limits.sbuf_max_free_elements
    # The limits are those of the memories: an element read again and again counts once, as in
    # nki-library's layernorm_tkg.
    free = zip(operand.shape[1:], operand.strides[1:], strict=True)
    elements = prod(size for size, stride in free if stride)
    if elements > limit:
        raise instruction.refuse(
            f"{name} {_name(operand)} has {elements} elements a partition; "
            f"the limit in {operand.buffer.value} is {limit}",
            "Tile the free dimensions.",
        )


def check_dtype_exists(
    instruction: Instruction, core: NeuronCore, name: str, operand: AccessPattern
) -> None:
    """Refuse a dtype that the generation does not have."""
    if operand.dtype.removesuffix("_") not in core.dtypes and operand.dtype not in core.dtypes:
        raise instruction.refuse(
            f"{name} {_name(operand)} is {operand.dtype}, "
            f"which NeuronCore-{core.version} does not have",
            f"Use one of {', '.join(core.dtypes)}.",
        )


def check_dtype(instruction: Instruction, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a dtype outside `allowed`; an absent operand or an immediate passes."""
    operand: Operand = getattr(instruction, name)
    if isinstance(operand, AccessPattern) and operand.dtype not in allowed:
        raise instruction.refuse(
            f"{name} {_name(operand)} is {operand.dtype}",
            f"It must be one of {', '.join(allowed)}.",
        )


def check_same_dtype(instruction: Instruction, first: str, second: str) -> None:
    """Refuse two operands of different dtypes."""
    a, b = getattr(instruction, first), getattr(instruction, second)
    if isinstance(a, AccessPattern) and isinstance(b, AccessPattern) and a.dtype != b.dtype:
        raise instruction.refuse(
            f"{first} {_name(a)} is {a.dtype} and {second} {_name(b)} is {b.dtype}",
            "They must have the same dtype.",
        )


def check_same_elements(instruction: Instruction, first: str, *others: str) -> None:
    """Refuse operands that differ in partitions or in elements a partition."""
    a: AccessPattern = getattr(instruction, first)
    for name in others:
        b: Operand = getattr(instruction, name)
        if isinstance(b, AccessPattern) and _extent(a) != _extent(b):
            raise instruction.refuse(
                f"{first} {_name(a)} has {_extent(a)[0]} partitions of {_extent(a)[1]} elements, "
                f"{name} {_name(b)} has {_extent(b)[0]} of {_extent(b)[1]}",
                "Both counts must be equal; shapes may differ.",
            )


def _extent(operand: AccessPattern) -> tuple[int, int]:
    return operand.partitions, operand.free_size


def check_columns(instruction: Instruction, name: str, partitions: int, columns: int = 1) -> None:
    """Refuse an operand that is not [partitions, columns]; absent or immediate passes."""
    operand: Operand = getattr(instruction, name)
    if isinstance(operand, AccessPattern) and _extent(operand) != (partitions, columns):
        raise instruction.refuse(
            f"{name} {_name(operand)} must be [{partitions}, {columns}]",
            "Give one row for each partition of the data.",
        )


def check_not_both_in_psum(instruction: Instruction, first: str, second: str) -> None:
    """Refuse two streamed inputs that both lie in PSUM."""
    a, b = getattr(instruction, first), getattr(instruction, second)
    if in_psum(a) and in_psum(b):
        raise instruction.refuse(
            f"{first} {_name(a)} and {second} {_name(b)} both lie in PSUM; "
            "the engine reads at most one input from there",
            "Copy one of them to SBUF first.",
        )


def check_engine(instruction: Instruction, core: NeuronCore, *operands: str) -> None:
    """Refuse an engine that cannot run the instruction, and GpSimd operands in PSUM."""
    asked = str(getattr(instruction, "engine", "unknown"))
    if asked not in ("unknown", *instruction.engines):
        raise instruction.refuse(
            f"engine={asked} cannot run it",
            f"It runs on {' or '.join(instruction.engines)}.",
        )
    if instruction.engine_name != "gpsimd":
        return
    for name in operands:
        operand = getattr(instruction, name)
        if in_psum(operand):
            raise instruction.refuse(
                f"{name} {_name(operand)} lies in PSUM, which the gpsimd engine cannot reach",
                "Copy it to SBUF, or choose the vector engine.",
            )


def check_since(instruction: Instruction, core: NeuronCore, nc_version: int) -> None:
    """Refuse an instruction that the generation does not have yet."""
    if (core.nc_version or 0) < nc_version:
        raise instruction.refuse(
            f"it exists from NeuronCore-v{nc_version} on, this is NeuronCore-{core.version}",
            "Choose a later chip or write it with other instructions.",
        )


def check_arithmetic(instruction: Instruction, *names: str) -> None:
    """Refuse bit-vector operators where only arithmetic is possible; absent ones pass."""
    for name in names:
        op = getattr(instruction, name)
        if op is not None and alu_operator(op).is_bit_vector:
            raise instruction.refuse(
                f"{name}={op} is a bit-vector operator", "Use an arithmetic one."
            )


def check_operator(instruction: Instruction, name: str, allowed: tuple[str | None, ...]) -> None:
    """Refuse an operator outside `allowed`."""
    op = getattr(instruction, name)
    if op not in allowed:
        known = ", ".join(map(str, allowed))
        raise instruction.refuse(f"{name}={op} is not possible", f"Use {known}.")


def check_bit_vector_types(instruction: Instruction, op: AluOperator, *names: str) -> None:
    """Refuse non-integer or differing dtypes of a bit-vector operator, which never converts."""
    first: AccessPattern = getattr(instruction, names[0])
    for name in names:
        operand: Operand = getattr(instruction, name)
        if isinstance(operand, float) and not operand.is_integer():
            raise instruction.refuse(
                f"{name}={operand} with the bit-vector operator {op.name}", "Give an integer."
            )
        if isinstance(operand, AccessPattern) and operand.dtype.kind not in ("int", "uint", "bool"):
            raise instruction.refuse(
                f"{name} {_name(operand)} is {operand.dtype}; "
                f"the bit-vector operator {op.name} needs an integer dtype",
                "View it as an integer of the same size.",
            )
        if isinstance(operand, AccessPattern) and operand.dtype.itemsize != first.dtype.itemsize:
            raise instruction.refuse(
                f"{names[0]} is {first.dtype} and {name} is {operand.dtype}; "
                f"{op.name} does not convert",
                "Give both the same dtype.",
            )


def check_activation(instruction: Instruction, name: str) -> None:
    """Refuse an activation function that does not exist."""
    op = getattr(instruction, name)
    if op not in ACTIVATION_FUNCTIONS:
        raise instruction.refuse(
            f"{name}={op} is not an activation function",
            f"Known: {', '.join(sorted(ACTIVATION_FUNCTIONS))}."
            + (f" {op} is an operator of the vector engine." if op in ALU_OPERATORS else ""),
        )


def in_psum(operand: Operand) -> bool:
    """Return whether an operand is a tile in PSUM."""
    return isinstance(operand, AccessPattern) and operand.buffer is MemoryRegion.psum


def stream_cycles(core: NeuronCore, elements: float) -> float:
    """Return the busy cycles of streaming `elements` a partition: max(MIN_II, N) (ISA v2.26)."""
    return max(core.timing.min_issue_cycles, elements)

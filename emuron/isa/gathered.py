"""Operands whose free elements an index tile chooses at run time (`NkiTensor.indirect`).

Column i of each partition of a group is the element at the offset number i of the group, which
its rows of the index tile hold partition by partition: number i stands at [i % G, i // G]. A group
is a quadrant on the tensor engine and 16 partitions on the others (`nki_api.md` §4.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from emuron.isa.tensor import AccessPattern, MemoryRegion

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore
    from emuron.isa.instruction import Instruction

GATHER = "gather"
"""The kind of Indirection that such an operand has."""

ENGINE_GROUP = 16  # partitions that share offsets on all engines but the tensor engine

_OPERANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tensor_copy": ("dst", "src"),
        "tensor_copy_predicated": ("dst", "predicate"),
        "nc_matmul": ("dst", "stationary", "moving"),
        "nc_matmul_mx": (
            *("dst", "stationary", "moving"),
            *("stationary_scale", "moving_scale"),
        ),
        "tensor_tensor": ("dst", "data1"),
        "tensor_scalar": ("dst", "data"),
        "tensor_scalar_reduce": ("dst", "data"),
        "tensor_scalar_cumulative": ("dst", "src"),
        "tensor_reduce": ("dst", "data"),
        "activation": ("dst", "data"),
        "activation_reduce": ("dst", "data"),
        "activate2": ("dst", "data"),
        "exponential": ("dst", "src"),
    }
)


def is_gathered(operand: object) -> bool:
    """Return whether an operand's elements are chosen by an index tile."""
    return (
        isinstance(operand, AccessPattern)
        and operand.indirection is not None
        and operand.indirection.kind == GATHER
    )


def group_size(core: NeuronCore, engine: str) -> int:
    """Return the partitions that share their offsets on an engine."""
    return core.limits.shuffle_quadrant if engine == "tensor" else ENGINE_GROUP


def check_gathered(example: Instruction, core: NeuronCore) -> None:
    """Refuse gathered operands that the generation or the instruction lacks, or badly placed."""
    named = [name for name, _ in example.operands if is_gathered(getattr(example, name))]
    if not named:
        return
    if not core.features.indirect_operands:
        raise example.refuse(
            f"{named[0]} is gathered by an index tile, which NeuronCore-{core.version} cannot do",
            "Use nisa.local_gather, or choose a later chip.",
        )
    for name in named:
        if name not in _OPERANDS.get(example.mnemonic, ()):
            possible = ", ".join(_OPERANDS.get(example.mnemonic, ())) or "none"
            raise example.refuse(
                f"{name} is gathered by an index tile",
                f"Operands of it that can be: {possible}.",
            )
        _check_place(example, core, name)
    _check_tensor_engine(example, named)


def _check_place(example: Instruction, core: NeuronCore, name: str) -> None:
    operand: AccessPattern = getattr(example, name)
    assert operand.indirection is not None
    index = operand.indirection.index
    group = group_size(core, example.engine_name)
    fewest = operand.partitions % group or min(operand.partitions, group)
    if operand.free_size > fewest * index.free_size:
        raise example.refuse(
            f"{name} takes {operand.free_size} elements in each partition, and {fewest} partitions "
            f"of its index hold {fewest * index.free_size} offsets",
            f"{group} partitions share their offsets: give fewer elements or more columns.",
        )
    start, quadrant = index.start_partition, core.limits.shuffle_quadrant
    if start % quadrant or (name != "dst" and operand.start_partition != start):
        raise example.refuse(
            f"{name} starts at partition {operand.start_partition} and its index at {start}",
            f"The index starts at a multiple of {quadrant}, and what it gathers at the same.",
        )
    if name == "dst" and example.engine_name == "scalar" and operand.buffer is MemoryRegion.psum:
        raise example.refuse("dst is scattered in PSUM", "Scatter into SBUF.")


def _check_tensor_engine(example: Instruction, named: list[str]) -> None:
    if "moving" in named and getattr(example, "is_transpose", False):
        raise example.refuse("moving is gathered with is_transpose", "Gather the stationary side.")
    if "dst" in named and getattr(example, "accumulate", True) is None:
        raise example.refuse(
            "dst is scattered with accumulate=None",
            "Say accumulate=False or True: which elements it meets is known at run time only.",
        )
    if getattr(example, "tile_position", None) or getattr(example, "tile_size", None):
        raise example.refuse("gathered operands with PE tiling", "Leave tile_position out.")

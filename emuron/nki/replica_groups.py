"""Groups of ranks, and what the functions of `nki.collectives` check alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emuron.errors import HardwareLimitError, UsageError
from emuron.isa.rank_collectives import Collective, Groups
from emuron.nki.isa import NkiInstruction
from emuron.nki.objects import NKIObject
from emuron.nki.recorder import recorder
from emuron.nki.tensor import NkiTensor

_FIRST_WITH_PRIORITY = 4  # NeuronCore-v4


class ReplicaGroup(NKIObject):
    """Groups of ranks that exchange among themselves, as lists of ranks without overlap.

    Compares and hashes by what it holds. Raises UsageError for groups that are empty, of different
    sizes or overlap.
    """

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        self.groups: Groups = tuple(tuple(int(rank) for rank in group) for group in groups)
        ranks = [rank for group in self.groups for rank in group]
        if not ranks or len({len(group) for group in self.groups}) != 1:
            raise UsageError(
                f"ReplicaGroup({[list(g) for g in self.groups]}): give lists of ranks, all of the "
                "same length, such as [[0, 1], [2, 3]]."
            )
        if len(set(ranks)) < len(ranks) or min(ranks) < 0:
            raise UsageError(
                f"ReplicaGroup({[list(g) for g in self.groups]}): a rank, counted from 0, can be "
                "in one group and once."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplicaGroup) and self.groups == other.groups

    def __hash__(self) -> int:
        return hash((ReplicaGroup, self.groups))

    def __repr__(self) -> str:
        return f"ReplicaGroup({[list(group) for group in self.groups]})"


def groups_of(replica_group: Any) -> Groups:
    """Return the groups of a ReplicaGroup, or of lists of ranks; raise UsageError."""
    if isinstance(replica_group, ReplicaGroup):
        return replica_group.groups
    if isinstance(replica_group, list | tuple):
        return ReplicaGroup(replica_group).groups
    raise UsageError(
        f"replica_group is {replica_group!r}; give nki.collectives.ReplicaGroup([[0, 1]])."
    )


def meet(
    cls: type[Collective], operands: tuple[Any, ...], attributes: tuple[Any, ...]
) -> NkiInstruction:
    """Issue one instruction of a collective."""
    return NkiInstruction(recorder().meet(cls, operands, attributes))


def check_priority(mnemonic: str, priority: int | None) -> None:
    """Refuse a DMA priority that the generation does not have."""
    core = recorder().core
    if priority is None:
        return
    if priority not in range(4) or (core.nc_version or 0) < _FIRST_WITH_PRIORITY:
        raise HardwareLimitError(
            f"{mnemonic}: priority={priority} on NeuronCore-{core.version}. Priorities are 0 to 3 "
            "and exist from NeuronCore-v4 on; leave it out."
        )


def paired(mnemonic: str, **lists: Sequence[NkiTensor]) -> list[tuple[NkiTensor, ...]]:
    """Return the tensors of equally long lists side by side; raise UsageError."""
    for name, tensors in lists.items():
        if isinstance(tensors, NkiTensor) or not tensors:
            raise UsageError(f"{mnemonic}: {name} must be a list of tensors, such as {name}=[x].")
    lengths = {name: len(tensors) for name, tensors in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise UsageError(f"{mnemonic}: there are {told}; give one for each.")
    return list(zip(*lists.values(), strict=True))


def one_pair(mnemonic: str, srcs: Sequence[NkiTensor], dsts: Sequence[NkiTensor]) -> Any:
    """Return the only source and the only destination; raise HardwareLimitError for more."""
    pairs = paired(mnemonic, srcs=srcs, dsts=dsts)
    if len(pairs) != 1:
        raise HardwareLimitError(
            f"{mnemonic}: srcs and dsts have {len(pairs)} tensors each; it takes exactly one. "
            "Call it once for each."
        )
    return pairs[0]

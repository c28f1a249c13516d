"""Collectives in which each rank sends to one rank: along given pairs, or around a ring."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.instruction import In, Out, instruction
from emuron.isa.meetings import CoreId
from emuron.isa.rank_collectives import (
    ENGINE,
    OPERATORS,
    Collective,
    Groups,
    Read,
    Values,
)

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore


@instruction(engine=ENGINE, nki="collective_permute", exposed=False)
class CollectivePermute(Collective):
    """dst of the target = src of the source, for each (source, target) in `groups`.

    A rank that is no target keeps its dst; one in no pair takes no part.
    """

    src: In
    dst: Out
    groups: Groups
    priority: int | None = None

    @property
    def raw(self) -> bool:
        """Bits are moved unchanged."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse SBUF, unequal shapes and ranks that send or receive twice."""
        self._check_memories(core, False, "src", "dst")
        self._check_shape("dst", self.src.shape, "src")
        for place, what in enumerate(("source", "target")):
            ranks = [pair[place] for pair in self.groups]
            if len(set(ranks)) < len(ranks):
                raise self.refuse(
                    f"a rank is {what} of two pairs in {[list(pair) for pair in self.groups]}",
                    "Each rank sends to one rank and receives from one at most.",
                )

    def meets(self, here: CoreId, cores: int) -> tuple[Hashable, tuple[CoreId, ...]]:
        """Return the cores of all ranks in the pairs, or only this one if it is in none."""
        ranks = sorted({rank for pair in self.groups for rank in pair})
        if here.rank not in ranks:
            return ENGINE, (here,)
        return ENGINE, tuple(CoreId(rank, number) for rank in ranks for number in range(cores))

    def exchange(self, ops: Any, parts: Mapping[CoreId, Any], read: Read) -> Values:
        """Return to each target what its source read."""
        source_of = {target: source for source, target in self.groups}
        return {
            core: read[CoreId(source_of[core.rank], core.number)]
            if core.rank in source_of
            else (None,)
            for core in parts
        }


@instruction(engine=ENGINE, nki="collective_permute_implicit", exposed=False)
class CollectivePermuteImplicit(Collective):
    """dst of each rank = src of its predecessor in the ring that the group is, in list order."""

    src: In
    dst: Out
    groups: Groups
    channel_id: int = 0
    priority: int | None = None
    coalesced: bool = False

    @property
    def raw(self) -> bool:
        """Bits are moved unchanged."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse mixed memories and unequal shapes."""
        self._check_memories(core, True, "src", "dst")
        self._check_shape("dst", self.src.shape, "src")

    def exchange(self, ops: Any, parts: Mapping[CoreId, Any], read: Read) -> Values:
        """Return to each rank what its predecessor read."""
        return {
            core: read[CoreId(ring_rank(self.group(core.rank), core.rank, 1), core.number)]
            for core in parts
        }


@instruction(engine=ENGINE, nki="collective_permute_implicit_reduce", exposed=False)
class CollectivePermuteImplicitReduce(Collective):
    """dst of each rank = op(src0, src1) of its predecessor in the ring of the group."""

    src: In
    src1: In
    dst: Out
    groups: Groups
    op: str
    channel_id: int = 0
    priority: int | None = None
    coalesced: bool = False

    def check(self, core: NeuronCore) -> None:
        """Refuse mixed memories, other operators and unequal shapes."""
        self._check_memories(core, True, "src", "src1", "dst")
        limits.check_operator(self, "op", OPERATORS)
        self._check_shape("src1", self.src.shape, "src")
        self._check_shape("dst", self.src.shape, "src")

    def exchange(self, ops: Any, parts: Mapping[CoreId, Any], read: Read) -> Values:
        """Return to each rank what its predecessor's sources give."""
        operation = getattr(ops, self.op)
        return {
            core: (
                operation(
                    *read[CoreId(ring_rank(self.group(core.rank), core.rank, 1), core.number)]
                ),
            )
            for core in parts
        }


def ring_rank(group: tuple[int, ...], rank: int, steps: int) -> int:
    """Return the rank that stands `steps` before `rank` in the ring that a group is."""
    return group[(group.index(rank) - steps) % len(group)]

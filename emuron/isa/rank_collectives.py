"""Collectives: instructions that the ranks of a group carry out together.

A rank is a logical core; core i of a rank exchanges with core i of the others, and all begin
together. Reductions are computed in fp32 in the order of the group and rounded once. Rules and
limits: NKI reference, `nki.collectives` (`nki_api.md` §11).
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emuron.errors import UsageError
from emuron.isa import limits
from emuron.isa.instruction import (
    CollectiveCost,
    Cost,
    In,
    Instruction,
    Out,
    instruction,
)
from emuron.isa.meetings import CoreId, Meeting
from emuron.isa.tensor import AccessPattern, MemoryRegion

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

Groups = tuple[tuple[int, ...], ...]
Read = Mapping[CoreId, tuple[Any, ...]]
Values = Mapping[CoreId, tuple[Any, ...]]

ENGINE = "collective"
OPERATORS = ("add", "minimum", "maximum")


class Collective(Meeting):
    """What collectives have in common: a group of ranks, one source and one destination.

    `coalesced` marks the second and later tensors of one call, which start with the first.
    """

    __slots__ = ()

    src: AccessPattern
    dst: AccessPattern
    groups: Groups

    def group(self, rank: int) -> tuple[int, ...]:
        """Return the ranks that exchange with `rank`; raise UsageError if none do."""
        for group in self.groups:
            if rank in group:
                return group
        raise UsageError(
            f"{self.mnemonic}: rank {rank} is in none of the groups "
            f"{[list(group) for group in self.groups]}. Every rank that runs the kernel must be in "
            "one."
        )

    def meets(self, here: CoreId, cores: int) -> tuple[Hashable, tuple[CoreId, ...]]:
        """Return all the cores of the group's ranks."""
        ranks = self.group(here.rank)
        return ENGINE, tuple(CoreId(rank, number) for rank in ranks for number in range(cores))

    def agree(self, parts: Mapping[CoreId, Instruction]) -> None:
        """Refuse ranks that call something else, or with other attributes or shapes."""
        mine = self._call()
        for core, part in parts.items():
            if not isinstance(part, Collective) or part._call() != mine:
                raise UsageError(
                    f"{self.mnemonic}: the ranks of a group call different collectives: {core} "
                    f"calls {part!r}, another core {self!r}. Let all call the same, in the same "
                    "order, with tensors of the same shape and dtype."
                )

    def _call(self) -> tuple[Hashable, ...]:
        views = [getattr(self, name) for name, _ in self.operands]
        layouts = tuple(
            (v.shape, v.dtype, v.buffer.is_on_chip) if v is not None else None for v in views
        )
        return (type(self), layouts, *(getattr(self, name) for name in self.attributes))

    def gathered(self, read: Read, core: CoreId, operand: int = 0) -> list[Any]:
        """Return what the same core of each rank of the group read, in the order of the group."""
        return [read[CoreId(rank, core.number)][operand] for rank in self.group(core.rank)]

    def cost(self, core: NeuronCore) -> Cost:
        """Return what is moved: the larger side, among the ranks of the (largest) group."""
        moved = max(view.size * view.dtype.itemsize for view in (self.src, self.dst))
        ranks = max((len(group) for group in self.groups), default=1)
        coalesced = getattr(self, "coalesced", False)
        return Cost(collective=CollectiveCost(self.mnemonic, moved, ranks, coalesced))

    def _check_memories(self, core: NeuronCore, sbuf: bool, *names: str) -> None:
        """Refuse PSUM, SBUF where the collective is for HBM, both mixed, and unequal dtypes."""
        allowed = limits.SBUF_OR_HBM if sbuf else _HBM
        for name in names:
            limits.check_tile(self, core, name, allowed)
            limits.check_same_dtype(self, names[0], name)
            view: AccessPattern = getattr(self, name)
            if view.buffer.is_on_chip != getattr(self, names[0]).buffer.is_on_chip:
                raise self.refuse(
                    f"{names[0]} and {name} lie in SBUF and HBM",
                    "All tensors of a collective lie in one of them: copy one side.",
                )

    def _check_shape(self, name: str, expected: Sequence[int], why: str) -> None:
        view: AccessPattern = getattr(self, name)
        if view.shape != tuple(expected):
            raise self.refuse(
                f"{name} is {list(view.shape)}, and {why} is {list(expected)}",
                "Give it that shape.",
            )

    def _check_dim(self, dim: int, allowed: tuple[int, ...]) -> None:
        if dim not in allowed:
            where = "SBUF" if self.src.buffer.is_on_chip else "HBM"
            raise self.refuse(
                f"collective_dim={dim} of tensors in {where}",
                f"It can be {' or '.join(map(str, allowed))} there.",
            )

    def _check_divides(self, ranks: int) -> None:
        if self.src.shape[0] % ranks:
            raise self.refuse(
                f"dimension 0 of src {list(self.src.shape)} does not divide among {ranks} ranks",
                "Make it a multiple of the group's size.",
            )

    @property
    def group_size(self) -> int:
        """Number of ranks in each group."""
        return len(self.groups[0])


_HBM = (MemoryRegion.private_hbm, MemoryRegion.shared_hbm)


def _total(ops: Any, op: str, arrays: Sequence[Any]) -> Any:
    return functools.reduce(getattr(ops, op), arrays)


def _chunk(array: Any, number: int, count: int) -> Any:
    """Return a part of an array that is split along dimension 0."""
    rows = array.shape[0] // count
    return array[number * rows : (number + 1) * rows]


@instruction(engine=ENGINE, nki="all_reduce", exposed=False)
class AllReduce(Collective):
    """Each rank's dst = the sum (minimum, maximum) of the src of all ranks."""

    src: In
    dst: Out
    groups: Groups
    op: str
    priority: int | None = None
    coalesced: bool = False

    def check(self, core: NeuronCore) -> None:
        """Refuse mixed memories, other operators and unequal shapes."""
        self._check_memories(core, True, "src", "dst")
        limits.check_operator(self, "op", OPERATORS)
        self._check_shape("dst", self.src.shape, "src")

    def exchange(self, ops: Any, parts: Mapping[CoreId, Any], read: Read) -> Values:
        """Return the totals, computed once for each core number."""
        totals = {
            core.number: _total(ops, self.op, self.gathered(read, core))
            for core in parts
            if core.rank == self.group(core.rank)[0]
        }
        return {core: (totals[core.number],) for core in parts}


@instruction(engine=ENGINE, nki="all_gather", exposed=False)
class AllGather(Collective):
    """Each rank's dst = the src of all ranks one after another along `collective_dim`."""

    src: In
    dst: Out
    groups: Groups
    collective_dim: int
    priority: int | None = None
    coalesced: bool = False

    @property
    def raw(self) -> bool:
        """Bits are moved unchanged."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse mixed memories, other dimensions and a dst that is not the whole."""
        self._check_memories(core, True, "src", "dst")
        on_chip = self.src.buffer.is_on_chip
        self._check_dim(self.collective_dim, (0, 1) if on_chip else (0,))
        if on_chip and len(self.src.shape) != 2:
            raise self.refuse(
                f"src {list(self.src.shape)} in SBUF is not 2-D", "Reshape it to [P, F]."
            )
        whole = list(self.src.shape)
        whole[self.collective_dim] *= self.group_size
        self._check_shape("dst", whole, f"the src of {self.group_size} ranks together")

    def exchange(self, ops: Any, parts: Mapping[CoreId, Any], read: Read) -> Values:
        """Return the whole, made once for each core number."""
        wholes = {
            core.number: ops.concatenate(self.gathered(read, core), self.collective_dim)
            for core in parts
            if core.rank == self.group(core.rank)[0]
        }
        return {core: (wholes[core.number],) for core in parts}


@instruction(engine=ENGINE, nki="reduce_scatter", exposed=False)
class ReduceScatter(Collective):
    """The n-th rank's dst = the n-th part, along dimension 0, of the total of all src."""

    src: In
    dst: Out
    groups: Groups
    collective_dim: int
    op: str
    priority: int | None = None
    coalesced: bool = False

    def check(self, core: NeuronCore) -> None:
        """Refuse mixed memories, other dimensions and operators, and parts that do not fit."""
        self._check_memories(core, True, "src", "dst")
        limits.check_operator(self, "op", OPERATORS)
        self._check_dim(self.collective_dim, (0,))
        self._check_divides(self.group_size)
        part = (self.src.shape[0] // self.group_size, *self.src.shape[1:])
        self._check_shape("dst", part, f"the part of each of {self.group_size} ranks")

    def exchange(self, ops: Any, parts: Mapping[CoreId, Any], read: Read) -> Values:
        """Return the total of each rank's part."""
        values = {}
        for core in parts:
            group = self.group(core.rank)
            place = group.index(core.rank)
            mine = [_chunk(x, place, len(group)) for x in self.gathered(read, core)]
            values[core] = (_total(ops, self.op, mine),)
        return values


@instruction(engine=ENGINE, nki="all_to_all", exposed=False)
class AllToAll(Collective):
    """The m-th part of the n-th rank's dst = the n-th part of the m-th rank's src."""

    src: In
    dst: Out
    groups: Groups
    collective_dim: int
    priority: int | None = None
    coalesced: bool = False

    @property
    def raw(self) -> bool:
        """Bits are moved unchanged."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse SBUF, other dimensions, unequal shapes and parts that do not fit."""
        self._check_memories(core, False, "src", "dst")
        self._check_dim(self.collective_dim, (0,))
        self._check_divides(self.group_size)
        self._check_shape("dst", self.src.shape, "src")

    def exchange(self, ops: Any, parts: Mapping[CoreId, Any], read: Read) -> Values:
        """Return the parts meant for each rank."""
        values = {}
        for core in parts:
            group = self.group(core.rank)
            place = group.index(core.rank)
            meant = [_chunk(x, place, len(group)) for x in self.gathered(read, core)]
            values[core] = (ops.concatenate(meant, 0),)
        return values

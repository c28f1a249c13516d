"""Instructions that several cores carry out together.

Each core that takes part issues the instruction and goes on once all have. The n-th instruction of
a topic on one core meets the n-th of that topic on the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple, Protocol

from emuron.isa.instruction import WRITE_KINDS, Instruction


class CoreId(NamedTuple):
    """A physical core of a launch: its rank (logical core) and its number within the rank."""

    rank: int
    number: int

    def __str__(self) -> str:
        return f"core {self.number} of rank {self.rank}"


class Operands(Protocol):
    """The data of one core's operands."""

    def read(self) -> tuple[Any, ...]:
        """Return a copy of each operand that is read."""

    def write(self, values: tuple[Any, ...]) -> None:
        """Write a value into each operand that is written: an array, Pieces, or None for none."""


class Stage(NamedTuple):
    """One step of a meeting in the queues of a core.

    It comes after its core's earlier accesses to the operands that it `touches`, as a write of
    them does, or as a read of those in `reads`; and after the stages `awaits`, each the number of a
    core of the rank and of a stage there. `queue` names its queue, None the instruction's own. The
    stage that is `timed` takes the instruction's cost, others take no time.
    """

    name: str
    touches: tuple[str, ...]
    awaits: tuple[tuple[int, int], ...] = ()
    reads: tuple[str, ...] = ()
    queue: str | None = None
    timed: bool = False


class Pieces(tuple[tuple[int, Any], ...]):
    """Values for parts of a flat buffer in HBM: (first element, values) each."""


class Meeting(Instruction):
    """An instruction that several cores carry out together.

    `meets` says who takes part and in what, `stages` what waits for what; `agree` refuses parts
    that do not fit each other; `exchange` gives each core what it writes from what all of them
    read.
    """

    __slots__ = ()

    def meets(self, here: CoreId, cores: int) -> tuple[Hashable, tuple[CoreId, ...]]:
        """Return the topic and all that take part, this core with them; a rank has `cores`."""
        raise NotImplementedError(self.mnemonic)

    def stages(self, here: CoreId, cores: int) -> tuple[Stage, ...]:
        """Return the steps of this core: it arrives, and goes on when all of its rank have."""
        writes = tuple(name for name, kind in self.operands if kind in WRITE_KINDS)
        reads = tuple(name for name, kind in self.operands if kind not in WRITE_KINDS)
        _, members = self.meets(here, cores)
        awaits = tuple((member.number, 0) for member in members if member.rank == here.rank)
        arrive = Stage("arrives", writes, reads=reads)
        return arrive, Stage("goes on", writes, awaits, reads, timed=True)

    def agree(self, parts: Mapping[CoreId, Any]) -> None:
        """Raise UsageError where the instructions of the cores do not fit each other."""

    def exchange(
        self, ops: Any, parts: Mapping[CoreId, Any], read: Mapping[CoreId, tuple[Any, ...]]
    ) -> Mapping[CoreId, tuple[Any, ...]]:
        """Return the values of each core's written operands from those that all read."""
        raise NotImplementedError(self.mnemonic)

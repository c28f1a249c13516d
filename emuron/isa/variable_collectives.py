"""Collectives of run-time lengths: each rank's counts and places stand in a metadata tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from emuron.errors import OutOfBoundsError
from emuron.isa.instruction import In, OptIn, OptOut, Out, instruction
from emuron.isa.meetings import CoreId, Pieces
from emuron.isa.rank_collectives import ENGINE, Collective, Groups, Read, Values
from emuron.numerics.dtypes import uint32

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

_GATHER_RANKS = 4  # all_gather_v is for the four ranks of a chip (NKI all_gather_v)


class VariableCollective(Collective):
    """`sends` holds the counts and displacements of what is sent, `receives` (optional) where what
    comes from each rank is put; the counts received are written to `counts` (optional).

    All are in elements; without `receives` each rank has an equal part of dst.
    """

    __slots__ = ()

    sends: In
    receives: OptIn
    counts: OptOut

    @property
    def raw(self) -> bool:
        """Bits are moved unchanged."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse SBUF and metadata of another dtype."""
        self._check_memories(core, False, "src", "dst")
        for name in ("sends", "receives", "counts"):
            view = getattr(self, name)
            if view is not None and view.dtype != uint32:
                raise self.refuse(f"the metadata are {view.dtype}", "They are uint32.")

    def sent(self, ops: Any, read: tuple[Any, ...], place: int) -> tuple[int, int]:
        """Return count and displacement of what a core sends to the rank at a place."""
        raise NotImplementedError(self.mnemonic)

    def exchange(self, ops: Any, parts: Mapping[CoreId, Any], read: Read) -> Values:
        """Return to each rank the pieces that all send to it, and their lengths."""
        return {core: self._received(ops, core, part, read) for core, part in parts.items()}

    def _received(self, ops: Any, core: CoreId, part: Any, read: Read) -> tuple[Any, ...]:
        group = self.group(core.rank)
        slots = [self.dst.size // len(group) * n for n in range(len(group))]
        if part.receives is not None:
            slots = [int(x) for x in ops.numpy(read[core][2]).reshape(-1)]
        pieces, lengths = [], []
        for sender, slot in zip(group, slots, strict=True):
            values = read[CoreId(sender, core.number)]
            count, start = self.sent(ops, values, group.index(core.rank))
            self._check_range("src", self.src.size, start, count, sender)
            room = self.dst.size // len(group) if part.receives is None else self.dst.size - slot
            if count > room:
                raise OutOfBoundsError(
                    f"{self.mnemonic}: rank {sender} sends {count} elements to rank {core.rank}, "
                    f"whose dst has room for {room} from it. Send less or allocate more."
                )
            pieces.append((slot, values[0].reshape(-1)[start : start + count]))
            lengths.append(count)
        written: tuple[Any, ...] = (Pieces(pieces),)
        if part.counts is not None:
            written += (ops.asarray(np.array(lengths, np.uint32)),)
        return written

    def _check_range(self, name: str, size: int, start: int, count: int, rank: int) -> None:
        if start + count > size:
            raise OutOfBoundsError(
                f"{self.mnemonic}: rank {rank} sends elements {start} to {start + count - 1} of "
                f"{name}, which has {size}. Correct the metadata."
            )


@instruction(engine=ENGINE, nki="all_gather_v", exposed=False)
class AllGatherV(VariableCollective):
    """Each rank's dst gets a chunk of each rank's src; of `sends` the first column counts."""

    src: In
    dst: Out
    sends: In
    receives: OptIn
    counts: OptOut
    groups: Groups
    priority: int | None = None

    def check(self, core: NeuronCore) -> None:
        """Refuse other than four ranks, and given places (limits of NKI 0.6)."""
        VariableCollective.check(self, core)
        if self.group_size != _GATHER_RANKS:
            raise self.refuse(
                f"a group has {self.group_size} ranks", f"It is for groups of {_GATHER_RANKS}."
            )
        if self.receives is not None:
            raise self.refuse("has_rdispls=True is not supported", "Use has_rdispls=False.")

    def sent(self, ops: Any, read: tuple[Any, ...], place: int) -> tuple[int, int]:
        """Return the one chunk that goes to every rank."""
        sends = ops.numpy(read[1]).reshape(2, -1)
        return int(sends[0, 0]), int(sends[1, 0])


@instruction(engine=ENGINE, nki="all_to_all_v", exposed=False)
class AllToAllV(VariableCollective):
    """Each rank's dst gets from each rank the chunk of its src that is meant for it."""

    src: In
    dst: Out
    sends: In
    receives: OptIn
    counts: OptOut
    groups: Groups
    priority: int | None = None

    def sent(self, ops: Any, read: tuple[Any, ...], place: int) -> tuple[int, int]:
        """Return the chunk for the rank at a place of the group."""
        sends = ops.numpy(read[1]).reshape(2, -1)
        return int(sends[0, place]), int(sends[1, place])

"""Collectives of `nki.collectives` whose lengths stand in a metadata tensor, whole or split.

The metadata are uint32, one column a rank: counts sent, displacements sent, counts received (an
output), displacements received. Rules: NKI reference, `all_to_all_v`, and of NKI 0.7 its split
forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emuron.errors import HardwareLimitError, UsageError
from emuron.isa.rank_collectives import Groups
from emuron.isa.tensor import MemoryRegion
from emuron.isa.variable_collectives import AllGatherV, AllToAllV, VariableCollective
from emuron.nki import isa
from emuron.nki.creation import allocate
from emuron.nki.isa import NkiInstruction
from emuron.nki.recorder import recorder
from emuron.nki.replica_groups import (
    ReplicaGroup,
    check_priority,
    groups_of,
    meet,
    one_pair,
)
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import uint32

nisa: Any = isa  # its functions are made from the instruction classes

_SWITCHED = 4  # NeuronCore-v4: servers of trn3 have NeuronSwitches


class Prepared(NkiInstruction):
    """A split collective between its two halves."""

    __slots__ = ("cls", "operands", "attributes")

    def __init__(
        self, cls: type[VariableCollective], operands: tuple[Any, ...], attributes: tuple[Any, ...]
    ) -> None:
        self.cls = cls
        self.operands = operands
        self.attributes = attributes


def _row(metadata: NkiTensor, first: int, last: int) -> NkiTensor:
    """Return rows of the metadata, which on chip lie on one partition."""
    return metadata[:, first:last, :] if metadata.buffer.is_on_chip else metadata[first:last, :]


def _check_metadata(mnemonic: str, metadata: Any, groups: Groups, has_rdispls: bool) -> None:
    ranks, rows = len(groups[0]), 4 if has_rdispls else 3
    shape = list(metadata.shape) if isinstance(metadata, NkiTensor) else []
    wanted = [[count, ranks] for count in range(rows, 5)]
    if shape not in wanted and shape not in [[1, *some] for some in wanted]:
        raise HardwareLimitError(
            f"{mnemonic}: metadata_tensor is {metadata!r}; it must be [{rows}, {ranks}] in HBM or "
            f"[1, {rows}, {ranks}] in SBUF: {rows} rows, a column for each rank of the group."
        )


def _prepared(
    cls: type[VariableCollective],
    lists: tuple[Sequence[NkiTensor], Sequence[NkiTensor]],
    replica_group: ReplicaGroup,
    metadata: NkiTensor,
    recv_counts_known: bool,
    has_rdispls: bool,
    priority: int | None,
) -> Prepared:
    """Return the instruction that these arguments mean."""
    mnemonic = cls.mnemonic
    check_priority(mnemonic, priority)
    groups = groups_of(replica_group)
    _check_metadata(mnemonic, metadata, groups, has_rdispls)
    seat, core = recorder().seat, recorder().core
    needs_both = cls is AllGatherV or (core.nc_version or 0) >= _SWITCHED
    if needs_both and (seat is None or seat.cores != 2):
        raise HardwareLimitError(
            f"{mnemonic} on NeuronCore-{core.version} needs logical cores of two physical ones. "
            "Launch the kernel as kernel[2]."
        )
    counts = None if recv_counts_known else _row(metadata, 2, 3)
    receives = _row(metadata, 3, 4) if has_rdispls else None
    operands = (*one_pair(mnemonic, *lists), _row(metadata, 0, 2), receives, counts)
    return Prepared(cls, operands, (groups, priority))


def _copied(view: NkiTensor | None) -> NkiTensor | None:
    """Return a copy in HBM of rows of the metadata."""
    if view is None:
        return None
    copy = allocate(view.shape[-2:], uint32, MemoryRegion.private_hbm)
    nisa.dma_copy(copy, view)
    return copy


def _prepare(prepared: Prepared) -> Prepared:
    """Read the metadata now; the data are left for the trigger."""
    active = recorder()
    name = prepared.cls.mnemonic
    if (active.core.nc_version or 0) >= _SWITCHED:
        raise HardwareLimitError(
            f"{name}_prepare: servers of NeuronCore-{active.core.version} have no split form. "
            f"Use {name}."
        )
    if active.prepared is not None:
        raise UsageError(
            f"{name}_prepare: the one prepared before has not been triggered. Call its trigger "
            "first: there is one slot."
        )
    src, dst, sends, receives, counts = prepared.operands
    prepared.operands = (src, dst, _copied(sends), _copied(receives), counts)
    active.prepared = prepared
    return prepared


def _trigger(cls: type[VariableCollective], prepared: NkiInstruction) -> NkiInstruction:
    """Carry out what was prepared, once."""
    active = recorder()
    if not isinstance(prepared, Prepared) or prepared.cls is not cls:
        raise UsageError(
            f"{cls.mnemonic}_trigger takes what {cls.mnemonic}_prepare returned, not {prepared!r}."
        )
    if active.prepared is not prepared:
        raise UsageError(
            f"{cls.mnemonic}_trigger: this was triggered before. Each prepare has one trigger."
        )
    active.prepared = None
    return meet(cls, prepared.operands, prepared.attributes)


def all_gather_v(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Gather one chunk of each rank's src, of any length, into equal slots of dst."""
    given = (replica_group, metadata_tensor, recv_counts_known, has_rdispls, priority)
    made = _prepared(AllGatherV, (srcs, dsts), *given)
    return meet(made.cls, made.operands, made.attributes)


def all_to_all_v(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Send each rank a chunk of src of its own length; without `has_rdispls` into equal slots."""
    given = (replica_group, metadata_tensor, recv_counts_known, has_rdispls, priority)
    made = _prepared(AllToAllV, (srcs, dsts), *given)
    return meet(made.cls, made.operands, made.attributes)


def all_gather_v_prepare(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Read the metadata of an all_gather_v; give the result to all_gather_v_trigger."""
    given = (replica_group, metadata_tensor, recv_counts_known, has_rdispls, priority)
    return _prepare(_prepared(AllGatherV, (srcs, dsts), *given))


def all_to_all_v_prepare(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Read the metadata of an all_to_all_v; give the result to all_to_all_v_trigger."""
    given = (replica_group, metadata_tensor, recv_counts_known, has_rdispls, priority)
    return _prepare(_prepared(AllToAllV, (srcs, dsts), *given))


def all_gather_v_trigger(prepare_instr: NkiInstruction, name: str | None = None) -> NkiInstruction:
    """Move the data of what all_gather_v_prepare began."""
    return _trigger(AllGatherV, prepare_instr)


def all_to_all_v_trigger(prepare_instr: NkiInstruction, name: str | None = None) -> NkiInstruction:
    """Move the data of what all_to_all_v_prepare began."""
    return _trigger(AllToAllV, prepare_instr)

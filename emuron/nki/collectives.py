"""`nki.collectives`: what ranks (logical cores) do together.

Rules and limits: NKI reference, `nki.collectives` (`nki_api.md` §11). Run kernels with collectives
by `nki.simulate_ranks(kernel, inputs)`, which has the inputs of each rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emuron.errors import HardwareLimitError, UsageError
from emuron.isa.permutes import (
    CollectivePermute,
    CollectivePermuteImplicit,
    CollectivePermuteImplicitReduce,
    ring_rank,
)
from emuron.isa.rank_collectives import AllGather, AllReduce, AllToAll, Collective, ReduceScatter
from emuron.nki.isa import NkiInstruction
from emuron.nki.operators import operator_name
from emuron.nki.recorder import recorder
from emuron.nki.registers import VirtualRegister
from emuron.nki.replica_groups import (
    ReplicaGroup,
    check_priority,
    groups_of,
    meet,
    one_pair,
    paired,
)
from emuron.nki.tensor import NkiTensor
from emuron.nki.variable_collectives import (
    all_gather_v,
    all_gather_v_prepare,
    all_gather_v_trigger,
    all_to_all_v,
    all_to_all_v_prepare,
    all_to_all_v_trigger,
)

__all__ = [
    "ReplicaGroup",
    "all_gather",
    "all_gather_v",
    "all_gather_v_prepare",
    "all_gather_v_trigger",
    "all_reduce",
    "all_to_all",
    "all_to_all_v",
    "all_to_all_v_prepare",
    "all_to_all_v_trigger",
    "collective_permute",
    "collective_permute_implicit",
    "collective_permute_implicit_current_processing_rank_id",
    "collective_permute_implicit_reduce",
    "rank_id",
    "reduce_scatter",
]

_MOST_CHANNELS = 4


def _coalesced(
    cls: type[Collective],
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    attributes: tuple[Any, ...],
) -> NkiInstruction:
    """Issue a collective over lists of tensors, of which several must lie in HBM."""
    pairs = paired(cls.mnemonic, srcs=srcs, dsts=dsts)
    if len(pairs) > 1 and any(view.buffer.is_on_chip for pair in pairs for view in pair):
        raise HardwareLimitError(
            f"{cls.mnemonic}: {len(pairs)} tensors in SBUF. Several tensors in one call must lie "
            "in HBM; call it once for each."
        )
    made = [
        meet(cls, (src, dst), (*attributes, number > 0)) for number, (src, dst) in enumerate(pairs)
    ]
    return made[-1]


def all_reduce(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    op: Any,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Let each dst be the sum, minimum or maximum of the ranks' src; HBM or SBUF, any shape.

    Adds in fp32 in the order of the group, and rounds to the dtype once.
    """
    check_priority("all_reduce", priority)
    attributes = (groups_of(replica_group), operator_name(op), priority)
    return _coalesced(AllReduce, srcs, dsts, attributes)


def all_gather(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Let each dst be the ranks' src one after another along dimension 0 (in SBUF 0 or 1)."""
    check_priority("all_gather", priority)
    attributes = (groups_of(replica_group), collective_dim, priority)
    return _coalesced(AllGather, srcs, dsts, attributes)


def reduce_scatter(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    op: Any,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Let each rank's dst be its part, along dimension 0, of the total of the ranks' src."""
    check_priority("reduce_scatter", priority)
    attributes = (groups_of(replica_group), collective_dim, operator_name(op), priority)
    return _coalesced(ReduceScatter, srcs, dsts, attributes)


def all_to_all(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Send part n of each src, along dimension 0, to the n-th rank; HBM."""
    check_priority("all_to_all", priority)
    attributes = (groups_of(replica_group), collective_dim, priority)
    return _coalesced(AllToAll, srcs, dsts, attributes)


def collective_permute(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    source_target_pairs: Sequence[tuple[int, int]],
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Send src of each source to dst of its target; HBM, one tensor. Other dst stay unchanged."""
    check_priority("collective_permute", priority)
    pairs = tuple((int(source), int(target)) for source, target in source_target_pairs)
    if not pairs:
        raise UsageError("collective_permute: source_target_pairs is empty; give (0, 1), say.")
    operands = one_pair("collective_permute", srcs, dsts)
    return meet(CollectivePermute, operands, (pairs, priority))


def _channels(mnemonic: str, channel_ids: Sequence[int], *by_channel: Sequence[Any]) -> None:
    if list(channel_ids) != list(range(len(channel_ids))) or len(channel_ids) > _MOST_CHANNELS:
        raise HardwareLimitError(
            f"{mnemonic}: channel_ids={list(channel_ids)}; channels are 0, 1, … in order, at most "
            f"{_MOST_CHANNELS}."
        )
    for lists in by_channel:
        if len(lists) != len(channel_ids) or any(len(tensors) != 1 for tensors in lists):
            raise HardwareLimitError(
                f"{mnemonic}: tensors by channel are {[len(tensors) for tensors in lists]} for "
                f"{len(channel_ids)} channels. Give a list with exactly one tensor for each."
            )


def collective_permute_implicit(
    srcs_by_channel: Sequence[Sequence[NkiTensor]],
    dsts_by_channel: Sequence[Sequence[NkiTensor]],
    replica_group: ReplicaGroup,
    channel_ids: Sequence[int] = (0,),
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Send src to the next rank of the group, and receive dst from the one before; a ring."""
    mnemonic = "collective_permute_implicit"
    check_priority(mnemonic, priority)
    _channels(mnemonic, channel_ids, srcs_by_channel, dsts_by_channel)
    ring = groups_of(replica_group)
    made = [
        meet(CollectivePermuteImplicit, (srcs[0], dsts[0]), (ring, channel, priority, channel > 0))
        for channel, (srcs, dsts) in enumerate(zip(srcs_by_channel, dsts_by_channel, strict=True))
    ]
    return made[-1]


def collective_permute_implicit_reduce(
    srcs0_by_channel: Sequence[Sequence[NkiTensor]],
    srcs1_by_channel: Sequence[Sequence[NkiTensor]],
    dsts_by_channel: Sequence[Sequence[NkiTensor]],
    replica_group: ReplicaGroup,
    op: Any,
    channel_ids: Sequence[int] = (0,),
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Send op(src0, src1) to the next rank of the group, and receive dst from the one before."""
    mnemonic = "collective_permute_implicit_reduce"
    check_priority(mnemonic, priority)
    by_channel = (srcs0_by_channel, srcs1_by_channel, dsts_by_channel)
    _channels(mnemonic, channel_ids, *by_channel)
    ring = groups_of(replica_group)
    made = [
        meet(
            CollectivePermuteImplicitReduce,
            tuple(tensors[0] for tensors in lists),
            (ring, operator_name(op), channel, priority, channel > 0),
        )
        for channel, lists in enumerate(zip(*by_channel, strict=True))
    ]
    return made[-1]


def collective_permute_implicit_current_processing_rank_id(
    iteration_id: int,
    replica_group: ReplicaGroup,
    channel_id: int = 0,
    name: str | None = None,
    num_channels: int | None = None,
) -> VirtualRegister:
    """Return, as a register, the rank whose data are here after so many steps around the ring.

    At 0 the rank itself, then the one before it in the group, and so on.
    """
    for group in groups_of(replica_group):
        if _rank() in group:
            return VirtualRegister(recorder(), ring_rank(group, _rank(), int(iteration_id)))
    raise UsageError(f"Rank {_rank()} is in none of the groups of {replica_group!r}.")


def rank_id(name: str | None = None) -> VirtualRegister:
    """Return the number of this rank, as a register."""
    return VirtualRegister(recorder(), _rank())


def _rank() -> int:
    seat = recorder().seat
    return 0 if seat is None else seat.id.rank

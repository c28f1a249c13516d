"""How long a collective takes: latency of its algorithm, and bytes over links and memory.

The model: `hardware.md` §5 (algorithms by size, latencies a step) with the link and memory figures
of the chip. Ranks are numbered chip by chip. All ranks are taken to arrive together. On an
instance, whose links are known, rings go around the cores of a chip, then along each axis of chips.
"""

from __future__ import annotations

from math import ceil, log2

from emuron.hardware.chip import Chip
from emuron.hardware.topology import Topology
from emuron.isa.instruction import CollectiveCost

# Reads and writes of each byte at a rank's memory: one each, and a second read where it is reduced.
_TOUCHES = 2
_TOUCHES_REDUCING = 3
_REDUCING = ("all_reduce", "reduce_scatter", "collective_permute_implicit_reduce")


def duration_us(
    cost: CollectiveCost, chip: Chip, lnc: int, topology: Topology | None = None
) -> float:
    """Return the time of a collective among ranks of `lnc` physical cores each.

    Without a `topology` all ranks are taken to be on one ring.
    """
    latency = 0.0 if cost.coalesced else _latency_us(cost, chip, lnc, topology)
    return latency + max(_memory_us(cost, chip, lnc), _link_us(cost, chip, lnc))


def _chips(cost: CollectiveCost, chip: Chip, lnc: int) -> int:
    return ceil(cost.ranks / (chip.cores // lnc))


def _rounds(cost: CollectiveCost) -> int:
    """Return how often all data go around: an all-reduce scatters totals, then gathers them."""
    return 2 if cost.kind == "all_reduce" else 1


def _latency_us(cost: CollectiveCost, chip: Chip, lnc: int, topology: Topology | None) -> float:
    """Return floor and hops of the algorithm that the size chooses."""
    spec = chip.collectives
    if cost.ranks == 1 or cost.kind.startswith("collective_permute"):
        return spec.floor_us
    if spec.mesh_max_bytes is not None and cost.bytes <= spec.mesh_max_bytes:
        return spec.floor_us
    if spec.rdh_max_bytes is not None and cost.bytes <= spec.rdh_max_bytes:
        hops: float = ceil(log2(cost.ranks))
    elif "kangaring" in spec.algorithms:
        hops = cost.ranks / 2
    else:
        hops = _ring_hops(cost, chip, lnc, topology)
    return spec.floor_us + _rounds(cost) * hops * spec.ring_hop_us


def _ring_hops(cost: CollectiveCost, chip: Chip, lnc: int, topology: Topology | None) -> int:
    """Return the hops around the rings that all ranks' data take once."""
    chips = _chips(cost, chip, lnc)
    if topology is None or chips > topology.chips:
        return cost.ranks - 1
    return ceil(cost.ranks / chips) - 1 + topology.gathering_steps(chips)


def _moved(cost: CollectiveCost, parts: int) -> float:
    """Return the bytes that must come from outside to one of `parts` equal parts of the group."""
    if cost.kind.startswith("collective_permute"):
        return float(cost.bytes)
    return _rounds(cost) * cost.bytes * (parts - 1) / parts


def _memory_us(cost: CollectiveCost, chip: Chip, lnc: int) -> float:
    """Return the time of a rank's transfers by its DMA engines and its share of the memory."""
    touches = _TOUCHES_REDUCING if cost.kind in _REDUCING else _TOUCHES
    ranks_per_stack = max(1, chip.cores_per_stack // lnc)
    memory_gb_per_s = chip.hbm_stack_gb_per_s * chip.hbm_efficiency / ranks_per_stack / touches
    dma_gb_per_s = chip.core.dma.core_gb_per_s * lnc
    if cost.kind in _REDUCING:
        dma_gb_per_s *= chip.core.dma.compute_rate
    return _moved(cost, cost.ranks) / (min(memory_gb_per_s, dma_gb_per_s) * 1000)


def _link_us(cost: CollectiveCost, chip: Chip, lnc: int) -> float:
    """Return the time of what each chip gets from others over its links."""
    chips = _chips(cost, chip, lnc)
    if chips == 1:
        return 0.0
    # What is gathered or reduced comes to a chip once; what is exchanged, to each of its ranks.
    exchanges = cost.kind.startswith("all_to_all")
    entering = _moved(cost, chips) * (cost.ranks / chips if exchanges else 1)
    return entering / (chip.links.intra_gb_per_s * chip.collectives.link_efficiency * 1000)

"""What a DMA transfer costs.

A ring moves its transfers in order; transfers of different rings share the DMA engines of the core
and the HBM. Work is counted as the time a transfer needs with all engines of the core.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from emuron.hardware.chip import DmaSpec
from emuron.isa.instruction import DmaCost
from emuron.sim.timing_layout import FRACTION, ONE


@dataclass(frozen=True, slots=True)
class Transfer:
    """A DMA transfer as the timing engine sees it.

    `work_ps` is the time with all DMA engines of the core, `largest_share` the part of them that
    the transfer can use (of ONE), `hbm_rate` its HBM traffic in bytes/ps (<< FRACTION) while it
    has them all. It moves its first byte `before_ps` after its trigger, a dependent instruction
    may start `after_ps` after its last, and the next trigger on the ring `issue_ps` after its own.
    """

    work_ps: int
    largest_share: int
    hbm_rate: int
    before_ps: int
    after_ps: int
    issue_ps: int


def transfer(cost: DmaCost, spec: DmaSpec) -> Transfer:
    """Return what a transfer needs (hardware.md §2.8, §2.10)."""
    descriptors = max(1, cost.descriptors)
    engines = min(spec.engines, descriptors)
    if cost.partitions is not None:
        engines = min(engines, ceil(cost.partitions / spec.partitions_per_engine))
    element_bytes = cost.bytes / descriptors
    engine_gb_per_s = spec.core_gb_per_s / spec.engines
    floor_ns = (
        spec.element_min_ns
        if element_bytes >= spec.element_full_bytes
        else spec.small_element_min_ns
    )
    element_ns = max(floor_ns, element_bytes / engine_gb_per_s)
    busy_ns = ceil(descriptors / engines) * element_ns / cost.rate
    busy_ns += ceil(cost.hbm_jumps / engines) * spec.hbm_jump_ns
    work_ps = max(1, round(busy_ns * 1000 * engines / spec.engines))
    extra_ns, issue_ns = _trigger(cost.trigger, spec)
    return Transfer(
        work_ps=work_ps,
        largest_share=ONE * engines // spec.engines,
        hbm_rate=(cost.hbm_bytes << FRACTION) // work_ps,
        before_ps=round((spec.fixed_before_ns + extra_ns) * 1000),
        after_ps=round((spec.fixed_ns - spec.fixed_before_ns) * 1000),
        issue_ps=round(issue_ns * 1000),
    )


def _trigger(kind: str, spec: DmaSpec) -> tuple[float, float]:
    """Return (added latency, least time between triggers) in ns of a way to make descriptors."""
    if kind == "swdge":
        return spec.swdge_extra_ns, spec.gpsimd_trigger_ns
    if kind == "hwdge" and spec.hwdge_ns is not None:
        return 0.0, spec.hwdge_ns
    return 0.0, spec.trigger_ns + spec.trigger_second_ns

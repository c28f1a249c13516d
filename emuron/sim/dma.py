"""What a DMA transfer costs, and the rings that transfers are spread over.

A ring moves its transfers in order; transfers of different rings share the DMA engines of the core
and the HBM. Work is counted as the time a transfer needs with all engines of the core.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from emuron.hardware.chip import DmaSpec
from emuron.isa.instruction import DmaCost, Form
from emuron.sim.timing_layout import FRACTION, ONE

# A core's rings are divided among these uses, so that a wait in one does not hold up the others.
RING_USES = ("weights", "loads", "stores", "copies")


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
    element_bytes = cost.bytes / descriptors
    engine_gb_per_s = spec.core_gb_per_s / spec.engines
    floor_ns = (
        spec.element_min_ns
        if element_bytes >= spec.element_full_bytes
        else spec.small_element_min_ns
    )
    element_ns = max(floor_ns, element_bytes / engine_gb_per_s)
    busy_ns = ceil(descriptors / engines) * element_ns / cost.rate
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


def ring_use(form: Form, roles: dict[str, str]) -> str:
    """Return what a transfer is for; `roles` maps each operand field to its tensor's role."""
    reads = [name for name, kind in form.operand_fields if kind in ("In", "OptIn", "Scalar")]
    writes = [name for name, kind in form.operand_fields if kind in ("Out", "OptOut", "InOut")]
    from_hbm = [n for n in reads if "." not in n and not _on_chip(form, n)]
    to_hbm = [n for n in writes if not _on_chip(form, n)]
    if to_hbm:
        return "copies" if from_hbm else "stores"
    if not from_hbm:
        return "copies"
    return "weights" if all(roles[name] == "parameter" for name in from_hbm) else "loads"


def _on_chip(form: Form, name: str) -> bool:
    return bool(getattr(form.example, name).buffer.is_on_chip)


class RingChooser:
    """Spreads the transfers of each use over its rings, in turn."""

    def __init__(self, spec: DmaSpec) -> None:
        self._rings = max(1, spec.queues_per_engine // len(RING_USES))
        self._next = dict.fromkeys(RING_USES, 0)

    def choose(self, use: str) -> str:
        """Return the name of the ring for the next transfer of a use."""
        number = self._next[use]
        self._next[use] = (number + 1) % self._rings
        return f"dma-{use}{number}"

"""Bounds: how fast the same work could be if one resource alone mattered, and the roofline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from emuron.trace.summary import kind_title
from emuron.trace.work import Figures, Traffic, Work


@dataclass(frozen=True, slots=True)
class Bound:
    """The least time that one resource needs for the work: no run can be shorter."""

    resource: str
    title: str
    least_ps: int


@dataclass(frozen=True, slots=True)
class RooflineUse:
    """A kernel under the roofline: FLOPs of the tensor engine for each byte at the HBM.

    `attainable_tflops` is the roof at this intensity, `roof_share` how much of it was reached.
    """

    flops: int
    hbm_bytes: int
    intensity: float
    ridge_intensity: float
    peak_tflops: float
    hbm_gb_per_s: float
    attainable_tflops: float
    achieved_tflops: float
    roof_share: float
    bound_by: str


def find_bounds(works: Iterable[Work], hbm_bytes: int, figures: Figures) -> tuple[Bound, ...]:
    """Return the least time of each engine, of a core's DMA and of the HBM, the longest first."""
    busy: dict[tuple[str, int], int] = {}
    for work in works:
        key = (work.engine, work.core)
        busy[key] = busy.get(key, 0) + work.count * work.busy_ps
    longest: dict[str, int] = {}
    for (engine, _), ps in busy.items():
        longest[engine] = max(ps, longest.get(engine, 0))
    bounds = [Bound(engine, kind_title(engine), ps) for engine, ps in longest.items() if ps]
    if hbm_bytes:
        least = round(hbm_bytes * 1000 / figures.hbm_gb_per_s)
        bounds.append(Bound("hbm", "HBM bandwidth", least))
    return tuple(sorted(bounds, key=lambda bound: -bound.least_ps))


def roofline_use(
    flops: int, hbm_bytes: int, total_ps: int, figures: Figures, cores: int = 1
) -> RooflineUse | None:
    """Return where a kernel on some cores stands; None without matmuls or without HBM."""
    if not flops or not hbm_bytes or not total_ps:
        return None
    intensity = flops / hbm_bytes
    peak = figures.pe_tflops * cores
    ridge = peak * 1000 / figures.hbm_gb_per_s
    attainable = min(peak, intensity * figures.hbm_gb_per_s / 1000)
    achieved = flops / total_ps
    return RooflineUse(
        flops=flops,
        hbm_bytes=hbm_bytes,
        intensity=intensity,
        ridge_intensity=ridge,
        peak_tflops=peak,
        hbm_gb_per_s=figures.hbm_gb_per_s,
        attainable_tflops=attainable,
        achieved_tflops=achieved,
        roof_share=achieved / attainable,
        bound_by="compute" if intensity >= ridge else "bandwidth",
    )


def reread_bytes(traffic: Sequence[Traffic]) -> Mapping[str, int]:
    """Return the bytes that are read of each tensor beyond once, of those read more than twice."""
    return {
        t.tensor: t.read_bytes - t.size_bytes for t in traffic if t.read_bytes >= 2 * t.size_bytes
    }

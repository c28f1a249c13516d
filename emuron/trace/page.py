"""Page: what the report's template shows, arranged: bars, table rows, charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emuron.trace import quantity
from emuron.trace.activity import dma_bandwidth
from emuron.trace.charts import (
    Ceilings,
    LineChart,
    Roofline,
    RooflinePoint,
    line_chart,
    roofline,
)
from emuron.trace.repetition import unfold_if_small
from emuron.trace.summary import IDLE, GroupUse, QueueUse, Summary, kind_title
from emuron.trace.trace import Trace

if TYPE_CHECKING:
    from emuron.trace.report import RunReport

COLOURS = 12
"""Colours for groups that the page's style sheet has."""

_MOST_SEGMENTS = COLOURS
_MOST_ROWS = 400
_MOST_RINGS = 8
_MOST_MARKS = 16
_BANDWIDTH_BINS = 280
_MOST_EVENTS = 400_000
_COUNTER_TITLES = {"sbuf_bytes": "SBUF", "psum_bytes": "PSUM", "hbm_bytes": "HBM"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One engine, or all DMA rings taken together, and how busy it is."""

    name: str
    kind: str
    share: float
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the stacked bar; `colour` is 0 for the rest and the idle time."""

    name: str
    share: float
    colour: int
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of groups."""

    use: GroupUse
    colour: int
    busiest: str
    engines: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """All parts of the page that are not plain text."""

    bars: tuple[Bar, ...]
    segments: tuple[Segment, ...]
    rows: tuple[Row, ...]
    rows_left_out: int
    charts: tuple[LineChart, ...]
    roofline: Roofline | None
    kinds: tuple[tuple[str, str], ...]


def build_page(report: RunReport, summary: Summary) -> Page:
    """Return the page of a report whose trace has that summary."""
    busy = sorted((g for g in summary.groups if g.name != IDLE), key=lambda g: -g.share_ps)
    layers = _layers(summary)
    ranked = sorted(layers, key=lambda name: -layers[name])
    top = ranked if len(ranked) <= _MOST_SEGMENTS else ranked[: _MOST_SEGMENTS - 1]
    # Colours go along the order of execution, sizes do not: neighbours stay apart.
    colours = {name: 1 + i for i, name in enumerate(n for n in layers if n in top)}
    rows = tuple(
        Row(g, colours.get(_layer(g.name), 0), _busiest(g), _engine_parts(g)) for g in busy
    )
    return Page(
        bars=_bars(summary),
        segments=_segments(summary, layers, colours),
        rows=rows[:_MOST_ROWS],
        rows_left_out=max(0, len(rows) - _MOST_ROWS),
        charts=_charts(report.trace),
        roofline=roofline(_points(report, summary), report.ceilings or _ceilings(report.trace)),
        kinds=tuple((kind, kind_title(kind)) for kind in summary.kinds),
    )


def _layer(group: str) -> str:
    """Return the layer of a group: what stands before the first slash."""
    return group.partition("/")[0]


def _layers(summary: Summary) -> dict[str, float]:
    shares: dict[str, float] = {}
    for group in summary.groups:
        if group.name != IDLE:
            shares[_layer(group.name)] = shares.get(_layer(group.name), 0.0) + group.share
    return shares


def _segments(
    summary: Summary, layers: Mapping[str, float], colours: Mapping[str, int]
) -> tuple[Segment, ...]:
    found = [Segment(name, layers[name], colour) for name, colour in colours.items()]
    rest = [share for name, share in layers.items() if name not in colours]
    if rest:
        found.append(Segment(f"{len(rest)} others", sum(rest), 0))
    if summary.total_ps and summary.idle_ps:
        found.append(Segment("nothing runs", summary.idle_ps / summary.total_ps, 0, idle=True))
    return tuple(found)


def _busiest(use: GroupUse) -> str:
    if not use.busy_ps:
        return "–"
    return kind_title(max(use.busy_ps, key=lambda kind: use.busy_ps[kind]))


def _engine_parts(use: GroupUse) -> tuple[tuple[str, float], ...]:
    total = sum(use.busy_ps.values()) or 1
    return tuple((kind, ps / total) for kind, ps in use.busy_ps.items())


def _bars(summary: Summary) -> tuple[Bar, ...]:
    total = summary.total_ps or 1
    rings = [q for q in summary.queues if q.kind == "dma"]
    bars = [_bar(q) for q in summary.queues if q.kind != "dma"]
    if len(rings) > 1:
        any_busy = summary.kinds.get("dma", 0) / total
        mean = sum(q.busy_share for q in rings) / len(rings)
        detail = f"{len(rings)} rings, each {quantity.share_text(mean)} on average; "
        detail += quantity.bytes_text(summary.dma_bytes)
        bars.append(Bar("DMA, any ring", "dma", any_busy, quantity.share_text(any_busy), detail))
    if len(rings) <= _MOST_RINGS:
        bars += [_bar(q) for q in rings]
    return tuple(bars)


def _bar(use: QueueUse) -> Bar:
    parts = [f"{use.events:,} events", quantity.duration_text(use.busy_ps)]
    if use.bytes:
        parts.append(quantity.bytes_text(use.bytes))
    if use.flops:
        parts.append(quantity.count_text(use.flops, "FLOP"))
    return Bar(
        use.name, use.kind, use.busy_share, quantity.share_text(use.busy_share), ", ".join(parts)
    )


def _charts(trace: Trace) -> tuple[LineChart, ...]:
    capacities = trace.metadata.get("capacities", {})
    charts = [
        line_chart(
            f"{_COUNTER_TITLES.get(name, name)} in use",
            times.astype(np.float64),
            values,
            trace.total_ps,
            quantity.bytes_text if name.endswith("bytes") else quantity.digits,
            limit=capacities.get(name),
            binary=name.endswith("bytes"),
        )
        for name, (times, values) in trace.counters.items()
        if len(times)
    ]
    edges, rates = dma_bandwidth(unfold_if_small(trace, _MOST_EVENTS), _BANDWIDTH_BINS)
    if rates.any():
        limit: Any = trace.metadata.get("hbm_gb_per_s")
        charts.append(
            line_chart(
                "DMA bandwidth", edges[:-1], rates, trace.total_ps, _gb_per_s_text, limit=limit
            )
        )
    return tuple(charts)


def _gb_per_s_text(rate: float) -> str:
    return f"{quantity.digits(rate)} GB/s"


def _points(report: RunReport, summary: Summary) -> tuple[RooflinePoint, ...]:
    if report.points is not None:
        return report.points
    layers: dict[str, list[float]] = {}
    for g in summary.groups:
        sums = layers.setdefault(_layer(g.name), [0.0, 0.0, 0.0])
        for i, value in enumerate((g.flops, g.bytes, g.share_ps)):
            sums[i] += value
    whole = RooflinePoint("whole run", summary.flops, summary.dma_bytes, summary.total_ps)
    points = [RooflinePoint(name, *sums) for name, sums in layers.items()]
    largest = sorted(points, key=lambda p: -p.time_ps)[: _MOST_MARKS - 1]
    return (whole, *(p for p in points if p in largest))


def _ceilings(trace: Trace) -> Ceilings:
    peaks = trace.metadata.get("pe_peaks_tflops")
    if not peaks:
        peak = trace.metadata.get("pe_peak_tflops")
        peaks = {"PE": peak} if peak else {}
    paths = {"HBM": trace.metadata.get("hbm_gb_per_s"), "DMA": trace.metadata.get("dma_gb_per_s")}
    return Ceilings(
        tuple((str(name), float(peak)) for name, peak in peaks.items()),
        tuple((name, float(slope)) for name, slope in paths.items() if slope),
    )

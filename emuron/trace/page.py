"""Page: what the report's template shows, arranged: bars, table rows, charts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

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
from emuron.trace.summary import IDLE, UNGROUPED, GroupUse, QueueUse, Summary, kind_title
from emuron.trace.trace import Trace

if TYPE_CHECKING:
    from emuron.trace.report import RunReport

_Sums: TypeAlias = tuple[float, int, int]

COLOURS = 12
"""Colours for groups that the page's style sheet has."""

_MOST_LEGENDS = 16
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
class Stack:
    """A bar of parts that add up to the run; the legend names the largest."""

    title: str
    segments: tuple[Segment, ...]
    legend: tuple[Segment, ...]
    unnamed: int


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
    stacks: tuple[Stack, ...]
    rows: tuple[Row, ...]
    rows_left_out: int
    charts: tuple[LineChart, ...]
    roofline: Roofline | None
    kinds: tuple[tuple[str, str], ...]
    colours: list[int]


def build_page(report: RunReport, summary: Summary) -> Page:
    """Return the page of a report whose trace has that summary."""
    names = [name or UNGROUPED for name in report.trace.groups]
    layers = list(dict.fromkeys(map(_layer, names)))
    colours = {name: 1 + i % COLOURS for i, name in enumerate(layers)}
    busy = sorted((g for g in summary.groups if g.name != IDLE), key=lambda g: -g.share_ps)
    rows = tuple(Row(g, colours[_layer(g.name)], _busiest(g), _engine_parts(g)) for g in busy)
    return Page(
        bars=_bars(summary),
        stacks=_stacks(summary, colours, report.part),
        rows=rows[:_MOST_ROWS],
        rows_left_out=max(0, len(rows) - _MOST_ROWS),
        charts=_charts(report.trace),
        roofline=roofline(_points(report, summary), report.ceilings or _ceilings(report.trace)),
        kinds=tuple((kind, kind_title(kind)) for kind in summary.kinds),
        colours=[colours[_layer(name)] for name in names],
    )


def _layer(group: str) -> str:
    """Return the layer of a group: what stands before the first slash."""
    return group.partition("/")[0]


def _part(group: str) -> str:
    """Return what the same group of every layer has in common: its name without numbers."""
    return re.sub(r"\d+", "*", group)


def _sums(summary: Summary, key: Callable[[str], str]) -> dict[str, _Sums]:
    """Return (share_ps, flops, bytes) of the groups that `key` makes one."""
    found: dict[str, _Sums] = {}
    for g in summary.groups:
        if g.name != IDLE:
            share_ps, flops, moved = found.get(key(g.name), (0.0, 0, 0))
            found[key(g.name)] = (share_ps + g.share_ps, flops + g.flops, moved + g.bytes)
    return found


def _stacks(summary: Summary, colours: Mapping[str, int], part: str) -> tuple[Stack, ...]:
    total = summary.total_ps or 1
    layers = {name: sums[0] / total for name, sums in _sums(summary, _layer).items()}
    parts = {name: sums[0] / total for name, sums in _sums(summary, _part).items()}
    stacks = [_stack(f"By {part}", layers, colours, summary)]
    if part == "layer" and len(parts) > 1 and sorted(parts.values()) != sorted(layers.values()):
        largest = sorted(parts, key=lambda name: -parts[name])
        shown = {name: parts[name] for name in largest[: COLOURS - 1]}
        if len(largest) >= COLOURS:
            shown[f"{len(largest) - COLOURS + 1} others"] = sum(parts.values()) - sum(
                shown.values()
            )
        ranks = {name: 1 + i for i, name in enumerate(largest[: COLOURS - 1])}
        stacks.append(_stack("By part, all layers together", shown, ranks, summary))
    return tuple(stacks)


def _stack(
    title: str, shares: Mapping[str, float], colours: Mapping[str, int], summary: Summary
) -> Stack:
    found = [Segment(name, share, colours.get(name, 0)) for name, share in shares.items()]
    largest = sorted(found, key=lambda s: -s.share)[:_MOST_LEGENDS]
    legend = [s for s in found if s in largest]
    unnamed = len(found) - len(legend)
    if summary.total_ps and summary.idle_ps:
        idle = Segment("nothing runs", summary.idle_ps / summary.total_ps, 0, idle=True)
        found.append(idle)
        legend.append(idle)
    return Stack(title, tuple(found), tuple(legend), unnamed)


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
    parts = (
        [f"{use.events:,} events", quantity.duration_text(use.busy_ps)] if use.events else ["idle"]
    )
    if use.bytes:
        parts.append(quantity.bytes_text(use.bytes))
    if use.flops:
        parts.append(quantity.count_text(use.flops, "FLOP"))
    return Bar(
        use.name, use.kind, use.busy_share, quantity.share_text(use.busy_share), ", ".join(parts)
    )


def _charts(trace: Trace) -> tuple[LineChart, ...]:
    trace = unfold_if_small(trace, _MOST_EVENTS)
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
    edges, rates = dma_bandwidth(trace, _BANDWIDTH_BINS)
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
    whole = RooflinePoint("whole run", summary.flops, summary.dma_bytes, summary.total_ps)
    points = [
        RooflinePoint(name, flops, moved, share_ps)
        for name, (share_ps, flops, moved) in _sums(summary, _part).items()
    ]
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

"""Profile: one kernel run line by line: what it costs, what bounds it, what to fix first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from emuron.trace.bounds import Bound, RooflineUse, find_bounds, roofline_use
from emuron.trace.critical_path import CriticalPath, find_critical_path
from emuron.trace.evidence import Evidence, Hint
from emuron.trace.hints import find_hints
from emuron.trace.line_use import LineUse, line_uses
from emuron.trace.quantity import bytes_text
from emuron.trace.repetition import unfold_if_small
from emuron.trace.report import Figure, RunReport
from emuron.trace.summary import UNGROUPED, Summary, queue_kind, summarize
from emuron.trace.trace import Trace
from emuron.trace.waits import Wait, find_causes, find_waits
from emuron.trace.work import Figures, Traffic, Work

FORMAT = 1
"""Version of the JSON form; it grows by new keys only, else the number changes."""

_MOST_EVENTS = 1_000_000  # beyond, waits and the critical path are not looked for


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A timed kernel as `profile_trace` takes it.

    Where all of `cores` do the same, the trace and the works are those of the one `shown`. `files`
    gives the path of each source file that groups name; `memory` what is to be said of on-chip
    memory (peaks in bytes a partition).
    """

    kernel: str
    case: str
    target: str
    cores: int
    shown: int
    trace: Trace
    works: tuple[Work, ...]
    traffic: tuple[Traffic, ...]
    figures: Figures
    files: Mapping[str, str] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What a run of a kernel costs, line by line.

    `path` and `waits` are empty where repeats stand for too many events to look at each.
    """

    measured: Measured
    summary: Summary
    lines: tuple[LineUse, ...]
    waits: tuple[Wait, ...]
    path: CriticalPath | None
    bounds: tuple[Bound, ...]
    roofline: RooflineUse | None
    hints: tuple[Hint, ...]

    def report(self) -> RunReport:
        """Return what the HTML page shows."""
        measured = self.measured
        figures = [
            Figure(f"{name.partition('_')[0].upper()} peak", bytes_text(size), "in each partition")
            for name, size in measured.memory.items()
        ]
        cores = f"{measured.cores} cores" if measured.cores > 1 else "one core"
        return RunReport(
            title=f"{measured.kernel}: {measured.case}" if measured.case else measured.kernel,
            subject=measured.kernel,
            instance=f"{measured.target}, {cores}",
            trace=measured.trace,
            unit="launch",
            figures=tuple(figures),
            lines=self.lines,
            hints=self.hints,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the json-able form; times in microseconds, sizes in bytes, shares of one."""
        measured, summary = self.measured, self.summary
        return {
            "format": FORMAT,
            "kernel": measured.kernel,
            "case": measured.case,
            "target": measured.target,
            "cores": measured.cores,
            "cores_shown": measured.shown,
            "time_us": summary.total_ps / 1e6,
            "instructions": sum(work.count for work in measured.works),
            "dma_bytes": summary.dma_bytes,
            "hbm_bytes": summary.hbm_bytes,
            "flops": summary.flops,
            "memory": dict(measured.memory),
            "verdict": {
                "bound_by": summary.verdict.bound_by,
                "title": summary.verdict.title,
                "reasons": list(summary.verdict.reasons),
            },
            "engines": _engines(summary, self.waits),
            "bounds": [{"resource": b.resource, "least_us": b.least_ps / 1e6} for b in self.bounds],
            "roofline": None if self.roofline is None else asdict(self.roofline),
            "critical_path": None if self.path is None else _path(self.path),
            "hints": [_hint(hint) for hint in self.hints],
            "lines": [_line(line) for line in self.lines],
            "tensors": [asdict(traffic) for traffic in measured.traffic],
        }


def profile_trace(measured: Measured) -> Profile:
    """Return the profile of a timed kernel."""
    trace = unfold_if_small(measured.trace, _MOST_EVENTS)
    summary = summarize(trace)
    path: CriticalPath | None = None
    waits: tuple[Wait, ...] = ()
    if not trace.repeats:
        causes = find_causes(trace)
        path, waits = find_critical_path(trace, causes), find_waits(trace, causes)
    figures, works = measured.figures, measured.works
    bounds = find_bounds(works, summary.hbm_bytes, figures)
    loads = _table_loads(trace, figures)
    evidence = Evidence(summary, figures, works, measured.traffic, waits, path, bounds, loads)
    pe_flops = sum(work.count * work.flops for work in works if work.engine == "tensor")
    pe_flops = pe_flops * measured.cores // measured.shown
    roofline = roofline_use(pe_flops, summary.hbm_bytes, summary.total_ps, figures, measured.cores)
    return Profile(
        measured=measured,
        summary=summary,
        lines=line_uses(summary, works, waits, path, measured.files),
        waits=waits,
        path=path,
        bounds=bounds,
        roofline=roofline,
        hints=find_hints(evidence),
    )


def _table_loads(trace: Trace, figures: Figures) -> dict[str, int]:
    """Return by group how often an activation waited exactly for its table."""
    is_scalar = np.array([queue_kind(name) == "scalar" for name in trace.queue_names], bool)
    waited = (trace.lag_ps == figures.table_load_ps) & (trace.blocker == trace.queue)
    rows = np.flatnonzero(is_scalar[trace.queue] & waited)
    counts = Counter(np.repeat(trace.group[rows], trace.multiplicity()[rows]).tolist())
    return {trace.groups[group] or UNGROUPED: count for group, count in counts.items()}


def _engines(summary: Summary, waits: tuple[Wait, ...]) -> list[dict[str, Any]]:
    return [
        {
            "name": queue.name,
            "kind": queue.kind,
            "busy_us": queue.busy_ps / 1e6,
            "busy_share": queue.busy_share,
            "events": queue.events,
            "bytes": queue.bytes,
            "waits": [
                {
                    "line": wait.group,
                    "for_line": wait.for_group,
                    "for_queue": wait.for_queue,
                    "wait_us": wait.wait_ps / 1e6,
                    "until_end_us": wait.until_end_ps / 1e6,
                    "events": wait.events,
                }
                for wait in waits
                if wait.queue == queue.name and queue.kind != "dma"
            ],
        }
        for queue in summary.queues
    ]


def _path(path: CriticalPath) -> dict[str, Any]:
    keys = sorted(
        {*path.busy_ps, *path.latency_ps},
        key=lambda key: (-path.busy_ps.get(key, 0) - path.latency_ps.get(key, 0), key),
    )
    parts = [
        {
            "line": line,
            "engine": engine,
            "busy_us": path.busy_ps.get((line, engine), 0) / 1e6,
            "latency_us": path.latency_ps.get((line, engine), 0) / 1e6,
        }
        for line, engine in keys
    ]
    return {"events": path.events, "parts": parts}


def _hint(hint: Hint) -> dict[str, Any]:
    return {
        "rule": hint.rule,
        "line": hint.line,
        "engine": hint.engine,
        "measured": hint.measured,
        "quantities": dict(hint.quantities),
        "gain_us": hint.gain_ps / 1e6,
        "way_out": hint.way_out,
    }


def _line(line: LineUse) -> dict[str, Any]:
    return {
        "line": line.line,
        "path": line.path,
        "source": line.source,
        "instructions": dict(line.instructions),
        "share_us": line.share_ps / 1e6,
        "share": line.share,
        "active_us": line.active_ps / 1e6,
        "busy_us": {engine: ps / 1e6 for engine, ps in line.busy_ps.items()},
        "critical_us": None if line.critical_ps is None else line.critical_ps / 1e6,
        "latency_us": None if line.latency_ps is None else line.latency_ps / 1e6,
        "waits": [
            {
                "engine": wait.engine,
                "for_line": wait.for_line,
                "for_engine": wait.for_engine,
                "wait_us": wait.wait_ps / 1e6,
                "events": wait.events,
            }
            for wait in line.waits
        ],
        "dma_bytes": line.dma_bytes,
        "flops": line.flops,
    }

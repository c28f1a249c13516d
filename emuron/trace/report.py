"""Report: one run as a page (`to_html`): one file, no network, light and dark, printable."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from emuron.trace import quantity
from emuron.trace.atomic import replacing
from emuron.trace.charts import Ceilings, RooflinePoint
from emuron.trace.evidence import Hint
from emuron.trace.html import render
from emuron.trace.line_use import LineUse
from emuron.trace.page import build_page
from emuron.trace.pass_record import PassRecord
from emuron.trace.summary import Summary, summarize
from emuron.trace.timeline import timeline_data
from emuron.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class Figure:
    """One more headline figure: a label, its value as text, and a word of explanation."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the run costs under one purchase option; `usd_per_million` is for the report's unit."""

    purchase: str
    usd_per_hour: float
    usd_per_million: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One comparison of numbers, such as "logits: largest difference 3 ULP, bound 8 ULP"."""

    name: str
    metric: str
    value: str
    bound: str
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything that a report shows; what is None or empty is left out.

    `latency_ps` is the trace's total unless given. `unit` is what throughput and costs count
    ("inference", "token"). `ceilings` and `points` (roofline) come from the trace's metadata
    (`pe_peak_tflops` or `pe_peaks_tflops` by dtype, `hbm_gb_per_s`) and groups unless given;
    `metadata["capacities"]` maps a counter's name to its limit. `lines` and `hints` are those of a
    kernel's profile, `passes` what a compiler's passes did.
    """

    title: str
    subject: str
    instance: str
    trace: Trace
    options: Mapping[str, str] = field(default_factory=dict)
    latency_ps: int | None = None
    throughput: float | None = None
    unit: str = "inference"
    memory_per_core_bytes: int | None = None
    memory_per_core_limit_bytes: int | None = None
    usd_per_million_on_demand: float | None = None
    usd_per_million_reserved: float | None = None
    figures: tuple[Figure, ...] = ()
    points: tuple[RooflinePoint, ...] | None = None
    ceilings: Ceilings | None = None
    costs: tuple[Cost, ...] = ()
    fidelity: tuple[Fidelity, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    lines: tuple[LineUse, ...] = ()
    hints: tuple[Hint, ...] = ()
    passes: tuple[PassRecord, ...] = ()

    @property
    def part(self) -> str:
        """What a group of the trace is called: a line of a kernel, or a layer."""
        return "line" if self.lines else "layer"

    def headline(self, summary: Summary) -> tuple[Figure, ...]:
        """Return the headline figures that are known, the most asked for first."""
        latency = summary.total_ps if self.latency_ps is None else self.latency_ps
        found = [Figure("Latency", quantity.duration_text(latency), f"one {self.unit}")]
        if self.throughput is not None:
            text = quantity.digits(self.throughput)
            found.append(Figure("Throughput", f"{text} / s", f"{self.unit}s per second"))
        if self.memory_per_core_bytes is not None:
            found.append(self._memory(self.memory_per_core_bytes))
        for name, usd in (
            ("On demand", self.usd_per_million_on_demand),
            ("Reserved", self.usd_per_million_reserved),
        ):
            if usd is not None:
                note = f"per million {self.unit}s"
                found.append(Figure(name, quantity.money_text(usd), note))
        if summary.mfu is not None:
            found.append(Figure("MFU", quantity.share_text(summary.mfu), "of peak FLOP/s"))
        if summary.mbu is not None:
            found.append(Figure("MBU", quantity.share_text(summary.mbu), "of peak HBM bytes"))
        return (*found, *self.figures)

    def _memory(self, used: int) -> Figure:
        limit = self.memory_per_core_limit_bytes
        note = "of HBM"
        if limit:
            note = f"{quantity.share_text(used / limit)} of {quantity.bytes_text(limit)}"
        return Figure("Memory per core", quantity.bytes_text(used), note)


def as_report(source: RunReport | Trace) -> RunReport:
    """Return `source`, a bare trace with its metadata's `title`, `subject` and `instance`."""
    if isinstance(source, RunReport):
        return source
    words = source.metadata
    return RunReport(
        title=str(words.get("title", "Run")),
        subject=str(words.get("subject", "")),
        instance=str(words.get("instance", "")),
        trace=source,
    )


def to_html(source: RunReport | Trace, path: str | os.PathLike[str]) -> None:
    """Write the page of a report (or of a bare trace) to `path`, whole or not at all."""
    text = render_html(source)
    with replacing(path) as file:
        file.write(text.encode())


def render_html(source: RunReport | Trace) -> str:
    """Return the page; every name in it is escaped, and its policy forbids any request."""
    report = as_report(source)
    summary = summarize(report.trace)
    page = build_page(report, summary)
    return render(
        "report.html.j2",
        report=report,
        page=page,
        summary=summary,
        headline=report.headline(summary),
        timeline=_script_json({**timeline_data(report.trace), "colours": page.colours}),
        q=quantity,
    )


def _script_json(data: object) -> Markup:
    """Return JSON that is safe inside a script element: no '<', '>' or '&' can end or open one."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)

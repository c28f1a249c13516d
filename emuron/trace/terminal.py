"""Terminal: a report as rich tables, for people at a shell."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from emuron.trace import quantity
from emuron.trace.pass_record import PassRecord
from emuron.trace.report import RunReport, as_report
from emuron.trace.summary import IDLE, Summary, kind_title, summarize
from emuron.trace.trace import Trace

_BAR_CELLS = 24
_PARTS = " ▏▎▍▌▋▊▉"


def to_rich(source: RunReport | Trace, most_rows: int = 12) -> RenderableType:
    """Return the report for `Console.print`, with the `most_rows` largest groups."""
    report = as_report(source)
    summary = summarize(report.trace)
    parts: list[RenderableType] = [_title(report), _headline(report, summary)]
    parts += [Text.assemble(("Warning ", "bold yellow"), text) for text in report.warnings]
    reasons = Text("\n".join(summary.verdict.reasons))
    parts.append(Panel(reasons, title=Text(summary.verdict.title), title_align="left"))
    if summary.queues:
        parts += [_engines(summary), _groups(summary, most_rows)]
    if report.costs:
        parts.append(_costs(report))
    if report.fidelity:
        parts.append(_fidelity(report))
    parts += [Text(f"• {note}", style="dim") for note in report.notes]
    return Group(*parts)


def _title(report: RunReport) -> Text:
    title = Text(report.title, style="bold")
    if report.subject:
        title.append(f"  {report.subject}", style="cyan")
    if report.instance:
        title.append(f" on {report.instance}")
    for name, value in report.options.items():
        title.append(f"  {name}={value}", style="dim")
    return title


def _headline(report: RunReport, summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    for figure in report.headline(summary):
        table.add_row(Text(figure.label), Text(figure.value), Text(figure.note))
    return table


def _engines(summary: Summary) -> Table:
    table = Table(title="Engines", title_justify="left")
    table.add_column("Engine")
    table.add_column("Busy", min_width=_BAR_CELLS)
    for head in ("%", "Time", "Bytes", "FLOP", "Events"):
        table.add_column(head, justify="right")
    for use in summary.queues:
        table.add_row(
            Text(use.name),
            Text(_bar(use.busy_share), style="blue"),
            quantity.share_text(use.busy_share),
            quantity.duration_text(use.busy_ps),
            quantity.bytes_text(use.bytes),
            quantity.count_text(use.flops),
            f"{use.events:,}",
        )
    return table


def _groups(summary: Summary, most_rows: int) -> Table:
    table = Table(title="Where the time goes", title_justify="left")
    table.add_column("Layer or line", overflow="fold")
    for head in ("Share", "Time", "DMA", "FLOP"):
        table.add_column(head, justify="right")
    table.add_column("Busiest")
    ranked = sorted(summary.groups, key=lambda g: -g.share_ps)
    for use in ranked[:most_rows]:
        busiest = max(use.busy_ps, key=lambda kind: use.busy_ps[kind]) if use.busy_ps else ""
        table.add_row(
            Text(use.name, style="dim" if use.name == IDLE else ""),
            quantity.share_text(use.share),
            quantity.duration_text(use.share_ps),
            quantity.bytes_text(use.bytes),
            quantity.count_text(use.flops),
            kind_title(busiest) if busiest else "–",
        )
    if len(ranked) > most_rows:
        rest = sum(use.share for use in ranked[most_rows:])
        table.add_row(f"{len(ranked) - most_rows} others", quantity.share_text(rest))
    return table


def _costs(report: RunReport) -> Table:
    table = Table(title="Cost", title_justify="left")
    table.add_column("Purchase")
    table.add_column("$ per hour", justify="right")
    table.add_column(f"$ per million {report.unit}s", justify="right")
    for cost in report.costs:
        table.add_row(
            Text(cost.purchase),
            f"${cost.usd_per_hour:.4f}",
            quantity.money_text(cost.usd_per_million),
        )
    return table


def _fidelity(report: RunReport) -> Table:
    table = Table(title="Fidelity of the numbers", title_justify="left")
    for head in ("Compared", "Measure", "Value", "Bound", "Result"):
        table.add_column(head)
    results = {None: Text("–"), True: Text("within", "green"), False: Text("beyond", "bold red")}
    for row in report.fidelity:
        cells = (row.name, row.metric, row.value, row.bound)
        table.add_row(*(Text(cell) for cell in cells), results[row.passed])
    return table


def passes_table(passes: Iterable[PassRecord]) -> Table:
    """Return what each pass of a compiler did as a table."""
    table = Table(title="What the compiler did", title_justify="left")
    table.add_column("Pass")
    table.add_column("Figure")
    table.add_column("Value", justify="right")
    for record in passes:
        for number, (name, value) in enumerate(record.rows()):
            table.add_row("" if number else record.name, Text(name), value)
        table.add_section()
    return table


def _bar(share: float) -> str:
    eighths = round(min(max(share, 0.0), 1.0) * _BAR_CELLS * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_PARTS[rest] if rest else "")

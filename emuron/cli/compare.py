"""`emuron compare`: a model on several instances, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emuron.cli.model_options import (
    CastMode,
    CastType,
    ModelName,
    Seq,
    Task,
    Tp,
    Weights,
    compiled,
)
from emuron.cli.output import Json, console, print_json, print_table, progress
from emuron.errors import UsageError

if TYPE_CHECKING:
    from emuron.planner.compare import Best, Candidate
    from emuron.trace.bars_page import BarsPage

_CAPTION = (
    "ms: latency. per s: of the whole instance. $/M: a million, on demand; RI reserved. * best."
)
_DEFAULT = "inf1.xlarge,inf2.xlarge,trn1.2xlarge"

On = Annotated[str, typer.Option("--on", help="Instances, with commas; see `emuron instances`.")]
Batches = Annotated[str, typer.Option("--batch", help="Batches to try, with commas: 1,4,8.")]
ReportPath = Annotated[Path | None, typer.Option("--report", help="Write an HTML page.")]


def compare(
    model: ModelName,
    on: On = _DEFAULT,
    batch: Batches = "1",
    seq: Seq = None,
    task: Task = None,
    autocast: CastMode = None,
    autocast_type: CastType = None,
    weights: Weights = None,
    tp: Tp = None,
    report: ReportPath = None,
    as_json: Json = False,
) -> None:
    """Compare instances for a model: latency, throughput, memory and price; nothing is computed.

    `emuron compare bert-base-uncased --on inf1.xlarge,inf2.xlarge,trn1.2xlarge --batch 1,8`
    """
    from emuron.hardware.catalog import instance
    from emuron.planner.compare import best
    from emuron.planner.compare import compare as candidates_of

    names = [instance(name).name for name in _listed(on, "--on")]
    batches = [_count(text) for text in _listed(batch, "--batch")]
    options: dict[str, Any] = {"sequence": seq, "task": task, "tp": tp}
    options |= {"autocast": autocast, "autocast_type": autocast_type, "weights": weights}
    found: list[Candidate] = []
    with progress() as bar:
        steps = bar.add_task(f"Compiling {model}", total=len(names) * len(batches))
        for candidate in candidates_of(
            lambda on, batch: compiled(model, data=False, on=on, batch=batch, **options),
            names,
            batches,
        ):
            found.append(candidate)
            bar.update(steps, advance=1, description=f"{candidate.instance} done")
    chosen = best(found)
    if report is not None:
        from emuron.trace.bars_page import to_html

        to_html(_page(model, found, chosen), report)
    if as_json:
        print_json({"model": model, "candidates": _records(found), "best": _best(chosen)})
    else:
        _print(model, found, chosen, report)


def _listed(text: str, option: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError(f"{option} lists nothing: give names with commas between them.")
    return list(dict.fromkeys(found))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--batch takes whole numbers from 1 on, found {text!r}.")
    return int(text)


def _records(found: list[Candidate]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [{**asdict(c), "runs": c.runs} for c in found]


def _best(chosen: Best) -> dict[str, Any]:
    from dataclasses import fields

    kinds = {f.name: getattr(chosen, f.name) for f in fields(chosen)}
    return {
        kind: None if c is None else {"instance": c.instance, "batch": c.batch}
        for kind, c in kinds.items()
    }


def _print(model: str, found: list[Candidate], chosen: Best, report: Path | None) -> None:
    columns = ("ms", "per s", "GiB/core", "$/M", "RI $/M")
    print_table(
        ("instance", "batch", *columns),
        [_cells(c, chosen) for c in found],
        title=f"{model}, instance by instance",
        right=("batch", *columns),
        whole=("instance", "batch", *columns),
        caption=_CAPTION,
    )
    for candidate in found:
        if not candidate.runs:
            console().print(f"{_label(candidate)}: {candidate.reason}")
    if report is not None:
        console().print(f"Report: {report}")


def _cells(c: Candidate, chosen: Best) -> tuple[object, ...]:
    def number(value: float | None, form: str, winner: Candidate | None = None) -> str | None:
        return None if value is None else f"{value:{form}}" + ("*" if c is winner else "")

    memory = None if c.memory_per_core_bytes is None else c.memory_per_core_bytes / (1 << 30)
    return (
        c.instance,
        c.batch,
        number(c.latency_ms, ",.3f", chosen.latency),
        number(c.throughput_per_s, ",.0f", chosen.throughput),
        number(memory, ",.3f"),
        number(c.usd_per_million_on_demand, ",.4f", chosen.price),
        number(c.usd_per_million_reserved, ",.4f"),
    )


def _page(model: str, found: list[Candidate], chosen: Best) -> BarsPage:
    from emuron.trace.bars_page import Bar, BarChart, BarsPage

    def chart(title: str, lead: str, field: str, winner: Candidate | None) -> BarChart:
        bars = (Bar(_label(c), getattr(c, field), marked=c is winner) for c in found)
        return BarChart(title, lead, tuple(bars))

    price = "US dollars, lower is better."
    return BarsPage(
        "emuron comparison",
        model,
        "Predicted for one inference with its host; throughput is that of the whole instance.",
        (
            chart("Latency", "Milliseconds, lower is better.", "latency_ms", chosen.latency),
            chart(
                "Throughput",
                "Inferences a second, higher is better.",
                "throughput_per_s",
                chosen.throughput,
            ),
            chart(
                "A million inferences, on demand", price, "usd_per_million_on_demand", chosen.price
            ),
            chart("A million inferences, reserved", price, "usd_per_million_reserved", None),
        ),
        tuple(f"{_label(c)}: {c.reason}" for c in found if not c.runs),
    )


def _label(candidate: Candidate) -> str:
    return f"{candidate.instance}, batch {candidate.batch}"

"""`emuron profile`: where a model's time goes, engine by engine and layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emuron.cli.model_options import (
    Batch,
    CastMode,
    CastType,
    ModelName,
    On,
    Seq,
    Strict,
    Task,
    Tp,
    Weights,
    compiled,
    make_folder,
    write_files,
)
from emuron.cli.output import Json, console, print_json, progress

if TYPE_CHECKING:
    from emuron.trace.summary import Summary

Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for report.html and timeline.json.gz.")
]


def profile(
    model: ModelName,
    on: On = None,
    batch: Batch = None,
    seq: Seq = None,
    task: Task = None,
    autocast: CastMode = None,
    autocast_type: CastType = None,
    weights: Weights = None,
    strict: Strict = None,
    tp: Tp = None,
    output: Output = Path("emuron-profile"),
    as_json: Json = False,
) -> None:
    """Show the load of every engine and the time of every layer; nothing is computed.

    A group such as encoder.layer.*.mlp stands for all layers. Writes a page for a browser and a
    timeline for Perfetto.
    """
    from emuron.trace.terminal import to_rich

    options: dict[str, Any] = {"on": on, "batch": batch, "sequence": seq, "task": task}
    options |= {"autocast": autocast, "autocast_type": autocast_type, "weights": weights}
    options |= {"strict": strict, "tp": tp}
    with progress() as bar:
        bar.add_task("Compiling and timing", total=None)
        made = compiled(model, data=False, **options)
        summary = made.summary()
        folder = make_folder(output)
        written = write_files(made, folder / "report.html", folder / "timeline.json.gz")
    if as_json:
        print_json({**summary, **_usage(made.usage), **written})
        return
    console().print(to_rich(made.report()))
    for kind, path in written.items():
        console().print(f"{kind.capitalize()}: {path}")


def _usage(usage: Summary) -> dict[str, Any]:
    return {
        "reasons": list(usage.verdict.reasons),
        "idle_ps": usage.idle_ps,
        "dma_bytes": usage.dma_bytes,
        "flops": usage.flops,
        "groups": [
            {
                "name": group.name,
                "share": group.share,
                "share_ps": round(group.share_ps),
                "busy_ps": dict(group.busy_ps),
                "bytes": group.bytes,
                "flops": group.flops,
                "events": group.events,
            }
            for group in sorted(usage.groups, key=lambda g: -g.share_ps)
        ],
        "queues": [
            {"name": q.name, "kind": q.kind, "busy_ps": q.busy_ps, "busy_share": q.busy_share}
            for q in usage.queues
        ],
    }

"""`emuron profile`: where a model's time goes, engine by engine and layer by layer."""

from __future__ import annotations

from typing import Any

from emuron.cli.model_options import (
    Batch,
    CastMode,
    CastType,
    ModelName,
    On,
    ReportPath,
    Seq,
    Task,
    TracePath,
    compiled,
    write_files,
)
from emuron.cli.output import Json, console, print_json, progress


def profile(
    model: ModelName,
    on: On = "inf2.xlarge",
    batch: Batch = 1,
    seq: Seq = 128,
    task: Task = "",
    autocast: CastMode = "matmult",
    autocast_type: CastType = "bf16",
    report: ReportPath = None,
    trace: TracePath = None,
    as_json: Json = False,
) -> None:
    """Show the load of every engine and the time of every layer; nothing is computed.

    A group such as encoder.layer.*.mlp stands for all layers. With --report a page for a browser,
    with --trace a timeline for Perfetto.
    """
    from emuron.trace.summary import summarize
    from emuron.trace.terminal import to_rich

    made = compiled(model, on, batch, seq, task, autocast, autocast_type, weights=False)
    with progress() as bar:
        bar.add_task("Timing", total=None)
        summary = summarize(made.trace)
        write_files(made, report, trace)
    if not as_json:
        console().print(to_rich(made.report()))
        return
    groups: list[dict[str, Any]] = [
        {"name": g.name, "share_ps": g.share_ps, "events": g.events} for g in summary.groups
    ]
    queues = [{"name": q.name, "busy_share": q.busy_share} for q in summary.queues]
    print_json(
        {
            **made.summary(),
            "bound_by": summary.verdict.bound_by,
            "mfu": summary.mfu,
            "mbu": summary.mbu,
            "groups": groups,
            "queues": queues,
        }
    )

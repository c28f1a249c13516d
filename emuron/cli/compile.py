"""`emuron compile`: a model as an artifact that people can read and any machine can reload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emuron.cli.model_options import (
    Batch,
    CastMode,
    CastType,
    ModelName,
    On,
    Seed,
    Seq,
    Task,
    compiled,
)
from emuron.cli.output import Json, console, print_json, progress

Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")]


def compile_command(
    model: ModelName,
    output: Output,
    on: On = "inf2.xlarge",
    batch: Batch = 1,
    seq: Seq = 128,
    task: Task = "",
    autocast: CastMode = "matmult",
    autocast_type: CastType = "bf16",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compile a model for an instance into a folder: manifest, graph, weights and program.

    `emuron compile MODEL --on inf2.xlarge -o model.emuron`, then `emuron run model.emuron`.
    """
    from emuron.compiler.artifact import save

    made = compiled(model, on, batch, seq, task, autocast, autocast_type, seed=seed)
    with progress() as bar:
        bar.add_task("Compiling and writing", total=None)
        path = save(made, output)
        summary = made.summary()
    if as_json:
        print_json({"path": str(path), **summary})
        return
    size = sum(file.stat().st_size for file in path.iterdir())
    console().print(
        f"Wrote {path} ({size / 1e6:.1f} MB): {made.graph.name} for {made.instance.name}, "
        f"{summary['instructions']} instructions, {summary['latency_ms']:.3f} ms.\n"
        f"Run it with: emuron run {path}"
    )

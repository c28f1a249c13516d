"""`emuron compile`: a model as an artifact that people can read and any machine can reload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from emuron.cli.model_options import (
    Batch,
    CastMode,
    CastType,
    ModelName,
    On,
    Seed,
    Seq,
    Strict,
    Task,
    compiled,
    tokenizer_folder,
)
from emuron.cli.output import Json, console, print_json, progress

Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")]


def compile_command(
    model: ModelName,
    output: Output,
    on: On = None,
    batch: Batch = None,
    seq: Seq = None,
    task: Task = None,
    autocast: CastMode = None,
    autocast_type: CastType = None,
    strict: Strict = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compile a model for an instance into a folder: manifest, graph, parameters and program.

    `emuron compile MODEL --on inf2.xlarge -o model.emuron`, then `emuron run model.emuron`.
    """
    from emuron.compiler.artifact import save
    from emuron.trace.quantity import bytes_text

    options: dict[str, Any] = {"on": on, "batch": batch, "sequence": seq, "task": task}
    options |= {"autocast": autocast, "autocast_type": autocast_type, "strict": strict}
    with progress() as bar:
        bar.add_task("Compiling and writing", total=None)
        made = compiled(model, seed=seed, **options)
        path = save(made, output, tokenizer_folder(model))
        summary = made.summary()
    size = sum(file.stat().st_size for file in path.iterdir())
    if as_json:
        print_json({"path": str(path), "bytes": size, **summary})
        return
    console().print(
        f"Wrote {path} ({bytes_text(size)}): {made.name} for {made.instance.name}, "
        f"{summary['instructions']:,} instructions, {summary['latency_ms']:.3f} ms.\n"
        f"Run it with: emuron run {path}"
    )

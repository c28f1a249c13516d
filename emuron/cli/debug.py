"""`emuron debug`: the first layer whose values drift from the framework's, and the cast."""

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
    Task,
    Weights,
    compiled,
    random_inputs,
)
from emuron.cli.output import Json, console, print_json, print_table, progress
from emuron.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from emuron.compiler.debug import CastEffect, Diagnosis, NodeDrift
    from emuron.trace.bars_page import BarsPage

Bound = Annotated[
    float | None,
    typer.Option("--bound", help="The relative error from which a layer drifts (default 0.01)."),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against", help="An .npz of the framework's values, by layer, node or value name."
    ),
]
ReportPath = Annotated[Path | None, typer.Option("--report", help="Write an HTML page.")]
Nodes = Annotated[bool, typer.Option("--nodes", help="List every node, not only every layer.")]
_MOST_CAPTURED_BYTES = 4 << 30


def debug(
    model: ModelName,
    on: On = None,
    batch: Batch = None,
    seq: Seq = None,
    task: Task = None,
    autocast: CastMode = None,
    autocast_type: CastType = None,
    weights: Weights = None,
    bound: Bound = None,
    against: Against = None,
    nodes: Nodes = False,
    report: ReportPath = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find the first layer whose values drift from the framework's, and the cast that did it.

    The framework's values are the graph's without automatic casts, or those of --against.
    `emuron debug bert-base-uncased --autocast all --bound 0.02`
    """
    from emuron.compiler import debug as debugger

    options: dict[str, Any] = {"on": on, "batch": batch, "sequence": seq, "task": task}
    options |= {"autocast": autocast, "autocast_type": autocast_type, "weights": weights}
    with progress() as bar:
        bar.add_task("Comparing layer by layer", total=None)
        made = compiled(model, seed=seed, **options)
        found = debugger.debug(
            made.graph,
            random_inputs(made.graph, seed),
            made.options.autocast,
            bound=debugger.DEFAULT_BOUND if bound is None else bound,
            captured=_captured(against) if against is not None else None,
            weights=made.weights,
            framework=made.framework,
        )
    if report is not None:
        from emuron.trace.bars_page import to_html

        to_html(_page(made.name, found), report)
    if as_json:
        print_json({"model": made.name, **_record(found)})
    else:
        _print(made.name, found, nodes)


def _captured(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file; pickled objects and files beyond 4 GiB are refused."""
    import zipfile

    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _MOST_CAPTURED_BYTES:
            raise UsageError(f"{path} holds {size:,} bytes, more than {_MOST_CAPTURED_BYTES:,}.")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{path} is no .npz file of plain arrays: {error}.") from error


def _record(found: Diagnosis) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "bound": found.bound,
        "first": _finite(asdict(found.first)) if found.first else None,
        "culprit": _finite(asdict(found.culprit)) if found.culprit else None,
        "casts": [_finite(asdict(effect)) for effect in found.casts],
        "layers": [_finite(asdict(layer)) for layer in found.layers()],
        "nodes": [_finite(asdict(node)) for node in found.nodes],
    }


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as JSON can hold it: infinity by name."""
    return {
        k: str(v) if isinstance(v, float) and v == float("inf") else v for k, v in record.items()
    }


def _print(name: str, found: Diagnosis, nodes: bool) -> None:
    rows = found.nodes if nodes else found.layers()
    largest = max((row.drift for row in rows), default=0.0)
    print_table(
        ("layer", "node", "drift", "", "own"),
        [_cells(row, found, largest) for row in rows],
        title=f"{name}: relative error against the framework",
        right=("drift", "own"),
        whole=("layer", "drift", ""),
        caption="drift: gathered so far. own: the most that one node of the layer adds by itself.",
    )
    if found.first is None or found.culprit is None:
        console().print(f"No layer drifts beyond {found.bound:g}.")
        return
    console().print(
        f"First beyond {found.bound:g}: {_place(found.first)}, {found.first.drift:.3g}."
    )
    console().print(
        f"Most of it comes from {_place(found.culprit)}, {found.culprit.own:.3g} alone."
    )
    if found.casts:
        print_table(
            ("cast", "from", "to", "effect alone"),
            [_cast(effect) for effect in found.casts],
            title=f"Casts of {found.culprit.node}",
            right=("effect alone",),
            whole=("from", "to"),
        )
    else:
        console().print(
            "No cast of that node explains it: its operands are read as they are stored."
        )


def _page(name: str, found: Diagnosis) -> BarsPage:
    from emuron.trace.bars_page import Bar, BarChart, BarsPage

    layers = found.layers()
    drift = tuple(Bar(x.layer or "(top)", x.drift, x.drift > found.bound) for x in layers)
    worst = found.culprit.layer if found.culprit is not None else None
    own = tuple(Bar(x.layer or "(top)", x.own, x.layer == worst) for x in layers)
    casts = tuple(Bar(f"{c.cast}: {c.from_dtype} to {c.to_dtype}", c.error) for c in found.casts)
    charts = (
        BarChart("Drift", "Relative error gathered at the end of each layer.", drift),
        BarChart("Of each layer's own", "The most that one node adds by itself.", own),
        *(
            (BarChart(f"Casts of {found.culprit.node}", "Each rounding by itself.", casts),)
            if found.culprit is not None and casts
            else ()
        ),
    )
    first = found.first
    verdict = f"First beyond {found.bound:g}: {_place(first)}." if first else "No layer drifts."
    return BarsPage("emuron debugger", name, verdict, charts)


_BAR = 10


def _cells(row: NodeDrift, found: Diagnosis, largest: float) -> tuple[object, ...]:
    share = row.drift / largest if largest not in (0.0, float("inf")) else 0.0
    bar = "█" * round(_BAR * min(1.0, share)) + (" ◀" if row.drift > found.bound else "")
    return row.layer or "(top)", row.node, f"{row.drift:.3g}", bar, f"{row.own:.3g}"


def _place(drift: NodeDrift) -> str:
    where = f" in {drift.layer}" if drift.layer else ""
    return f"{drift.node}{where}{f' ({drift.source})' if drift.source else ''}"


def _cast(effect: CastEffect) -> tuple[object, ...]:
    return effect.cast, effect.from_dtype, effect.to_dtype, f"{effect.error:.3g}"

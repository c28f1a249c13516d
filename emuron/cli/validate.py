"""`emuron validate`: predict a table of measurements and print the error of every row."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from emuron.cli.output import Json, console, print_json, print_table, progress
from emuron.planner.measurements import Measurement, read_measurements, select_measurements
from emuron.planner.prediction import Prediction, summarize
from emuron.planner.validate import Predictor

File = Annotated[
    Path, typer.Argument(help="A CSV file of measurements: id, model, instance, batch, seq, ...")
]
Match = Annotated[
    str, typer.Option("--match", help="Predict the rows whose model contains this, in any case.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Predict the first rows only.")]

_FIGURES = ("batch", "seq", "measured", "predicted", "error", "note")


def validate(file: File, match: Match = "", limit: Limit = None, as_json: Json = False) -> None:
    """Predict every row of a table of measurements; print the errors and their summary.

    A row that cannot be predicted says why: `emuron validate measured.csv --match bert-base`.
    """
    rows = select_measurements(read_measurements(file), match, limit)
    predictions = _predict(rows)
    summary = summarize(predictions)
    if as_json:
        print_json({"rows": [_record(p) for p in predictions], "summary": asdict(summary)})
        return
    notes = dict(Counter(p.note for p in predictions if p.note).most_common())
    numbers = {note: number for number, note in enumerate(notes, start=1)}
    for (model, instance), group in groupby(predictions, _subject):
        print_table(
            ("id", "batch", "seq", "metric", "measured", "predicted", "error", "note"),
            [_cells(p, numbers.get(p.note)) for p in group],
            title=f"{model} on {instance}",
            right=_FIGURES,
            whole=("id", *_FIGURES),
        )
    if notes:
        listed = [(numbers[note], count, note) for note, count in notes.items()]
        print_table(("note", "rows", "says"), listed, title="Notes", right=("note", "rows"))
    console().print(str(summary))


def _predict(rows: tuple[Measurement, ...]) -> list[Prediction]:
    predictor, predictions = Predictor(), []
    with progress() as bar:
        task = bar.add_task("Predicting", total=len(rows))
        for row in rows:
            bar.update(task, description=f"Predicting {row.id}")
            predictions.append(predictor.predict(row))
            bar.advance(task)
    return predictions


def _record(prediction: Prediction) -> dict[str, object]:
    return {
        "id": prediction.measurement.id,
        "measured": prediction.measurement.value,
        "predicted": prediction.predicted,
        "relative_error": prediction.relative_error,
        "note": prediction.note,
    }


def _subject(prediction: Prediction) -> tuple[str, str]:
    return prediction.measurement.model, prediction.measurement.instance


def _cells(prediction: Prediction, note: int | None) -> tuple[object, ...]:
    row, error = prediction.measurement, prediction.relative_error
    return (
        row.id,
        row.batch,
        row.sequence,
        f"{row.metric} {row.unit}",
        f"{row.value:.5g}",
        None if prediction.predicted is None else f"{prediction.predicted:.5g}",
        None if error is None else f"{error:+.1%}",
        note,
    )

"""Tables of published measurements: the CSV files that `emuron validate` predicts."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emuron.errors import UsageError

REQUIRED_COLUMNS = ("id", "model", "instance", "batch", "seq", "metric", "unit", "value")
"""Columns that every table has; run_mode, tp, cores, task, the dtypes and notes may be missing."""

APPLICATIONS = ("Real Time", "Batch")
"""What published tables say a row was tuned for."""

_TOKENS = "sequence-length="
_COUNT = re.compile(r"(\d+)(?:\s*\(.*\))?")
"""A count, perhaps with a remark: `8`, `4 (inferred)`."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of a table, as stated; None or "" is what the table leaves open."""

    id: str
    model: str
    instance: str
    metric: str
    unit: str
    value: float
    batch: int | None = None
    sequence: int | None = None
    tensor_parallel: int | None = None
    cores: int | None = None
    run_mode: str = ""
    task: str = ""
    dtype: str = ""  # of the stored model, as FP32
    autocast: str = ""  # as Matmult-BF16
    remark: str = ""
    input_tokens: int | None = None  # of each prompt
    output_tokens: int | None = None  # generated for each
    weight_dtype: str = ""  # as served, in lower case
    application: str = ""  # Real Time or Batch
    framework: str = ""  # as PyTorch 2.5
    image: str = ""  # as 512x512


def read_measurements(path: str | Path) -> tuple[Measurement, ...]:
    """Read a table; raise UsageError naming the file, the line and what is wrong there."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"{path} {what}. Give a CSV file of measurements.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            return tuple(_read_row(f"{path}, line {reader.line_num}", row) for row in reader)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from error


def select_measurements(
    measurements: tuple[Measurement, ...], match: str = "", limit: int | None = None
) -> tuple[Measurement, ...]:
    """Return the first `limit` rows whose model's name contains `match`, in any case.

    Raises UsageError where no model's name does.
    """
    found = tuple(m for m in measurements if match.lower() in m.model.lower())
    if match and not found:
        raise UsageError(
            f"No row's model contains {match!r}. The table's {len(measurements)} rows are of other "
            "models; leave out --match to see all."
        )
    return found[:limit]


def _check_columns(path: Path, found: object) -> None:
    names = tuple(found) if isinstance(found, list | tuple) else ()
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        raise UsageError(
            f"{path} has no column {', '.join(missing)}. A table of measurements has at least the "
            f"columns {', '.join(REQUIRED_COLUMNS)} in its first line; found: "
            f"{', '.join(names) or 'nothing'}."
        )


def _read_row(where: str, row: Mapping[str | None, object]) -> Measurement:
    if None in row or any(row[name] is None for name in REQUIRED_COLUMNS):
        raise UsageError(f"{where}: the line has more or fewer fields than the table has columns.")
    cells = {str(name): str(text or "").strip() for name, text in row.items()}
    dtype, autocast = _casts(cells)
    dtype, named, tokens = _described(dtype)
    return Measurement(
        id=cells["id"],
        model=f"{cells['model']} ({named})" if named else cells["model"],
        instance=cells["instance"],
        metric=cells["metric"],
        unit=cells["unit"],
        value=_number(where, cells["value"]),
        batch=_count(where, cells, "batch"),
        sequence=_count(where, cells, "seq") or tokens,
        tensor_parallel=_count(where, cells, "tp"),
        cores=_count(where, cells, "cores"),
        run_mode=cells.get("run_mode", ""),
        task=cells.get("task", ""),
        dtype=dtype,
        autocast=autocast,
        remark=cells.get("notes", ""),
        input_tokens=_count(where, cells, "input"),
        output_tokens=_count(where, cells, "output"),
        weight_dtype=cells.get("weight_dtype", "").lower(),
        application=cells.get("application", "") or _application(cells.get("notes", "")),
        framework=cells.get("framework", ""),
        image=cells.get("image", ""),
    )


def _described(dtype: str) -> tuple[str, str, int | None]:
    """Return dtype, model and tokens of a cell: `fp32, bert-base-cased, sequence-length=128`.

    Of two dtypes the first is that of the stored model.
    """
    words = [word.strip() for word in dtype.strip('"').split(",")]
    tokens = [int(word[len(_TOKENS) :]) for word in words if re.fullmatch(_TOKENS + r"\d+", word)]
    others = [w for w in words[1:] if not w.startswith(_TOKENS) and "-" in w]
    return words[0], others[0] if others else "", tokens[0] if tokens else None


def _application(remark: str) -> str:
    """Return what a remark ends with, where that is an application: `…; Real Time`."""
    last = remark.rpartition(";")[2].strip()
    return last if last in APPLICATIONS else ""


def _casts(cells: Mapping[str, str]) -> tuple[str, str]:
    """Return dtype and auto-cast; one column may hold both, as `FP32/Matmult-BF16`."""
    both = cells.get("dtype", "").partition("/")
    return cells.get("model_dtype", "") or both[0], cells.get("autocast", "") or both[2]


def _number(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where}: value {text!r} is not a finite number.")
    return value


def _count(where: str, cells: Mapping[str, str], name: str) -> int | None:
    text = cells.get(name, "")
    if not text:
        return None
    found = _COUNT.fullmatch(text)
    if found is None or int(found[1]) < 1:
        raise UsageError(f"{where}: {name} {text!r} is not a whole number of at least 1.")
    return int(found[1])

"""Published device times of public test cases, and which recorded case each of them is of."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emuron.errors import UsageError
from tools.conformance.records import CaseRecord

Value = float | str | None

_NEEDED = ("id", "kernel", "table", "lnc", "params", "time_us")


@dataclass(frozen=True, slots=True)
class MeasuredTime:
    """A row of a table of device times.

    `file` is the name of the test file, `table` the list of the test's parameters that the row is
    from. `lnc` is None where the test leaves it to the harness. `absent` names parameters that
    other rows of the table have.
    """

    id: str
    file: str
    table: str
    lnc: int | None
    params: Mapping[str, str]
    time_us: float
    absent: frozenset[str] = field(default=frozenset())

    def agreement(self, case: CaseRecord) -> int | None:
        """Return how many parameters of the row a case is known to have; None if it differs.

        A name may be longer on one side (`quant`, `quant_type`), or another word: then the value
        counts. An enum's member is compared by name with what the kernel was called with where the
        case has its number. At least half of the parameters must be known.
        """
        if Path(case.file).name != self.file:
            return None
        values = {_plain(name): _canonical(value) for name, value in case.params.items()}
        if any(values.get(_plain(name)) is not None for name in self.absent):
            return None
        words = {_canonical(value) for value in case.arguments.values() if isinstance(value, str)}
        known = int(self.table in case.tables)
        for name, text in self.params.items():
            same = _agrees(_canonical(text), _found(values, name), words)
            if same is False:
                return None
            known += same is True
        return known if 2 * known >= len(self.params) else None


def read_times(path: Path) -> list[MeasuredTime]:
    """Return the rows of a CSV file with id, kernel, table, lnc, params, time_us maybe source.

    `params` are name=value pairs with semicolons between; the test file is the last part of
    `source`, or test_<kernel>.py. Raises UsageError for a missing column or a value that is none.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"{path} has no column {', '.join(missing)}; it needs {_NEEDED}.")
        rows = list(reader)
    params = [_pairs(row["params"]) for row in rows]
    names: dict[str, set[str]] = defaultdict(set)
    for row, given in zip(rows, params, strict=True):
        names[row["table"]].update(given)
    return [
        _measured(path, row, given, names[row["table"]])
        for row, given in zip(rows, params, strict=True)
    ]


def _measured(
    path: Path, row: Mapping[str, str], given: Mapping[str, str], names: Iterable[str]
) -> MeasuredTime:
    source = (row.get("source") or "").rpartition("/")[2]
    try:
        return MeasuredTime(
            id=row["id"],
            file=source if source.endswith(".py") else f"test_{row['kernel']}.py",
            table=row["table"],
            lnc=int(row["lnc"]) if row["lnc"] else None,
            params=given,
            time_us=float(row["time_us"]),
            absent=frozenset(names) - set(given),
        )
    except ValueError as error:
        raise UsageError(f"{path}, row {row['id']}: {error}") from None


def needed(rows: Sequence[MeasuredTime], cases: Iterable[CaseRecord]) -> list[bool]:
    """Return for each case whether it may be the best of a row: an equal one may come before it."""
    settled: set[str] = set()
    found = []
    for case in cases:
        known = [(row, row.agreement(case)) for row in rows]
        found.append(any(n is not None and row.id not in settled for row, n in known))
        settled.update(
            row.id
            for row, n in known
            if n is not None and n == len(row.params) + bool(case.tables)  # all, and its table
        )
    return found


def best_case(row: MeasuredTime, cases: Sequence[CaseRecord]) -> CaseRecord | None:
    """Return the timed case that agrees best with a row, the first of equals; None if none does.

    Where the row has a number of cores, the case ran on it.
    """
    best: tuple[int, CaseRecord] | None = None
    for case in cases:
        if case.predicted_ps is None or (row.lnc or case.lnc) != case.lnc:
            continue
        known = row.agreement(case)
        if known is not None and (best is None or known > best[0]):
            best = known, case
    return best[1] if best else None


def _pairs(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _canonical(value: Any) -> Value:
    """Return a number as a float, truth as 0 or 1, and words in small letters."""
    if value is None or isinstance(value, bool | int | float):
        return None if value is None else float(value)
    text = str(value).strip()
    if text in ("None", "True", "False"):
        return {"None": None, "True": 1.0, "False": 0.0}[text]
    try:
        return float(text.replace("_", ""))
    except ValueError:
        return text.rpartition(".")[2].lower() if "(" not in text else text


def _found(values: Mapping[str, Value], name: str) -> tuple[Value, ...]:
    """Return the value of a name, or of the only one that begins with it or that it begins with.

    Without such a name all values come back.
    """
    wanted = _plain(name)
    if wanted in values:
        return (values[wanted],)
    alike = [n for n in values if n.startswith(wanted) or wanted.startswith(n)]
    return (values[alike[0]],) if len(alike) == 1 else tuple(values.values())


def _agrees(wanted: Value, found: tuple[Value, ...], words: set[Value]) -> bool | None:
    """Return whether a row's value is that of the case; None where that cannot be told."""
    if isinstance(wanted, str) and "(" in wanted:
        return None  # an expression of the test file
    if len(found) != 1:
        return True if wanted in found and wanted not in (0.0, 1.0) else None
    if isinstance(wanted, str) and isinstance(found[0], float):
        return wanted in words if words else None
    return bool(wanted == found[0])

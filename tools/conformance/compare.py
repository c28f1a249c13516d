"""`python -m tools.conformance.compare TIMES.csv`: predicted beside published device times."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from emuron.cli.output import console, print_json, print_table
from emuron.planner.prediction import Summary, error_summary
from tools.conformance.records import CaseRecord, read_records
from tools.conformance.suites import VISIBLE, Options, Suite, read_suites
from tools.conformance.times import MeasuredTime, best_case, read_times


@dataclass(frozen=True, slots=True)
class Comparison:
    """A published time in us and the one predicted for its case; None where none is known."""

    row: MeasuredTime
    case: CaseRecord | None
    note: str = ""

    @property
    def predicted_us(self) -> float | None:
        """The predicted time of the case."""
        if self.case is None or self.case.predicted_ps is None:
            return None
        return self.case.predicted_ps / 1e6

    @property
    def relative_error(self) -> float | None:
        """What the prediction exceeds the published time by, as a share of it."""
        return None if self.predicted_us is None else self.predicted_us / self.row.time_us - 1


def compare(
    times: Annotated[Path, typer.Argument(help="A table of device times.")],
    files: Annotated[Path, typer.Option(help="A list of suites and files.")] = VISIBLE,
    records: Annotated[
        Path | None, typer.Option(help="Cases of an earlier run; nothing is run then.")
    ] = None,
    only: Annotated[str, typer.Option(help="Files whose path contains this.")] = "",
    output: Annotated[Path, typer.Option(help="Folder for results.")] = Path("build/times"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the cases that a table of device times is of, without data, and print the errors.

    Rows of files that are not in the list are left out. Writes OUTPUT/cases.jsonl.
    """
    suites = read_suites(files)
    named = {Path(file).name for suite in suites for file in suite.files if only in file}
    rows = [row for row in read_times(times) if row.file in named]
    if records is None:
        records = output / "cases.jsonl"
        for why in _time_cases(suites, rows, only, records, times):
            console(stderr=True).print(why)
    comparisons = compare_records(rows, records)
    summary = summarize(comparisons)
    if as_json:
        print_json({"rows": [_record(c) for c in comparisons], "summary": asdict(summary)})
        return
    figures = ("lnc", "measured us", "predicted us", "error")
    for (file, table), group in groupby(comparisons, lambda c: (c.row.file, c.row.table)):
        print_table(
            ("id", *figures, "parameters", "note"),
            [_cells(comparison) for comparison in group],
            title=f"{file}: {table}",
            right=figures,
            whole=("id", *figures),
        )
    console().print(str(summary))


def compare_records(rows: Sequence[MeasuredTime], records: Path) -> list[Comparison]:
    """Return each row with what the cases of a run say of it."""
    cases: dict[str, list[CaseRecord]] = {}
    for case in read_records(records):
        cases.setdefault(Path(case.file).name, []).append(case)
    return [_comparison(row, cases.get(row.file, [])) for row in rows]


def summarize(comparisons: Iterable[Comparison]) -> Summary:
    """Return the summary that `emuron validate` gives, of published and predicted times."""
    return error_summary([(c.predicted_us, c.row.time_us) for c in comparisons])


def _time_cases(
    suites: Sequence[Suite], rows: Sequence[MeasuredTime], only: str, records: Path, times: Path
) -> list[str]:
    """Run the files that rows are of; return why some cannot."""
    records.parent.mkdir(parents=True, exist_ok=True)
    records.unlink(missing_ok=True)
    options = Options(records, 0, 0, 0, 0, no_data=True, times=times)
    wanted, problems = {row.file for row in rows}, []
    for suite in suites:
        chosen = [file for file in suite.files if Path(file).name in wanted and only in file]
        why_not = suite.why_not() if chosen else None
        if why_not is not None:
            problems.append(f"{suite.name} did not run: {why_not}.")
            continue
        for file in chosen:
            console(stderr=True).print(f"Timing the cases of {Path(file).name}")
            suite.run(file, options, records.parent / "pytest.log")
    return problems


def _comparison(row: MeasuredTime, cases: Sequence[CaseRecord]) -> Comparison:
    case = best_case(row, cases)
    if case is not None:
        return Comparison(row, case)
    failed = next((c for c in cases if c.note and row.agreement(c) is not None), None)
    return Comparison(row, None, (failed.note or "") if failed else "no case has these parameters")


def _record(comparison: Comparison) -> dict[str, object]:
    return {
        "id": comparison.row.id,
        "measured": comparison.row.time_us,
        "predicted": comparison.predicted_us,
        "relative_error": comparison.relative_error,
        "note": comparison.note,
    }


def _cells(comparison: Comparison) -> tuple[object, ...]:
    row, predicted, error = comparison.row, comparison.predicted_us, comparison.relative_error
    return (
        row.id,
        row.lnc or (comparison.case.lnc if comparison.case else None),
        f"{row.time_us:.5g}",
        None if predicted is None else f"{predicted:.5g}",
        None if error is None else f"{error:+.1%}",
        " ".join(f"{name}={value}" for name, value in row.params.items()),
        comparison.note.splitlines()[0] if comparison.note else None,
    )


if __name__ == "__main__":
    sys.argv[0] = "conformance-times"
    typer.run(compare)

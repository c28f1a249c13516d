"""`python -m tools.conformance`: public test files on emuron, in a table and a JSON file."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from emuron.cli.output import console, print_table
from tools.conformance.defects import DEFECTS
from tools.conformance.records import CaseRecord, read_records
from tools.conformance.suites import NO_TESTS, VISIBLE, Options, Suite, read_suites

MOST_CASES = 16
MOST_INSTRUCTIONS = 16_000
MOST_ELEMENTS = 1 << 27
CASE_SECONDS = 300.0
OUTCOMES = ("passed", "timed", "failed", "upstream", "skipped")
_CRASHED = 2
"""From this exit code on, pytest itself did not come to an end (5 aside)."""


@dataclass(slots=True)
class FileResult:
    """What came of one file's cases."""

    suite: str
    file: str
    seconds: float
    exit_code: int
    records: list[CaseRecord] = field(default_factory=list)

    def count(self, *outcomes: str) -> int:
        """Return how many cases came out so."""
        return sum(record.outcome in outcomes for record in self.records)

    @property
    def failed(self) -> int:
        """Cases that failed, and 1 for a run that broke off."""
        broke_off = self.exit_code >= _CRASHED and self.exit_code != NO_TESTS
        return self.count("failed") or int(broke_off)


def conformance(
    files: Annotated[Path, typer.Option(help="A list of suites and files.")] = VISIBLE,
    full: Annotated[bool, typer.Option("--full", help="Run every case, all with data.")] = False,
    no_data: Annotated[bool, typer.Option("--no-data", help="Time only, execute nothing.")] = False,
    cases: Annotated[int, typer.Option(help="Cases of each file at most; 0: all.")] = MOST_CASES,
    instructions: Annotated[
        int, typer.Option(help="Larger cases are timed without data; 0: none is.")
    ] = MOST_INSTRUCTIONS,
    seconds: Annotated[float, typer.Option(help="A case fails after that time.")] = CASE_SECONDS,
    only: Annotated[str, typer.Option(help="Files whose path contains this.")] = "",
    expression: Annotated[str | None, typer.Option("-k", help="pytest's -k.")] = None,
    lnc: Annotated[int | None, typer.Option(help="Physical cores of every case.")] = None,
    target: Annotated[str | None, typer.Option(help="Chip of every file.")] = None,
    jobs: Annotated[int, typer.Option("-n", help="Processes; 0: this one.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for results.")] = Path("build/conformance"),
) -> None:
    """Run public test files unmodified and print what passed.

    Exits with 1 if anything failed or nothing ran. Writes OUTPUT/cases.jsonl (a line for each case,
    with its predicted time), OUTPUT/results.json and OUTPUT/pytest.log.
    """
    output.mkdir(parents=True, exist_ok=True)
    for old in ("cases.jsonl", "pytest.log"):
        (output / old).unlink(missing_ok=True)
    options = Options(
        records=output / "cases.jsonl",
        most_cases=0 if full else cases,
        most_instructions=0 if full else instructions,
        most_elements=0 if full else MOST_ELEMENTS,
        case_seconds=0 if full else seconds,
        no_data=no_data,
        lnc=lnc,
        target=target,
        jobs=jobs,
        expression=expression,
    )
    results, missing = _run(read_suites(files), only, options, output)
    _print(results, missing, options)
    _write(results, missing, output / "results.json")
    if not results or any(result.failed for result in results):
        raise typer.Exit(1)


def _run(
    suites: Sequence[Suite], only: str, options: Options, output: Path
) -> tuple[list[FileResult], dict[str, str]]:
    results: list[FileResult] = []
    missing = {}
    for suite in suites:
        why_not = suite.why_not()
        if why_not is not None:
            missing[suite.name] = why_not
            continue
        chosen = [file for file in suite.files if only in file]
        results += [_run_file(suite, file, options, output) for file in chosen]
    return results, missing


def _run_file(suite: Suite, file: str, options: Options, output: Path) -> FileResult:
    seen = len(read_records(options.records))
    started = time.perf_counter()
    code = suite.run(file, options, output / "pytest.log")
    took = time.perf_counter() - started
    result = FileResult(suite.name, file, took, code, read_records(options.records)[seen:])
    console(stderr=True).print(
        f"{Path(file).name}: {len(result.records)} cases, {result.failed} failed, {took:.0f} s"
    )
    return result


def _print(results: list[FileResult], missing: dict[str, str], options: Options) -> None:
    _print_counts(results, options)
    failures = Counter(
        (_short(result.file), _first_line(record.note))
        for result, record in _with(results, "failed")
    )
    if failures:
        rows = [(file, count, cause) for (file, cause), count in failures.most_common()]
        print_table(("file", "cases", "cause"), rows, title="Failures", right=("cases",))
    blamed = sorted({(record.file, record.note) for _, record in _with(results, "upstream")})
    if blamed:
        print_table(("test", "why it cannot pass"), blamed, title="Upstream failures")
    print_table(
        ("defect upstream", "reason"),
        [(defect.name, defect.reason) for defect in DEFECTS],
        title="Shimmed in nki-library's harness",
    )
    for name, why in missing.items():
        console().print(f"{name} did not run: {why}.")


def _print_counts(results: list[FileResult], options: Options) -> None:
    columns = ("run", *OUTCOMES, "seconds")
    rows = [(_short(r.file), *_counts(r), f"{r.seconds:.0f}") for r in results]
    totals = [sum(int(row[i]) for row in rows) for i in range(1, len(columns))]
    rows.append(("all", *totals, f"{sum(r.seconds for r in results):.0f}"))
    chosen = f"at most {options.most_cases} cases of a file" if options.most_cases else "all cases"
    timed = (
        f"Timed: recorded without data, as they have more than {options.most_instructions:,} "
        f"instructions or {options.most_elements:,} elements of input."
        if options.most_instructions
        else "All are executed."
    )
    caption = f"Chosen: {chosen}. {timed}"
    print_table(
        ("file", *columns),
        rows,
        title="Conformance",
        right=columns,
        whole=("file",),
        caption=caption,
    )


def _with(results: list[FileResult], outcome: str) -> Iterator[tuple[FileResult, CaseRecord]]:
    for result in results:
        for record in result.records:
            if record.outcome == outcome:
                yield result, record


def _counts(result: FileResult) -> tuple[int, ...]:
    ran = result.count(*OUTCOMES) - result.count("skipped")
    counts = (result.failed if name == "failed" else result.count(name) for name in OUTCOMES)
    return (ran, *counts)


def _short(file: str) -> str:
    return Path(file).name if file.endswith(".py") else file


def _first_line(note: str | None) -> str:
    return (note or "broke off; see pytest.log").strip().splitlines()[0][:300]


def _summary(result: FileResult) -> dict[str, Any]:
    counts = zip(("run", *OUTCOMES), _counts(result), strict=True)
    fields = ("suite", "file", "seconds", "exit_code")
    return {**{name: getattr(result, name) for name in fields}, **dict(counts)}


def _write(results: list[FileResult], missing: dict[str, str], path: Path) -> None:
    document = {
        "files": [_summary(result) for result in results],
        "failures": [asdict(record) for _, record in _with(results, "failed")],
        "upstream": [asdict(record) for _, record in _with(results, "upstream")],
        "not_run": missing,
        "shimmed": {defect.name: defect.reason for defect in DEFECTS},
    }
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.argv[0] = "conformance"
    typer.run(conformance)

"""`emuron kernel run`: runs NKI kernels and prints their time, engine use and largest error."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from emuron.cli.kernel_options import (
    CaseName,
    File,
    Input,
    KernelName,
    NoData,
    ReportPath,
    Target,
    TracePath,
)
from emuron.cli.kernel_profile import diff, profile
from emuron.cli.kernel_strictness import NkiVersion, Races, Subset, strictness
from emuron.cli.output import Json, print_json, print_table, progress
from emuron.errors import UsageError

if TYPE_CHECKING:
    from emuron.nki.cases import Case
    from emuron.nki.launch import KernelRun
    from emuron.trace.summary import Summary

_BUSY = {
    "PE": "tensor",
    "Vector": "vector",
    "Scalar": "scalar",
    "GpSimd": "gpsimd",
    "DMA": "dma",
}

app = typer.Typer(no_args_is_help=True, help="Run and profile NKI kernels written by hand.")
app.command("profile")(profile)
app.command("diff")(diff)


@app.callback()
def kernel() -> None:
    """Run and profile NKI kernels written by hand."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One case that ran: its summary, and its error where there is something to check."""

    case: Case
    run: KernelRun
    summary: Summary
    error: float | None

    @property
    def passed(self) -> bool | None:
        """Whether the error is within the case's tolerance; None without a check."""
        return None if self.error is None else self.error <= self.case.tolerance


@app.command("run")
def run(
    file: File,
    kernel: KernelName = None,
    case: CaseName = None,
    inputs: Input = None,
    target: Target = None,
    no_data: NoData = False,
    nki_version: NkiVersion = None,
    subset: Subset = None,
    races: Races = None,
    trace: TracePath = None,
    report: ReportPath = None,
    as_json: Json = False,
) -> None:
    """Run the cases of a kernel file: results, time, engine use, memory.

    A file names its cases in a function `cases()` that returns a list of
    `nki.Case(name, kernel, args, expected=…, tolerance=…)`: `args` are NumPy arrays, or
    `nki.ShapeDtype(shape, dtype)` for a case that is only timed; `expected(*args)` returns what the
    kernel should. Any other file of @nki.jit kernels runs with --kernel NAME and --input.

    Exits with 1 if a result is wrong, or if the hardware would refuse the kernel.
    """
    from emuron.cli.kernel_file import chosen_cases, load_file

    cases = chosen_cases(load_file(file), kernel, case, inputs or ())
    if (trace or report) and len(cases) != 1:
        names = ", ".join(repr(c.name) for c in cases)
        raise UsageError(f"--trace and --report take one case; choose with --case: {names}.")
    with strictness(nki_version, subset, races):
        results = _run_all(cases, target, no_data)
    for result in results:
        _write(result, trace, report)
    if as_json:
        chip = results[0].run.chip.name if results else None
        print_json({"file": str(file), "target": chip, "cases": [_record(r) for r in results]})
    else:
        _print(results, file)
    if any(result.passed is False for result in results):
        raise typer.Exit(1)


def _run_all(cases: list[Case], target: str | None, no_data: bool) -> list[Result]:
    results = []
    with progress() as bar:
        task = bar.add_task("", total=len(cases))
        for case in cases:
            bar.update(task, description=case.name)
            results.append(_run_case(case, target, no_data))
            bar.advance(task)
    return results


def _run_case(case: Case, target: str | None, no_data: bool) -> Result:
    from emuron.cli.kernel_file import users_errors, without_data
    from emuron.nki.cases import largest_error
    from emuron.nki.launch import run_kernel
    from emuron.trace.summary import summarize

    executed = case.has_data and not no_data
    with users_errors():
        given = case if executed else without_data(case)
        # A kernel may write to its arguments: the check is made of their contents before.
        expected = case.expected(*case.args) if executed and case.expected else None
        made = run_kernel(case.kernel, given.args, target=target, execute=executed)
        error = None if expected is None else largest_error(made.outputs, expected)
    assert made.timing.trace is not None
    return Result(case, made, summarize(made.timing.trace), error)


def _share(result: Result, kind: str) -> float:
    return result.summary.kinds.get(kind, 0) / max(1, result.summary.total_ps)


def _print(results: list[Result], file: Path) -> None:
    from emuron.trace.quantity import bytes_text, duration_text

    chip = results[0].run.chip if results else None
    counts = sorted({len(result.run.programs) for result in results})
    cores = "one core" if counts == [1] else f"{' or '.join(map(str, counts))} cores"
    where = f" on {cores} of {chip.name} (NeuronCore-{chip.core.version})" if chip else ""
    used = {t: k for t, k in _BUSY.items() if any(_share(result, k) for result in results)}
    print_table(
        ("case", "time", *used, "error"),
        [
            (
                result.case.name,
                duration_text(result.summary.total_ps),
                *(f"{_share(result, kind):.1%}" for kind in used.values()),
                _error_text(result),
            )
            for result in results
        ],
        title=f"{file.name}{where}",
        right=("time", *used, "error"),
        caption="Engines and DMA: the share of the time in which they were busy.\n"
        "Error: the largest, relative to the largest expected number.",
    )
    memory = ("DMA bytes", "SBUF peak", "PSUM peak")
    print_table(
        ("case", "instructions", *memory),
        [
            (
                result.case.name,
                result.run.timing.instructions,
                bytes_text(result.summary.dma_bytes),
                bytes_text(result.run.placement.sbuf_peak_bytes),
                bytes_text(result.run.placement.psum_peak_bytes),
            )
            for result in results
        ],
        right=("instructions", *memory),
        caption="Peaks: bytes in each partition.",
    )


def _error_text(result: Result) -> str | None:
    if result.error is None:
        return None
    wrong = f"WRONG, over {result.case.tolerance:.1e}: "
    return f"{'' if result.passed else wrong}{result.error:.1e}"


def _record(result: Result) -> dict[str, Any]:
    summary, placement = result.summary, result.run.placement
    finite = result.error is not None and result.error < float("inf")
    return {
        "name": result.case.name,
        "kernel": getattr(result.case.kernel, "__name__", ""),
        "time_us": summary.total_ps / 1e6,
        "instructions": result.run.timing.instructions,
        "busy": {kind: _share(result, kind) for kind in _BUSY.values()},
        "dma_bytes": summary.dma_bytes,
        "hbm_bytes": summary.hbm_bytes,
        "mfu": summary.mfu,
        "sbuf_peak_bytes_per_partition": placement.sbuf_peak_bytes,
        "psum_peak_bytes_per_partition": placement.psum_peak_bytes,
        "max_error": result.error if finite else None,
        "tolerance": result.case.tolerance if result.error is not None else None,
        "passed": result.passed,
    }


def _write(result: Result, trace: Path | None, report: Path | None) -> None:
    from emuron.nki.line_profile import profile_run
    from emuron.trace.perfetto import to_perfetto
    from emuron.trace.report import Fidelity, to_html

    recorded = result.run.timing.trace
    assert recorded is not None
    if trace is not None:
        to_perfetto(recorded, trace)
    if report is None:
        return
    fidelity: tuple[Fidelity, ...] = ()
    if result.error is not None:
        bound, found = f"{result.case.tolerance:.1e}", f"{result.error:.1e}"
        fidelity = (Fidelity("outputs", "largest relative error", found, bound, result.passed),)
    page = replace(profile_run(result.run, result.case.name).report(), fidelity=fidelity)
    to_html(page, report)

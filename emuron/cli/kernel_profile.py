"""`emuron kernel profile` and `emuron kernel diff`: where a kernel's time goes, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from emuron.cli.output import Json, console, print_json, print_table, progress
from emuron.errors import UsageError

if TYPE_CHECKING:
    from emuron.trace.line_use import LineUse
    from emuron.trace.profile import Profile
    from emuron.trace.profile_diff import Change, ProfileDiff

_COLUMNS = ("line", "share", "critical", "waits", "DMA", "busy")
_FEW_COLUMNS = ("line", "share", "critical", "busy")
_WIDE = 110  # characters of a terminal that has room for all columns
_CELL = 11  # of them for a column other than the line and its source
_LEAST_SOURCE = 16

Against = Annotated[
    Path | None,
    typer.Option("--against", help="Also print what changed since this profile (a JSON file)."),
]
Top = Annotated[int, typer.Option("--top", min=1, help="Show so many lines.")]
Before = Annotated[Path, typer.Argument(help="A profile printed with --json.")]
After = Annotated[Path, typer.Argument(help="Another one, of a later version of the kernel.")]


def profile(
    file: File,
    kernel: KernelName = None,
    case: CaseName = None,
    inputs: Input = None,
    target: Target = None,
    no_data: NoData = False,
    trace: TracePath = None,
    report: ReportPath = None,
    against: Against = None,
    top: Top = 12,
    as_json: Json = False,
) -> None:
    """Show what each source line of a kernel costs, what bounds it, and what to fix first.

    Takes one case of the file, chosen as by `emuron kernel run`. The JSON form is complete and
    stable: every line with its text, engine times, critical path, waits and bytes; the hints with
    their measured quantities; the roofline. `emuron kernel diff` compares two of them.
    """
    from emuron.cli.kernel_file import chosen_cases, load_file
    from emuron.trace.profile_diff import diff_profiles, load_profile

    before = load_profile(against) if against is not None else None
    cases = chosen_cases(load_file(file), kernel, case, inputs or ())
    if len(cases) != 1:
        names = ", ".join(repr(c.name) for c in cases)
        raise UsageError(f"A profile is of one case; choose with --case or --kernel: {names}.")
    made, diff = _profiled(cases[0], target, no_data, trace, report), None
    if before is not None:
        diff = diff_profiles(before, made.to_dict())
    if as_json:
        document = made.to_dict()
        print_json(document if diff is None else {**document, "diff": diff.to_dict()})
        return
    _print(made, top)
    if diff is not None:
        _print_diff(diff, top)


def diff(before: Before, after: After, top: Top = 12, as_json: Json = False) -> None:
    """Compare two profiles (made by `emuron kernel profile --json`): time, engines, bytes, lines.

    Lines are matched by their text, so that a line that moved is still the same line.
    """
    from emuron.trace.profile_diff import diff_profiles, load_profile

    found = diff_profiles(load_profile(before), load_profile(after))
    if as_json:
        print_json(found.to_dict())
    else:
        _print_diff(found, top)


def _profiled(
    case: Any, target: str | None, no_data: bool, trace: Path | None, report: Path | None
) -> Profile:
    from emuron.cli.kernel_file import users_errors, without_data
    from emuron.nki.launch import run_kernel
    from emuron.nki.line_profile import profile_run
    from emuron.trace.perfetto import to_perfetto
    from emuron.trace.report import to_html

    with progress() as bar:
        task = bar.add_task(f"Running {case.name}", total=2)
        executed = case.has_data and not no_data
        with users_errors():
            given = case if executed else without_data(case)
            run = run_kernel(case.kernel, given.args, target=target, execute=executed)
        bar.update(task, advance=1, description="Finding what costs time")
        made = profile_run(run, case.name)
        if trace is not None:
            to_perfetto(made.measured.trace, trace)
        if report is not None:
            to_html(made.report(), report)
        bar.advance(task)
    return made


def _print(made: Profile, top: int) -> None:
    from emuron.trace.quantity import bytes_text, duration_text

    measured, summary = made.measured, made.summary
    out = console()
    _print_head(made)
    columns = _COLUMNS if out.width >= _WIDE else _FEW_COLUMNS
    print_table(
        (*columns, "source"),
        [_row(line, summary.total_ps, columns, out.width) for line in made.lines[:top]],
        title="Lines",
        right=columns[1:-1],
        whole=columns,
        caption="Share: of the run, each instant split among the lines active in it.\n"
        "Critical: on the longest chain of events, with its latencies. "
        "Waits: its engines stood still for others.",
    )
    for number, hint in enumerate(made.hints[:top], 1):
        out.print(
            f"{number}. {hint.line} ({hint.rule}): {hint.measured}. "
            f"Gain up to {duration_text(hint.gain_ps)}. {hint.way_out}"
        )
    if not made.hints:
        out.print("No rule found anything worth fixing.")
    peaks = [f"{n.split('_')[0].upper()} peak {bytes_text(v)}" for n, v in measured.memory.items()]
    out.print(
        f"DMA {bytes_text(summary.dma_bytes)}, HBM {bytes_text(summary.hbm_bytes)}; "
        f"{', '.join(peaks)} in each partition"
    )


def _print_head(made: Profile) -> None:
    from emuron.trace.quantity import duration_text, share_text

    measured, summary, out = made.measured, made.summary, console()
    cores = f"{measured.cores} cores" if measured.cores > 1 else "one core"
    title = f"{measured.kernel} ({measured.case}) on {cores} of {measured.target}: "
    out.print(f"{title}{duration_text(summary.total_ps)}. {summary.verdict.title}.")
    for bound in made.bounds[:4]:
        share = share_text(bound.least_ps / max(1, summary.total_ps))
        out.print(f"  at least {duration_text(bound.least_ps)} for {bound.title} ({share})")
    if made.roofline is not None:
        roof = made.roofline
        out.print(
            f"  roofline: {roof.intensity:.3g} FLOP/byte (ridge {roof.ridge_intensity:.3g}), "
            f"{roof.achieved_tflops:.3g} of {roof.attainable_tflops:.3g} TFLOP/s attainable, "
            f"{roof.bound_by} bound"
        )


def _row(line: LineUse, total_ps: int, columns: Sequence[str], width: int) -> list[object]:
    from emuron.trace.quantity import bytes_text, duration_text, share_text

    engine, busy_ps = max(line.busy_ps.items(), key=lambda item: item[1], default=("", 0))
    critical = None
    if line.critical_ps is not None and line.latency_ps is not None:
        critical = share_text((line.critical_ps + line.latency_ps) / max(1, total_ps))
    waited = sum(wait.wait_ps for wait in line.waits)
    room = max(_LEAST_SOURCE, width - len(line.line) - _CELL * len(columns))
    cells = {
        "line": line.line,
        "share": share_text(line.share),
        "critical": critical,
        "waits": duration_text(waited) if waited else None,
        "DMA": bytes_text(line.dma_bytes) if line.dma_bytes else None,
        "busy": f"{engine} {duration_text(busy_ps)}",
    }
    source = line.source if len(line.source) <= room else f"{line.source[: room - 1]}…"
    return [*(cells[column] for column in columns), source]


def _print_diff(found: ProfileDiff, top: int) -> None:
    rows = [(name.removesuffix("_us"), *_cells(change)) for name, change in found.totals.items()]
    rows += [(f"{engine} busy", *_cells(change)) for engine, change in found.engines.items()]
    columns = ("before", "after", "change")
    print_table(("", *columns), rows, title="Totals (times in µs)", right=columns)
    changed = [line for line in found.lines if line.critical_us.difference][:top]
    print_table(
        ("line", *columns, "source"),
        [
            (
                line.line_after or f"{line.line_before} (gone)",
                *_cells(line.critical_us),
                line.source,
            )
            for line in changed
        ],
        title="Lines: µs on the critical path",
        right=columns,
        whole=("line",),
    )
    for word, hints in (("Fixed", found.hints_gone), ("New", found.hints_new)):
        for hint in hints:
            console().print(f"{word}: {hint}")


def _cells(change: Change) -> tuple[str, str, str]:
    def text(value: float, sign: str = "") -> str:
        return format(value, f"{sign},.2f" if isinstance(value, float) else f"{sign},")

    ratio = f" ({change.after / change.before - 1:+.1%})" if change.before else ""
    return text(change.before), text(change.after), f"{text(change.difference, '+')}{ratio}"

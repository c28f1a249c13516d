"""`emuron exec`: runs an unmodified command in which `import nki` finds emuron."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emuron.cli.output import Json, console, print_json, table
from emuron.errors import UsageError

if TYPE_CHECKING:
    from emuron.compat.launches import Launch

_MOST_ROWS = 40

Command = Annotated[
    list[str], typer.Argument(help="The command and its arguments: python script.py, pytest …")
]
Target = Annotated[
    str | None,
    typer.Option("--target", help="Chip or generation of every kernel: inf2, trn2, trn3, gen3."),
]
Report = Annotated[
    Path | None, typer.Option("--report", help="Write the launched kernels as JSON.")
]
Shadow = Annotated[
    str | None,
    typer.Option(help="Packages to stand in for even if they are installed: nki,torch_xla."),
]


def exec_command(
    command: Command,
    target: Target = None,
    report: Report = None,
    shadow: Shadow = None,
    as_json: Json = False,
) -> None:
    """Run a command in which nki, its tools and torch_xla are emuron; list its kernels' times.

    The command runs unmodified, with emuron's Python first on PATH. A package that is really
    installed is used as it is unless --shadow names it. The table goes to stderr, so that stdout
    is the command's own; --json puts a JSON document after it. Exits as the command does.
    """
    from emuron.compat.launches import FOLDER_VARIABLE, read_launches

    with tempfile.TemporaryDirectory() as folder:
        changed = {FOLDER_VARIABLE: folder, **_changes(target, shadow)}
        code = _run(command, {**os.environ, **changed})
        launches = read_launches(Path(folder))
    document = {"command": command, "exit_code": code, "launches": [_record(x) for x in launches]}
    if report is not None:
        report.write_text(json.dumps(document, indent=2), encoding="utf-8")
    if as_json:
        print_json(document)
    elif launches:
        _print(launches)
    else:
        console(stderr=True).print("No kernel was launched.")
    raise typer.Exit(code)


def _changes(target: str | None, shadow: str | None) -> dict[str, str]:
    """Return what the command's environment has that ours has not."""
    from emuron import compat
    from emuron.compat.finder import SHADOW_VARIABLE
    from emuron.nki.target import TARGET_VARIABLE, target_chip

    startup = str(Path(compat.__file__).with_name("startup"))
    python = str(Path(sys.executable).parent)
    changed = {
        "PYTHONPATH": _first(startup, os.environ.get("PYTHONPATH")),
        "PATH": _first(python, os.environ.get("PATH")),
        "NKI_SIMULATOR": "1",
    }
    if target is not None:
        target_chip(target)  # a wrong name is told here
        changed[TARGET_VARIABLE] = target
    if shadow:
        changed[SHADOW_VARIABLE] = shadow
    return changed


def _first(entry: str, others: str | None) -> str:
    return os.pathsep.join([entry, *([others] if others else [])])


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    if shutil.which(command[0], path=environment["PATH"]) is None:
        raise UsageError(
            f"There is no command '{command[0]}'. Give one that runs Python, such as: "
            "emuron exec python script.py"
        )
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the command got it too, and ends as it will
            continue


def _record(launch: Launch) -> dict[str, Any]:
    return {
        "kernel": launch.kernel,
        "target": launch.target,
        "cores": launch.cores,
        "instructions": launch.instructions,
        "time_us": None if launch.total_ps is None else launch.total_ps / 1e6,
        "error": launch.error,
    }


def _print(launches: Sequence[Launch]) -> None:
    from emuron.trace.quantity import duration_text

    counts: dict[Launch, int] = {}
    for launch in launches:
        counts[launch] = counts.get(launch, 0) + 1
    rows = [
        (
            launch.kernel,
            f"{launch.target} × {launch.cores}" if launch.cores > 1 else launch.target,
            times,
            f"{launch.instructions:,}",
            launch.error if launch.total_ps is None else duration_text(launch.total_ps),
        )
        for launch, times in list(counts.items())[:_MOST_ROWS]
    ]
    left_out = len(counts) - len(rows)
    console(stderr=True).print(
        table(
            ("kernel", "on", "launches", "instructions", "time"),
            rows,
            right=("launches", "instructions", "time"),
            caption=f"and {left_out} more; --json lists all" if left_out else None,
        )
    )

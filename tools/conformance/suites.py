"""Test suites of other repositories: where their copies are, and how pytest runs their files."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emuron.nki.versions import BEHAVIOUR_VARIABLE

ROOT = Path(__file__).parents[2]
VISIBLE = Path(__file__).with_name("files.toml")
NO_TESTS = 5
"""pytest's exit code where no case was left to run."""

_LATEST = "trn3"


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is asked for; the fields are the plugin's options."""

    records: Path
    most_cases: int
    most_instructions: int
    most_elements: int
    case_seconds: float
    no_data: bool = False
    lnc: int | None = None
    target: str | None = None
    jobs: int = 0
    expression: str | None = None
    times: Path | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """The files of one repository; `variable` names the environment variable with its copy.

    `plugin` runs them inside of the copy; without it they are files of this repository that read
    the copy. `behaviour` is the version of NKI whose results they expect.
    """

    name: str
    variable: str
    repository: str
    files: tuple[str, ...]
    plugin: str | None = None
    behaviour: str = ""

    @property
    def copy(self) -> Path | None:
        """The folder with the copy, None if the variable is not set."""
        named = os.environ.get(self.variable)
        return Path(named).resolve() if named else None

    def why_not(self) -> str | None:
        """Return why the suite cannot run, None if it can."""
        if self.copy is None:
            return f"{self.variable} is not set; let it name a copy of {self.repository}"
        return None if self.copy.is_dir() else f"{self.variable}: {self.copy} is no folder"

    def run(self, file: str, options: Options, output: Path) -> int:
        """Run a file's cases; return pytest's exit code.

        A file all of whose cases exclude the default chip runs on the latest one.
        """
        code = self._run(file, options, output, options.target)
        if code == NO_TESTS and options.target is None and self.plugin:
            code = self._run(file, options, output, _LATEST)
        return code

    def _run(self, file: str, options: Options, output: Path, target: str | None) -> int:
        assert self.copy is not None
        own = self.plugin is None
        path = (ROOT if own else self.copy) / file
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(path),
            "-p",
            "no:cacheprovider",
            "--tb=short",
        ]
        command += ["--continue-on-collection-errors"]
        command += ["-p", self.plugin or "tools.conformance.cases", *_case_options(options)]
        if own:
            command += ["-m", ""]  # slow ones too
        else:
            command += [
                *_library_case_options(options),
                *_library_options(self.copy, output.parent.resolve()),
                *(("--platform-target", target) if target else ()),
            ]
        if options.jobs:
            command += ["-n", str(options.jobs)]
        if options.expression:
            command += ["-k", options.expression]
        folders = [ROOT] if own else [ROOT, self.copy, self.copy / "src"]
        with output.open("a", encoding="utf-8") as log:
            done = subprocess.run(
                command,
                cwd=output.parent,
                env={**_environment(folders), BEHAVIOUR_VARIABLE: self.behaviour},
                stdout=log,
                stderr=log,
                check=False,
            )
        return done.returncode


def read_suites(path: Path = VISIBLE) -> list[Suite]:
    """Return the suites of a TOML file."""
    tables: Mapping[str, Mapping[str, object]] = tomllib.loads(path.read_text("utf-8"))
    return [
        Suite(name, **{key: tuple(v) if isinstance(v, list) else v for key, v in table.items()})  # type: ignore[arg-type]
        for name, table in tables.items()
    ]


def _case_options(options: Options) -> list[str]:
    return _words(
        records=options.records.resolve(),
        most_cases=options.most_cases,
        case_seconds=options.case_seconds,
        times=options.times and options.times.resolve(),
    )


def _library_case_options(options: Options) -> list[str]:
    sizes = _words(
        most_instructions=options.most_instructions,
        most_elements=options.most_elements,
        lnc=options.lnc,
    )
    return [*sizes, *(["--emuron-no-data"] if options.no_data else [])]


def _words(**given: object) -> list[str]:
    """Return the options of the plugins that are given."""
    shown = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    return [f"--emuron-{name}={value}" for name, value in shown.items()]


def _library_options(copy: Path, folder: Path) -> list[str]:
    """Return the library's own settings; all that its harness writes goes into a folder."""
    settings = copy / "test" / "pytest.ini"
    return [
        *("-c", str(settings), "--rootdir", str(copy / "test")),
        *("--test-mode", "simulation", "--force-local-cleanup"),
        *("--output-directory", str(folder / "outputs"), "-o", f"artifacts_dir={folder}"),
    ]


def _environment(folders: Sequence[Path]) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "NEURON_PYTHONHASHSEED": "0",  # the library's seed for its random cases
        "EMURON_UNWRITTEN": "poison",  # as in AWS's simulator; kernels move bytes they never use
        "NKILIB_SIMULATION_RUN_ALL": "1",  # which cases are too large is decided here
    }

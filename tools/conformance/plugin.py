"""A pytest plugin that runs nki-library's test files, unmodified, on emuron.

Used as `pytest -p tools.conformance.plugin --test-mode simulation`, with the library's root and its
`src` on the path. Each case is timed without data; it also runs with data and is compared with its
reference unless it has more instructions than --emuron-most-instructions.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emuron.compat
from emuron.nki.kernel import Kernel
from emuron.nki.launch import KernelRun, run_ranks
from tools.conformance.defects import (
    AFTER_IMPORT,
    ALIASED,
    BEFORE_COLLECTION,
    why_it_cannot_pass,
)
from tools.conformance.records import CaseRecord, flat
from tools.conformance.selection import selected
from tools.conformance.times import MeasuredTime, read_times

emuron.compat.install()
for _defect in BEFORE_COLLECTION:
    _defect.apply()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a conformance run sets."""
    group = parser.getgroup("emuron")
    group.addoption("--emuron-records", type=Path, help="append a JSON line for each case")
    group.addoption("--emuron-no-data", action="store_true", help="time cases, execute none")
    group.addoption("--emuron-lnc", type=int, help="time each case on this many physical cores")
    group.addoption(
        "--emuron-most-instructions",
        type=int,
        default=20_000,
        help="time cases with more instructions, execute them not; 0 executes all",
    )
    group.addoption(
        "--emuron-most-elements",
        type=int,
        default=0,
        help="time cases with more elements of input, execute them not; 0 executes all",
    )
    group.addoption(
        "--emuron-most-cases",
        type=int,
        default=0,
        help="run that many cases of each file, evenly spread; 0 runs all",
    )
    group.addoption(
        "--emuron-case-seconds", type=float, default=0, help="fail a case after that time; 0 never"
    )
    group.addoption(
        "--emuron-times",
        type=Path,
        help="run only cases that a table of device times is of, each on the cores of its rows",
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Remove the harness's defects and put the simulator in."""
    orchestrator = importlib.import_module("test.utils.test_orchestrator")
    for defect in AFTER_IMPORT:
        defect.apply()
    run = CaseRun(config)
    config.pluginmanager.register(run, "emuron-cases")
    original = orchestrator.Orchestrator._run_simulator_inference

    def simulate(self: Any, kernel_args: Any) -> str | None:
        try:
            executes = run.time_case(kernel_args)
            if executes and kernel_args.inference_args.collective_ranks > 1:
                return _simulate_ranks(self, kernel_args)
        except Exception as error:
            raise orchestrator.InferenceException(str(error)) from error
        return original(self, kernel_args) if executes else None

    orchestrator.Orchestrator._run_simulator_inference = simulate


def _simulate_ranks(orchestrator: Any, kernel_args: Any) -> str:
    """Run a kernel on several ranks and put the outputs where the harness looks for each rank's."""
    made = _launch(kernel_args, kernel_args.compiler_input.logical_nc_config, execute=True)
    common = importlib.import_module("test.utils.common_dataclasses")
    golden = kernel_args.validation_args.golden_output
    folder = Path(orchestrator.fs_config.artifacts_output_directory_path)
    folder /= common.INF_ARTIFACT_DIR_NAME
    for rank, run in enumerate(made):
        expected = common.normalize_golden_output(golden, rank)
        outputs = run.outputs if isinstance(run.outputs, list | tuple) else [run.outputs]
        named = zip(expected.items(), outputs, strict=True)
        arrays = {name: np.asarray(out, dtype=like.dtype) for (name, like), out in named}
        place = str(folder / f"output_worker_{rank}")
        orchestrator.__dump_tensors__(place, arrays, lambda name: name)
    return str(folder)


def _launch(kernel_args: Any, lnc: int, *, execute: bool) -> Sequence[KernelRun]:
    """Launch a case's kernel on all of its ranks, as the harness would on a device."""
    kernel = kernel_args.kernel_func
    launched = (kernel if isinstance(kernel, Kernel) else Kernel(kernel))[lnc]
    return run_ranks(
        launched,
        [_inputs(kernel_args, rank) for rank in range(_ranks(kernel_args))],
        target=kernel_args.compiler_input.platform_target.get_nc_gen(),
        execute=execute,
        collect=False,
    )


class CaseRun:
    """Follows the case that runs and writes down what came of it."""

    def __init__(self, config: pytest.Config) -> None:
        self.path: Path | None = config.getoption("--emuron-records")
        self.no_data: bool = config.getoption("--emuron-no-data")
        self.lnc: int | None = config.getoption("--emuron-lnc")
        self.most_instructions: int = config.getoption("--emuron-most-instructions")
        self.most_elements: int = config.getoption("--emuron-most-elements")
        self.most_cases: int = config.getoption("--emuron-most-cases")
        self.seconds: float = config.getoption("--emuron-case-seconds")
        times: Path | None = config.getoption("--emuron-times")
        self.times = read_times(times) if times else None
        self.record: CaseRecord | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep some cases of each file, always the same ones."""
        kept = selected(items, self.most_cases)
        if self.times is not None:
            kept = [item for item in kept if self._measured(_opened(item))]
        chosen = set(map(id, kept))
        dropped = [item for item in items if id(item) not in chosen]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Open a record for the case and write it when the case is over."""
        self.record = record = _opened(item)
        started = time.perf_counter()
        try:
            return (yield)
        finally:
            record.seconds = round(time.perf_counter() - started, 3)
            if self.path is not None and record.outcome is not None:
                record.append_to(self.path)
            self.record = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        """Stop a case that takes too long."""
        with _time_limit(self.seconds):
            return (yield)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write down a file that cannot be imported."""
        if report.failed and self.path is not None:
            stem = Path(report.nodeid).stem.removeprefix("test_")
            record = CaseRecord(report.nodeid, "import", stem, outcome="failed")
            record.note = str(report.longrepr).strip().splitlines()[-1].removeprefix("E").strip()
            _blame_upstream(record)
            record.append_to(self.path)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of the case."""
        record = self.record
        if record is None or (report.when != "call" and report.passed):
            return
        record.outcome = report.outcome
        if report.failed:
            record.note = _reason(report)
            _blame_upstream(record)
        elif report.skipped:
            record.note = str(report.longrepr[-1]) if report.longrepr else None
        elif record.predicted_ps is not None and not record.executed:
            record.outcome = "timed"

    def _measured(self, case: CaseRecord) -> list[MeasuredTime]:
        """Return the device times that may be of a case."""
        return [row for row in self.times or () if row.agreement(case) is not None]

    def time_case(self, kernel_args: Any) -> bool:
        """Time the kernel without data; return whether it is to be executed too.

        Where device times are of the case on other numbers of cores, each gets a record.
        """
        record = self.record or CaseRecord("", "", "")
        compiler = kernel_args.compiler_input
        record.function = kernel_args.kernel_func.__name__
        record.lnc = self.lnc or compiler.logical_nc_config
        record.ranks = _ranks(kernel_args)
        record.target = compiler.platform_target.value
        record.arguments = flat(_inputs(kernel_args, 0))
        for lnc in {row.lnc for row in self._measured(record)} - {None, record.lnc}:
            other = replace(record, lnc=lnc, outcome="timed")
            self._time(other, kernel_args)
            if self.path is not None:
                other.append_to(self.path)
        self._time(record, kernel_args)
        small = _within(record.instructions, self.most_instructions) and _within(
            _elements(kernel_args), self.most_elements
        )
        record.executed = small and not self.no_data
        return record.executed

    def _time(self, record: CaseRecord, kernel_args: Any) -> None:
        """Write down how long a case's kernel takes on the cores of its record."""
        assert record.lnc is not None
        try:
            made = _launch(kernel_args, record.lnc, execute=False)
        except Exception as error:
            if self.no_data:
                raise
            record.note = f"not timed: {type(error).__name__}: {error}"
        else:
            record.instructions = made[0].timing.instructions
            record.predicted_ps = max(run.device_ps for run in made)


def _within(count: int | None, most: int) -> bool:
    return count is None or most == 0 or count <= most


def _elements(kernel_args: Any) -> int:
    """Return the elements of all arrays that a case's kernel is called with on one rank."""
    inputs = _inputs(kernel_args, 0).values()
    return sum(value.size for value in inputs if isinstance(value, np.ndarray))


def _ranks(kernel_args: Any) -> int:
    return int(kernel_args.inference_args.collective_ranks)


def _inputs(kernel_args: Any, rank: int) -> dict[str, Any]:
    """Return what the kernel is called with on a rank."""
    given = kernel_args.kernel_input or {}
    if hasattr(given, "for_rank"):
        given = given.for_rank(rank)
    return {name.removesuffix(ALIASED): value for name, value in given.items()}


def _opened(item: pytest.Item) -> CaseRecord:
    path = Path(str(item.path))
    params = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    for name, value in list(params.items()):
        if hasattr(value, "tensors"):  # a case of the library's range harness
            params[name] = {**value.tensors, **value.additional_params}
    return CaseRecord(
        file=item.nodeid.partition("::")[0],
        test=item.nodeid.partition("::")[2],
        kernel=path.stem.removeprefix("test_"),
        tables=_tables(item),
        params=flat(params),
    )


def _tables(item: pytest.Item) -> list[str]:
    """Return the names of the lists in the test's class or module that it is parametrised with."""
    names = []
    scopes = [vars(owner) for owner in (getattr(item, "cls", None), item.module) if owner]
    for marker in item.iter_markers("parametrize"):
        rows = marker.args[1] if len(marker.args) > 1 else marker.kwargs.get("argvalues")
        names += [name for scope in scopes for name, value in scope.items() if value is rows]
    return names


def _blame_upstream(record: CaseRecord) -> None:
    """Tell a failure that the repository has wherever its tests run from the others."""
    node = record.file if record.test == "import" else f"{record.file}::{record.test}"
    why = why_it_cannot_pass(node)
    if why is not None:
        record.outcome, record.note = "upstream", why


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr)[:2000]


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"the case took more than {seconds:g} s")

    if not seconds:
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""A pytest plugin that writes down the cases of a run: what came of each, and how long it takes."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emuron.nki.launch import timed
from emuron.nki.recording import Recording, observe_launches
from tools.conformance.records import CaseRecord, flat
from tools.conformance.selection import selected
from tools.conformance.times import MeasuredTime, needed, read_times


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a conformance run sets."""
    group = parser.getgroup("emuron")
    group.addoption("--emuron-records", type=Path, help="append a JSON line for each case")
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


def pytest_configure(config: pytest.Config) -> None:
    """Follow the cases, if asked to write them down."""
    if config.getoption("--emuron-records"):
        config.pluginmanager.register(LaunchRun(config), "emuron-cases")


class CaseRun:
    """Follows the case that runs and writes down what came of it."""

    def __init__(self, config: pytest.Config) -> None:
        self.path: Path | None = config.getoption("--emuron-records")
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
            wanted = needed(self.times, map(_opened, kept))
            kept = [item for item, is_wanted in zip(kept, wanted, strict=True) if is_wanted]
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
            self.blame(record)
            record.append_to(self.path)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of the case."""
        record = self.record
        if record is None or (report.when != "call" and report.passed):
            return
        record.outcome = report.outcome
        if report.failed:
            record.note = _reason(report)
            self.blame(record)
        elif report.skipped:
            record.note = str(report.longrepr[-1]) if report.longrepr else None
        elif record.predicted_ps is not None and not record.executed:
            record.outcome = "timed"

    def measured(self, case: CaseRecord) -> list[MeasuredTime]:
        """Return the device times that may be of a case."""
        return [row for row in self.times or () if row.agreement(case) is not None]

    def blame(self, record: CaseRecord) -> None:
        """Say of a failed case whose fault it is, where that is known."""


class LaunchRun(CaseRun):
    """Follows cases that launch kernels themselves: their time is that of their launches."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        observe_launches(self._launched)

    def _launched(self, recording: Recording) -> None:
        record = self.record
        if record is None:
            return
        made = timed(recording, collect=False)
        record.function = recording.programs[0].name
        record.lnc, record.ranks, record.executed = len(recording.programs), 1, True
        record.target = recording.chip.name
        record.instructions = (record.instructions or 0) + made.timing.instructions
        record.predicted_ps = (record.predicted_ps or 0) + made.device_ps


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

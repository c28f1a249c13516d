"""A pytest plugin that runs nki-library's test files, unmodified, on emuron.

Used as `pytest -p tools.conformance.plugin --test-mode simulation`, with the library's root and its
`src` on the path. Each case is timed without data; it also runs with data and is compared with its
reference unless it is larger than --emuron-most-instructions or --emuron-most-elements.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import emuron.compat
from emuron.errors import CapacityError
from emuron.nki.kernel import Kernel
from emuron.nki.launch import device_ps_if_it_fitted, run_ranks
from emuron.nki.recording import record_ranks
from tools.conformance import cases
from tools.conformance.defects import (
    AFTER_IMPORT,
    ALIASED,
    BEFORE_COLLECTION,
    why_it_cannot_pass,
)
from tools.conformance.inputs import leave_large_random_arrays_unfilled
from tools.conformance.records import CaseRecord, flat

emuron.compat.install()
for _defect in BEFORE_COLLECTION:
    _defect.apply()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a conformance run sets."""
    cases.pytest_addoption(parser)
    group = parser.getgroup("emuron")
    group.addoption("--emuron-no-data", action="store_true", help="time cases, execute none")
    group.addoption("--emuron-lnc", type=int, help="time each case on this many physical cores")
    for name, default in (("instructions", 20_000), ("elements", 0)):
        group.addoption(
            f"--emuron-most-{name}",
            type=int,
            default=default,
            help=f"time cases with more {name}, execute them not; 0 executes all",
        )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Remove the harness's defects and put the simulator in."""
    orchestrator = importlib.import_module("test.utils.test_orchestrator")
    for defect in AFTER_IMPORT:
        defect.apply()
    run = LibraryRun(config)
    if run.most_elements:
        leave_large_random_arrays_unfilled(run.most_elements)
    config.pluginmanager.register(run, "emuron-cases")

    def simulate(self: Any, kernel_args: Any) -> str | None:
        try:
            return _simulate(self, kernel_args) if run.time_case(kernel_args) else None
        except Exception as error:
            raise orchestrator.InferenceException(str(error)) from error

    orchestrator.Orchestrator._run_simulator_inference = simulate


def _simulate(orchestrator: Any, kernel_args: Any) -> str:
    """Run a kernel on its ranks and put the outputs where the harness looks for each rank's."""
    kernel, inputs, target = _launch(kernel_args, kernel_args.compiler_input.logical_nc_config)
    made = record_ranks(kernel, inputs, target, execute=True)
    common = importlib.import_module("test.utils.common_dataclasses")
    golden = kernel_args.validation_args.golden_output
    folder = Path(orchestrator.fs_config.artifacts_output_directory_path)
    folder /= common.INF_ARTIFACT_DIR_NAME
    for rank, run in enumerate(made):
        expected = common.normalize_golden_output(golden, rank)
        place = folder / f"output_worker_{rank}" if len(made) > 1 else folder
        arrays = _named(run.outputs, expected)
        orchestrator.__dump_tensors__(str(place), arrays, lambda name: name)
    return str(folder)


def _named(outputs: Any, expected: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return outputs by the names of the references, in order and in their dtypes.

    The bytes of a packed result are taken as they are.
    """
    found = [] if outputs is None else outputs if isinstance(outputs, list | tuple) else [outputs]
    if len(found) != len(expected):
        raise ValueError(
            f"The kernel returned {len(found)} outputs; the test expects {', '.join(expected)}."
        )
    return {
        name: out.view(like.dtype) if out.dtype.names else np.asarray(out, dtype=like.dtype)
        for (name, like), out in zip(expected.items(), found, strict=True)
    }


def _launch(kernel_args: Any, lnc: int) -> tuple[Kernel, list[dict[str, Any]], str]:
    """Return a case's kernel, what it is called with on each of its ranks, and the generation."""
    kernel = kernel_args.kernel_func
    launched = (kernel if isinstance(kernel, Kernel) else Kernel(kernel))[lnc]
    inputs = [_inputs(kernel_args, rank) for rank in range(_ranks(kernel_args))]
    return launched, inputs, kernel_args.compiler_input.platform_target.get_nc_gen()


class LibraryRun(cases.CaseRun):
    """Follows the library's cases and times each without data."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        self.no_data: bool = config.getoption("--emuron-no-data")
        self.lnc: int | None = config.getoption("--emuron-lnc")
        self.most_instructions: int = config.getoption("--emuron-most-instructions")
        self.most_elements: int = config.getoption("--emuron-most-elements")

    def blame(self, record: CaseRecord) -> None:
        """Tell a failure by the repository's own fault from the others."""
        node = record.file if record.test == "import" else f"{record.file}::{record.test}"
        why = why_it_cannot_pass(node)
        if why is not None:
            record.outcome, record.note = "upstream", why

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
        for lnc in {row.lnc for row in self.measured(record)} - {None, record.lnc}:
            other = replace(record, lnc=lnc, outcome="timed")
            self._time(other, kernel_args, needed=self.no_data)
            if self.path is not None:
                other.append_to(self.path)
        small = _within(_elements(kernel_args), self.most_elements) and not self.no_data
        self._time(record, kernel_args, needed=not small)
        record.executed = small and _within(record.instructions, self.most_instructions)
        return record.executed

    def _time(self, record: CaseRecord, kernel_args: Any, *, needed: bool) -> None:
        """Write down how long a case's kernel takes on the cores of its record.

        A kernel that cannot be recorded without data may still run with it: unless `needed`, what
        it raises is only noted.
        """
        assert record.lnc is not None
        kernel, inputs, target = _launch(kernel_args, record.lnc)
        try:
            made = run_ranks(kernel, inputs, target=target, execute=False, collect=False)
        except CapacityError as error:
            recorded = record_ranks(kernel, inputs, target, execute=False)
            record.instructions = sum(map(len, recorded[0].programs))
            record.predicted_ps = device_ps_if_it_fitted(recorded[0])
            record.note = f"timed as if it fitted: {error}"
        except Exception as error:
            if needed:
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

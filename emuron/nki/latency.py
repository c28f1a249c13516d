"""`nki.benchmark`, `nki.profile`, `nki.baremetal`: decorators that run a kernel and keep its time.

Their call forms are those of NKI (SDK 2.26, nki.benchmark, nki.profile, nki.baremetal). A simulated
launch always takes the same time, so that `warmup`, `iters` and every percentile say the same.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emuron.errors import UsageError
from emuron.nki.kernel import Kernel, jit
from emuron.nki.launch import KernelRun, run_kernel

PERCENTILES = (0, 1, 10, 25, 50, 90, 99, 100)
"""The percentiles of a latency that NKI offers."""

_PROFILE, _REPORT, _TIMELINE = "profile.json", "report.html", "timeline.json.gz"


@dataclass(frozen=True, slots=True)
class Latency:
    """The time of one launch on the device in microseconds, its launch and drain included."""

    launch_us: float

    def get_latency_percentile(self, percentile: int) -> float:
        """Return the latency in microseconds; a UsageError for a percentile NKI does not offer."""
        if percentile not in PERCENTILES:
            known = ", ".join(map(str, PERCENTILES))
            raise UsageError(f"Percentile {percentile} is not offered; choose among {known}.")
        return self.launch_us


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What `nki.benchmark` leaves in `benchmark_result`."""

    nc_latency: Latency


@dataclass(slots=True)
class _Last:
    """The last run of a kernel, whatever grid it was launched with."""

    run: KernelRun | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TimedKernel:
    """A kernel that runs with data when called and keeps the time of its last run.

    `timed[n]` launches it on n physical cores; `then` is called with each run.
    """

    kernel: Kernel
    then: Callable[[KernelRun], None] | None = None
    last: _Last = field(default_factory=_Last)

    def __getitem__(self, cores: int | tuple[int]) -> TimedKernel:
        """Return the same with a launch grid of 1 or 2 physical cores."""
        return TimedKernel(self.kernel[cores], self.then, self.last)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel and return what it returns, with arrays for tensors."""
        self.last.run = run_kernel(self.kernel, args, kwargs)
        if self.then is not None:
            self.then(self.last.run)
        return self.last.run.outputs

    @property
    def benchmark_result(self) -> BenchmarkResult:
        """The latency of the last run; a UsageError before the first."""
        run = self.last.run
        if run is None:
            raise UsageError(
                f"{self.kernel.__name__} has no benchmark_result yet. Call it with its arguments."
            )
        floor_us = run.chip.core.timing.neff_floor_us(len(run.programs))
        return BenchmarkResult(Latency(run.timing.total_ps / 1e6 + floor_us))


def benchmark(
    kernel: Callable[..., Any] | None = None,
    *,
    warmup: int = 10,
    iters: int = 100,
    **options: Any,
) -> Any:
    """Make a function that measures a kernel: `f(a, b)`, then `f.benchmark_result.nc_latency`.

    Usable as `@nki.benchmark`, `@nki.benchmark(…)` and `nki.benchmark(…)(kernel)`; AWS's options
    (save_neff_name, save_trace_name, additional_compile_opt, artifacts_dir) are accepted. The
    latency contains the launch and the drain of a program on the device, as measured ones do.
    """
    if warmup < 0 or iters < 1:
        raise UsageError(f"warmup={warmup}, iters={iters}: warm up 0 times or more, measure once.")
    if kernel is None:
        return functools.partial(benchmark, warmup=warmup, iters=iters, **options)
    return _timed(kernel)


def baremetal(kernel: Callable[..., Any] | None = None, **options: object) -> Any:
    """Make a function that runs a kernel without a framework: NumPy arrays in and out."""
    return baremetal if kernel is None else _timed(kernel)


def profile(
    kernel: Callable[..., Any] | None = None,
    *,
    working_directory: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Any:
    """Make a function that runs a kernel and writes its profile into `working_directory`.

    Written are profile.json (for `emuron kernel diff`), report.html and timeline.json.gz (for
    Perfetto), not over files of an earlier profile unless `overwrite` is set.
    """
    if kernel is None:
        return functools.partial(
            profile, working_directory=working_directory, overwrite=overwrite, **options
        )
    if working_directory is None:
        raise UsageError("nki.profile needs a folder: @nki.profile(working_directory='…').")
    folder = Path(working_directory)
    if not overwrite and (folder / _PROFILE).exists():
        raise UsageError(
            f"{folder / _PROFILE} exists. Choose another working_directory or set overwrite=True."
        )
    return _timed(kernel, functools.partial(_write, folder))


def _timed(
    kernel: Callable[..., Any], then: Callable[[KernelRun], None] | None = None
) -> TimedKernel:
    return TimedKernel(jit(kernel), then)


def _write(folder: Path, run: KernelRun) -> None:
    from emuron.nki.line_profile import profile_run
    from emuron.trace.perfetto import to_perfetto
    from emuron.trace.report import to_html

    made = profile_run(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PROFILE).write_text(json.dumps(made.to_dict(), indent=2), encoding="utf-8")
    to_html(made.report(), folder / _REPORT)
    to_perfetto(made.measured.trace, folder / _TIMELINE)

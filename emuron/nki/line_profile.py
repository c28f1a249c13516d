"""The line profile of a kernel run: its trace joined with the work of its programs."""

from __future__ import annotations

from emuron.errors import UsageError
from emuron.nki.launch import KernelRun
from emuron.nki.work import figures_of, traffic_of, work_of
from emuron.trace.profile import Measured, Profile, profile_trace


def profile_run(run: KernelRun, case: str = "") -> Profile:
    """Return the profile of a run whose trace was collected; raise UsageError of another."""
    trace = run.timing.trace
    if trace is None:
        raise UsageError("The run has no trace. Run the kernel with collect=True to profile it.")
    shown = run.programs[:1] if run.timing.cores > 1 else run.programs
    measured = Measured(
        kernel=run.program.name,
        case=case,
        target=run.chip.name,
        cores=len(run.programs),
        shown=len(shown),
        trace=trace,
        works=tuple(work for core, made in enumerate(shown) for work in work_of(made, core)),
        traffic=traffic_of(run.programs),
        figures=figures_of(run.chip),
        files={name: path for program in shown for name, path in program.files.items()},
        memory={
            "sbuf_peak_bytes_per_partition": run.placement.sbuf_peak_bytes,
            "psum_peak_bytes_per_partition": run.placement.psum_peak_bytes,
        },
    )
    return profile_trace(measured)

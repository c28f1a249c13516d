"""The line profile of a kernel run: its trace joined with the work of its programs."""

from __future__ import annotations

from emuron.errors import UsageError
from emuron.nki.launch import KernelRun
from emuron.nki.work import figures_of, traffic_of, work_of
from emuron.trace.profile import Measured, Profile, profile_trace


def profile_run(run: KernelRun, case: str = "") -> Profile:
    """Return the profile of a run whose trace was collected.

    Where the trace shows one core for all, the profile is that of one core; else of all together.
    """
    trace = run.timing.trace
    if trace is None:
        raise UsageError("The run has no trace. Run the kernel with collect=True to profile it.")
    shows_all = any("/" in name for name in trace.queue_names)
    programs = run.programs if shows_all else run.programs[:1]
    cores = len(run.programs)
    measured = Measured(
        kernel=run.program.name,
        case=case,
        target=run.chip.name,
        cores=cores,
        trace=trace,
        works=tuple(work for program in programs for work in work_of(program)),
        traffic=traffic_of(programs[0]),
        figures=figures_of(run.chip, 1 if shows_all else cores),
        files={name: path for program in programs for name, path in program.files.items()},
        memory={
            "sbuf_peak_bytes_per_partition": run.placement.sbuf_peak_bytes,
            "psum_peak_bytes_per_partition": run.placement.psum_peak_bytes,
        },
    )
    return profile_trace(measured)

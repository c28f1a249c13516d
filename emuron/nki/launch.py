"""Launching kernels: what a recorded kernel gave, where its tensors lie, and its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emuron.hardware.chip import Chip
from emuron.isa.program import Program
from emuron.nki.recording import Inputs, Recording, record_kernel, record_ranks
from emuron.nki.versions import held_to
from emuron.sim.memory import Placement, place_cores
from emuron.sim.timing import TimingResult, TimingSimulator


@dataclass(frozen=True, slots=True, eq=False)
class KernelRun:
    """What one launch gave: outputs (None without data), the programs, their time and memory.

    `outputs` is what the kernel returned, with arrays for tensors; `programs` has one for each
    core. `placement` is that of core 0, `timing` that of all cores together.
    """

    outputs: Any
    programs: tuple[Program, ...]
    chip: Chip
    placement: Placement
    timing: TimingResult

    @property
    def program(self) -> Program:
        """The program of core 0."""
        return self.programs[0]

    @property
    def device_ps(self) -> int:
        """The time that a profiler of the device measures: the programs' with launch and drain."""
        return _on_device_ps(self.chip, len(self.programs), self.timing)


def _on_device_ps(chip: Chip, cores: int, timing: TimingResult) -> int:
    return timing.total_ps + round(chip.core.timing.neff_floor_us(cores) * 1e6)


def run_kernel(
    kernel: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str | Chip | None = None,
    execute: bool = True,
    backend: str = "numpy",
    collect: bool = True,
    nki_version: str | None = None,
) -> KernelRun:
    """Record a kernel on `target` (default: trn2), run it with data if `execute`, and time it.

    Array arguments (NumPy, PyTorch, JAX; with execute=False also `ShapeDtype`) become tensors in
    HBM; those that the kernel writes to are updated in place. Tensors that it returns must lie in
    shared_hbm. `collect` keeps the trace; `nki_version` holds the kernel to a version of NKI (see
    `strict`). Errors name the kernel's source line.
    """
    with held_to(nki_version):
        run = record_kernel(kernel, args, kwargs or {}, target, execute, backend)
    return timed(run, collect)


def run_ranks(
    kernel: Callable[..., Any],
    inputs: Sequence[Inputs],
    *,
    target: str | Chip | None = None,
    execute: bool = True,
    backend: str = "numpy",
    collect: bool = True,
) -> tuple[KernelRun, ...]:
    """Run a kernel on as many ranks (logical cores) as there are `inputs`, as `run_kernel` does.

    The inputs of a rank are a sequence of arguments or a mapping of names to them. Ranks meet in
    the collectives of `nki.collectives`. Ranks that do the same are timed once.
    """
    runs: list[KernelRun] = []
    for recording in record_ranks(kernel, inputs, target, execute, backend):
        same = [run for run in runs if _alike(run.programs, recording.programs)]
        if same:
            placed, timing = same[0].placement, same[0].timing
            runs.append(
                KernelRun(recording.outputs, recording.programs, recording.chip, placed, timing)
            )
        else:
            runs.append(timed(recording, collect, len(runs)))
    return tuple(runs)


def _alike(some: tuple[Program, ...], others: tuple[Program, ...]) -> bool:
    return all(a.is_like(b) for a, b in zip(some, others, strict=True))


def timed(run: Recording, collect: bool, rank: int = 0) -> KernelRun:
    """Return a recording of a rank with the places of its tensors and its time."""
    placements = place_cores(run.programs)
    timing = TimingSimulator(run.chip).run_cores(run.programs, rank=rank, collect=collect)
    return KernelRun(run.outputs, run.programs, run.chip, placements[0], timing)


def device_ps_if_it_fitted(run: Recording, rank: int = 0) -> int:
    """Return a recording's time on the device, as if SBUF and PSUM held all that it keeps there.

    AWS's compiler moves instructions and memory about until a kernel fits; of one that does not as
    it is written, this is the time without the waits for memory to become free.
    """
    timing = TimingSimulator(run.chip).run_cores(run.programs, rank=rank, collect=False)
    return _on_device_ps(run.chip, len(run.programs), timing)

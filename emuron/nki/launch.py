"""Launching kernels: arguments in, a recorded Program, its values and its time out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from emuron.errors import EmuronError, UsageError
from emuron.hardware.chip import Chip
from emuron.isa.program import Program
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.nki.arrays import described, is_array, like, to_numpy, write_back
from emuron.nki.cores import Team
from emuron.nki.recorder import PACKAGE, Recorder
from emuron.nki.target import target_chip
from emuron.nki.tensor import NkiTensor
from emuron.numerics.backend import Backend, get_backend
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine, Storage
from emuron.sim.memory import Placement, place
from emuron.sim.timing import TimingResult, TimingSimulator


@dataclass(frozen=True, slots=True, eq=False)
class KernelRun:
    """What one launch gave: outputs (None without data), the programs, their time and memory.

    `outputs` is what the kernel returned, with arrays for tensors; `programs` has one for each
    core. `placement` is that of core 0.
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


@dataclass(slots=True, eq=False)
class _Arguments:
    """The tensors made for array arguments: each with its array and its parameter's name."""

    recorder: Recorder
    machine: Machine | None
    buffer: MemoryRegion
    made: dict[int, tuple[NkiTensor, Any, str]] = field(default_factory=dict)

    def converted(self, value: Any, name: str) -> Any:
        """Return a value with its arrays replaced by tensors in HBM."""
        if is_array(value):
            return self._tensor(value, name)
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(self.converted(v, f"{name}[{i}]") for i, v in enumerate(value))
        if isinstance(value, dict):
            return {key: self.converted(v, f"{name}[{key!r}]") for key, v in value.items()}
        return value

    def _tensor(self, value: Any, name: str) -> NkiTensor:
        found = self.made.get(id(value))
        if found is not None:
            return found[0]
        spec = described(value, name)
        tensor = self.recorder.tensor(
            spec.shape or (1,), spec.dtype, self.buffer, name=name, role="input"
        )
        if self.machine is not None:
            if not isinstance(value, np.ndarray) and not hasattr(value, "numpy"):
                raise UsageError(
                    f"Argument {name} has a shape but no data; run with execute=False to time the "
                    "kernel without data."
                )
            self.machine.bind(tensor, to_numpy(value).view(tensor.dtype.np))
        made = NkiTensor(tensor)
        self.made[id(value)] = (made, value, name)
        return made

    def write_back(self) -> None:
        """Put the contents of tensors that the kernel wrote to into their arrays."""
        assert self.machine is not None
        for view, value, name in self.made.values():
            if self.machine.changed(view.tensor):
                contents = self.machine.read(view.tensor)
                write_back(value, contents.reshape(value.shape), name)


def run_kernel(
    kernel: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str | Chip | None = None,
    execute: bool = True,
    backend: str = "numpy",
    collect: bool = True,
) -> KernelRun:
    """Record a kernel on `target` (default: trn2), run it with data if `execute`, and time it.

    Array arguments (NumPy, PyTorch; with execute=False also `ShapeDtype`) become tensors in HBM;
    those that the kernel writes to are updated in place. Tensors that it returns must lie in
    shared_hbm. `collect` keeps the trace. Errors name the kernel's source line.
    """
    run = record_kernel(kernel, args, kwargs or {}, target, execute, backend)
    placements = [place(program) for program in run.programs]
    timing = _timed(run.chip, run.programs, collect)
    return KernelRun(run.outputs, run.programs, run.chip, placements[0], timing)


def _timed(chip: Chip, programs: tuple[Program, ...], collect: bool) -> TimingResult:
    """Return the time of the core that takes longest, the cores sharing the memory evenly."""
    simulator = TimingSimulator(chip, sharing=len(programs))
    results = [simulator.run(program, collect=collect) for program in programs]
    return max(results, key=lambda result: result.total_ps)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recorded kernel, a program for each core, and what it returned."""

    outputs: Any
    programs: tuple[Program, ...]
    chip: Chip


def record_kernel(
    kernel: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    target: str | Chip | None,
    execute: bool,
    backend: str = "numpy",
) -> Recording:
    """Record a kernel as `run_kernel` does, without placing and timing it."""
    chip = target_chip(target)
    grid = getattr(kernel, "grid", None)
    launch = _Launch(kernel, chip, grid, get_backend(backend) if execute else None)
    returned = launch.run(args, kwargs)
    programs = tuple(recorder.program.freeze() for recorder in launch.recorders)
    outputs = _outputs(returned[0], launch.arguments)
    if execute:
        launch.arguments.write_back()
    return Recording(outputs if execute else None, programs, chip)


class _Launch:
    """One run of a kernel on the cores of a rank: a recorder and, with data, a machine for each."""

    def __init__(
        self, kernel: Callable[..., Any], chip: Chip, grid: int | None, backend: Backend | None
    ) -> None:
        self.kernel = kernel
        cores = grid or 1
        if cores not in chip.lnc_sizes:
            raise UsageError(
                f"{kernel.__name__}[{cores}] asks for {cores} physical cores; the logical cores of "
                f"{chip.name} have {' or '.join(map(str, chip.lnc_sizes))}."
            )
        self.team = Team(cores, 1, backend)
        shared: dict[Tensor, Storage] = {}
        self.recorders: list[Recorder] = []
        machines: list[Machine] = []
        for seat in self.team.seats.values():
            executor = None
            if backend is not None:
                machines.append(Machine(chip.core, backend, shared=shared, meet=seat.meet))
                executor = FunctionalSimulator(machines[-1])
            name = getattr(kernel, "__name__", "kernel")
            recorder = Recorder(chip.core, name, executor, grid, seat)
            seat.place = recorder.place
            self.recorders.append(recorder)
        region = MemoryRegion.private_hbm if cores == 1 else MemoryRegion.shared_hbm
        machine = machines[0] if machines else None
        self.arguments = _Arguments(self.recorders[0], machine, region)

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """Return what the kernel returned on each core."""
        names = _parameter_names(self.kernel, len(args))
        functions = []
        for recorder in self.recorders:
            tensors = [self.arguments.converted(v, n) for v, n in zip(args, names, strict=False)]
            named = {name: self.arguments.converted(v, name) for name, v in kwargs.items()}
            functions.append(partial(self._on_core, recorder, tensors, named))
        return self.team.run(functions)

    def _on_core(self, recorder: Recorder, args: list[Any], kwargs: dict[str, Any]) -> Any:
        function = getattr(self.kernel, "func", self.kernel)
        with recorder.active():
            try:
                return function(*args, **kwargs)
            except EmuronError as error:
                _name_line(error, recorder)
                raise


def _parameter_names(kernel: Callable[..., Any], count: int) -> list[str]:
    code = getattr(getattr(kernel, "func", kernel), "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code is not None else []
    return [*names, *(f"args[{i}]" for i in range(len(names), count))]


def _outputs(returned: Any, arguments: _Arguments) -> Any:
    """Return what a kernel returned with arrays for its tensors (None without data)."""
    if isinstance(returned, list | tuple):
        return type(returned)(_outputs(r, arguments) for r in returned)
    if not isinstance(returned, NkiTensor):
        return returned
    tensor = returned.tensor
    if tensor.role != "input":
        if tensor.buffer is not MemoryRegion.shared_hbm:
            raise UsageError(
                f"The kernel returns '{tensor.name}', which lies in {tensor.buffer.value}. "
                "Outputs are allocated with nl.ndarray(…, buffer=nl.shared_hbm)."
            )
        tensor.role = "output"
    if arguments.machine is None:
        return None
    contents = arguments.recorder.contents(returned)
    assert contents is not None
    values = [value for _, value, _ in arguments.made.values()]
    return like(values[0] if values else None, contents, returned.dtype)


def _name_line(error: EmuronError, recorder: Recorder) -> None:
    """Put the kernel's own source line, innermost, and the core before an error's message."""
    place = source_place(error.__traceback__)
    if place is not None and error.args:
        seat = recorder.seat
        if seat is not None and seat.cores > 1:
            place = f"{place} (core {seat.id.number})"
        error.args = (f"{place}: {error.args[0]}", *error.args[1:])


def source_place(traceback: TracebackType | None) -> str | None:
    """Return "file.py:line" of the innermost frame outside of this package."""
    place = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            place = f"{Path(file).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place

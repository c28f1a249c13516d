"""Launching kernels: arguments in, a recorded Program, its values and its time out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from emuron.errors import EmuronError, UsageError
from emuron.hardware.chip import Chip
from emuron.isa.instruction import WRITE_KINDS
from emuron.isa.program import Program
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.nki.arrays import described, is_array, like, to_numpy, write_back
from emuron.nki.recorder import PACKAGE, Recorder
from emuron.nki.target import target_chip
from emuron.nki.tensor import NkiTensor
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine
from emuron.sim.memory import Placement, place
from emuron.sim.timing import TimingResult, TimingSimulator


@dataclass(frozen=True, slots=True, eq=False)
class KernelRun:
    """What one launch gave: outputs (None without data), the program, its time and memory.

    `outputs` is what the kernel returned, with arrays for tensors.
    """

    outputs: Any
    program: Program
    chip: Chip
    placement: Placement
    timing: TimingResult


@dataclass(slots=True, eq=False)
class _Arguments:
    """The tensors made for array arguments: each with its array and its parameter's name."""

    recorder: Recorder
    machine: Machine | None
    made: dict[int, tuple[NkiTensor, Any, str]]

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
            spec.shape or (1,), spec.dtype, MemoryRegion.private_hbm, name=name, role="input"
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
    placement = place(run.program)
    timing = TimingSimulator(run.chip).run(run.program, collect=collect)
    return KernelRun(run.outputs, run.program, run.chip, placement, timing)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recorded kernel and what it returned."""

    outputs: Any
    program: Program
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
    if grid is not None and grid != 1:
        raise UsageError(
            f"{kernel.__name__}[{grid}] asks for {grid} physical cores; kernels run on one. "
            f"Launch {kernel.__name__}[1] or {kernel.__name__}."
        )
    function = getattr(kernel, "func", kernel)
    machine = Machine(chip.core, backend) if execute else None
    executor = FunctionalSimulator(machine) if machine is not None else None
    recorder = Recorder(chip.core, getattr(kernel, "__name__", "kernel"), executor, grid)
    arguments = _Arguments(recorder, machine, {})
    names = _parameter_names(kernel, len(args))
    with recorder.active():
        tensors = [arguments.converted(v, n) for v, n in zip(args, names, strict=False)]
        named = {name: arguments.converted(v, name) for name, v in kwargs.items()}
        try:
            returned = function(*tensors, **named)
        except EmuronError as error:
            _name_line(error)
            raise
    program = recorder.program.freeze()
    if machine is None:
        _outputs(returned, None, arguments)
        return Recording(None, program, chip)
    outputs = _outputs(returned, machine, arguments)
    written = _written(program)
    for view, value, name in arguments.made.values():
        if view.tensor in written:
            write_back(value, machine.read(view.tensor).reshape(value.shape), name)
    return Recording(outputs, program, chip)


def _parameter_names(kernel: Callable[..., Any], count: int) -> list[str]:
    code = getattr(getattr(kernel, "func", kernel), "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code is not None else []
    return [*names, *(f"args[{i}]" for i in range(len(names), count))]


def _written(program: Program) -> set[Tensor]:
    written: set[Tensor] = set()
    for block, _ in program.leaves():
        for form, first in zip(block.form, block.first, strict=True):
            for k, (_, kind) in enumerate(program.forms[form].operand_fields, start=first):
                if kind in WRITE_KINDS:
                    written.add(program.tensors[block.tensor[k]])
    return written


def _outputs(returned: Any, machine: Machine | None, arguments: _Arguments) -> Any:
    """Return what a kernel returned with arrays for its tensors (None without data)."""
    if isinstance(returned, list | tuple):
        return type(returned)(_outputs(r, machine, arguments) for r in returned)
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
    if machine is None:
        return None
    contents = arguments.recorder.contents(returned)
    assert contents is not None
    values = [value for _, value, _ in arguments.made.values()]
    return like(values[0] if values else None, contents, returned.dtype)


def _name_line(error: EmuronError) -> None:
    """Put the kernel's own source line, innermost, before an error's message."""
    place = source_place(error.__traceback__)
    if place is not None and error.args:
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

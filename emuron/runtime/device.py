"""The virtual device: cores of an instance that load executables, run them and keep their time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from emuron.errors import CapacityError, UsageError
from emuron.hardware.instance import Instance
from emuron.isa.meetings import Meeting, Operands
from emuron.isa.program import Program
from emuron.numerics.dtypes import dtype, float32
from emuron.numerics.rounding import round_to, widen
from emuron.runtime.executable import DevicePart, Executable, Port
from emuron.runtime.latency import Latency, Work, host_us, latency_of
from emuron.runtime.memory import DeviceMemory
from emuron.runtime.turns import Turn, in_turns
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine
from emuron.sim.timing import TimingResult, TimingSimulator

_PS_PER_US = 1_000_000


class Device:
    """One instance: loads an executable on every core (data parallel), runs and times it.

    `meet` carries out what a core does together with others; without it cores are alone.
    `sharing` cores use one HBM stack at a time, those of all cores at work unless it is given.
    """

    def __init__(
        self,
        instance: Instance,
        backend: str = "numpy",
        meet: Callable[[Meeting, Operands], None] | None = None,
        *,
        sharing: int | None = None,
    ) -> None:
        self.instance = instance
        self.backend = backend
        self._meet = meet
        self._sharing = sharing or instance.chip.sharing(instance.chip.cores)
        self._machines: dict[DevicePart, Machine] = {}
        self._timings: dict[Program, TimingResult] = {}
        self._sums: dict[Executable, TimingResult] = {}

    @property
    def hbm_per_core_bytes(self) -> int:
        """Device memory that each core may use."""
        return self.instance.hbm_bytes // self.instance.cores

    def check_fits(self, executable: Executable) -> None:
        """Raise CapacityError if a core's share of the device memory is too small."""
        memory = self.memory(executable)
        if not memory.fits:
            raise CapacityError(
                f"{executable.name} on {self.instance.name} {memory}. Choose a larger instance, "
                "more cores for the model (--tp), a smaller batch or sequence, or a narrower dtype."
            )

    def memory(self, executable: Executable) -> DeviceMemory:
        """Return what an executable takes of a core's device memory."""
        weights, state = executable.parameter_bytes, executable.state_bytes
        return DeviceMemory(
            weights,
            state,
            executable.hbm_bytes - weights - state,
            self.instance.chip.runtime_reserved_bytes,
            self.hbm_per_core_bytes,
        )

    def load(self, executable: Executable) -> None:
        """Write parameters into the memory of a core; raises CapacityError if they do not fit."""
        self.check_fits(executable)
        for part in executable.programs:
            if part in self._machines:
                continue
            machine = Machine(part.program.core, self.backend, meet=self._meet)
            for image in part.parameters:
                machine.write(image.tensor, image.load())
            self._machines[part] = machine

    def run(
        self, executable: Executable, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the outputs by name, executed instruction by instruction.

        Values pass between parts as they are stored. Raises UsageError for missing, unknown or
        misshapen inputs.
        """
        self.load(executable)
        _check_inputs(executable, inputs)
        values = dict(inputs)
        for part in executable.parts:
            if isinstance(part, DevicePart):
                values.update(self._run(part, values))
            else:
                values.update(part.compute(values))
        return {name: values[value] for name, value in executable.outputs.items()}

    def _run(self, part: DevicePart, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        machine = self._machines[part]
        for port in part.inputs:
            machine.write(port.tensor, _gather(port, values))
        FunctionalSimulator(machine).run(part.program)
        outputs: dict[str, np.ndarray] = {}
        for port in part.outputs:
            flat = np.asarray(machine.read(port.tensor)).reshape(len(port.names), -1)
            for name, shape, row in zip(port.names, port.shapes, flat, strict=True):
                outputs[name] = row.reshape(shape).copy()
        return outputs

    def time(self, executable: Executable) -> TimingResult:
        """Return when everything happens on one core while all cores of the chip do the same.

        Where the host computes operators, the trace shows its turns, with launches and copies.
        """
        found = self._sums.get(executable)
        if found is None:
            found = self._sums[executable] = self._time(executable)
        return found

    def _time(self, executable: Executable) -> TimingResult:
        if len(executable.parts) == len(executable.programs) == 1:
            return self._time_program(executable.programs[0].program)
        turns = []
        for part in executable.parts:
            if isinstance(part, DevicePart):
                timing = self._time_program(part.program)
                work = Work(0, part.input_bytes, part.output_sizes)
                around_us = latency_of(self.instance, work).total_us
            else:
                timing = None
                around_us = host_us(self.instance.host, part.ops)
            turns.append(Turn(part.name, round(around_us * _PS_PER_US), timing))
        return in_turns(turns)

    def _time_program(self, program: Program) -> TimingResult:
        if program not in self._timings:
            simulator = TimingSimulator(self.instance, sharing=self._sharing)
            self._timings[program] = simulator.run(program)
        return self._timings[program]

    def work(self, executable: Executable) -> Work:
        """Return what one inference asks of a core and of the host."""
        times = (self._time_program(part.program).total_ps for part in executable.programs)
        return Work(
            sum(times),
            executable.input_bytes,
            executable.output_sizes,
            len(executable.programs),
            executable.host_ops,
        )

    def latency(self, executable: Executable) -> Latency:
        """Return what one inference takes, host included."""
        return latency_of(self.instance, self.work(executable))


def _check_inputs(executable: Executable, inputs: Mapping[str, np.ndarray]) -> None:
    known = executable.inputs
    missing, unknown = sorted(set(known) - set(inputs)), sorted(set(inputs) - set(known))
    if missing or unknown:
        raise UsageError(
            f"{executable.name} takes the inputs {', '.join(sorted(known))}; "
            f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}."
        )
    for name, shape in known.items():
        found = np.asarray(inputs[name]).shape
        if found != shape:
            raise UsageError(
                f"Input {name} has shape {list(found)}, but the executable was compiled for "
                f"{list(shape)}. Pad the input, or compile for its shape."
            )


def _gather(port: Port, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the data of a port in its stored dtype."""
    parts = [stored_as(np.asarray(values[name]), port).reshape(-1) for name in port.names]
    return np.concatenate(parts).reshape(port.tensor.shape)


def stored_as(array: np.ndarray, port: Port) -> np.ndarray:
    """Return an array in the dtype that a port stores; integers are range-checked."""
    if array.dtype == port.dtype.np:
        return array
    if port.dtype.kind in ("int", "uint") and array.dtype.kind in "iu":
        narrow = array.astype(port.dtype.np)
        if not np.array_equal(narrow, array):
            raise UsageError(
                f"Input {', '.join(port.names)} has values that {port.dtype} cannot hold."
            )
        return narrow
    found = dtype(array.dtype) if array.dtype != np.float64 else float32
    working = array.astype(np.float32) if array.dtype == np.float64 else widen(array, found)
    return round_to(working, port.dtype)

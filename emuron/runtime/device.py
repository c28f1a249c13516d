"""The virtual device: cores of an instance that load executables, run them and keep their time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emuron.errors import CapacityError, UsageError
from emuron.hardware.instance import Instance
from emuron.numerics.dtypes import dtype, float32
from emuron.numerics.rounding import round_to, widen
from emuron.runtime.executable import Executable, Port
from emuron.runtime.latency import Latency, latency_of
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine
from emuron.sim.timing import TimingResult, TimingSimulator
from emuron.trace.quantity import bytes_text


class Device:
    """One instance: loads an executable on every core (data parallel), runs and times it."""

    def __init__(self, instance: Instance, backend: str = "numpy") -> None:
        self.instance = instance
        self.backend = backend
        self._machines: dict[Executable, Machine] = {}
        self._timings: dict[Executable, TimingResult] = {}

    @property
    def hbm_per_core_bytes(self) -> int:
        """Device memory that each core may use."""
        return self.instance.hbm_bytes // self.instance.cores

    def check_fits(self, executable: Executable) -> None:
        """Raise CapacityError if a core's share of the device memory is too small."""
        needed, limit = executable.hbm_bytes, self.hbm_per_core_bytes
        if needed > limit:
            raise CapacityError(
                f"{executable.name} needs {bytes_text(needed)} of device memory on each core "
                f"({bytes_text(executable.parameter_bytes)} of it parameters), but a core of "
                f"{self.instance.name} has {bytes_text(limit)}. Choose a larger instance, a "
                "smaller batch or sequence, or a narrower dtype."
            )

    def load(self, executable: Executable) -> None:
        """Write parameters into the memory of a core; raises CapacityError if they do not fit."""
        if executable in self._machines:
            return
        self.check_fits(executable)
        machine = Machine(executable.program.core, self.backend)
        for image in executable.parameters:
            machine.write(image.tensor, image.load())
        self._machines[executable] = machine

    def run(
        self, executable: Executable, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the outputs by name, executed instruction by instruction.

        Raises UsageError for missing, unknown or misshapen inputs.
        """
        self.load(executable)
        machine = self._machines[executable]
        _check_names(executable, inputs)
        for port in executable.inputs:
            machine.write(port.tensor, _gather(port, inputs))
        FunctionalSimulator(machine).run(executable.program)
        outputs: dict[str, np.ndarray] = {}
        for port in executable.outputs:
            flat = np.asarray(machine.read(port.tensor)).reshape(len(port.names), -1)
            for name, shape, row in zip(port.names, port.shapes, flat, strict=True):
                outputs[name] = row.reshape(shape).copy()
        return outputs

    def time(self, executable: Executable) -> TimingResult:
        """Return when everything happens on one core while all cores of the chip do the same."""
        found = self._timings.get(executable)
        if found is None:
            chip = self.instance.chip
            sharing = max(1, chip.cores // chip.hbm_stacks) if chip.hbm_stacks else chip.cores
            simulator = TimingSimulator(chip, sharing=sharing)
            found = self._timings[executable] = simulator.run(executable.program)
        return found

    def latency(self, executable: Executable) -> Latency:
        """Return what one inference takes, host included."""
        total_ps = self.time(executable).total_ps
        return latency_of(self.instance, total_ps, executable.input_bytes, executable.output_bytes)


def _check_names(executable: Executable, inputs: Mapping[str, np.ndarray]) -> None:
    known = {name for port in executable.inputs for name in port.names}
    missing, unknown = sorted(known - set(inputs)), sorted(set(inputs) - known)
    if missing or unknown:
        raise UsageError(
            f"{executable.name} takes the inputs {', '.join(sorted(known))}; "
            f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}."
        )


def _gather(port: Port, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the data of a port in its stored dtype."""
    parts = []
    for name, shape in zip(port.names, port.shapes, strict=True):
        array = np.asarray(inputs[name])
        if array.shape != shape:
            raise UsageError(
                f"Input {name} has shape {list(array.shape)}, but the executable was compiled for "
                f"{list(shape)}. Pad the input, or compile for its shape."
            )
        parts.append(stored_as(array, port).reshape(-1))
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

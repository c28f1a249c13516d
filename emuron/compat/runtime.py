"""`nki.runtime`: runs compiled kernels on arrays, with the time that the chip would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emuron.compat.compiled import CompiledKernel, TensorSpec
from emuron.errors import UsageError
from emuron.isa.tensor import Tensor
from emuron.nki.cores import Team
from emuron.numerics.backend import get_backend
from emuron.numerics.dtypes import dtype as to_dtype
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine, Storage


class SpikeTensor:
    """An array in the device's memory."""

    def __init__(self, array: NDArray[Any], name: str = "tensor") -> None:
        self._array = np.array(array)
        self.name = name

    @classmethod
    def from_numpy(cls, array: NDArray[Any], name: str = "tensor", core_id: int = 0) -> SpikeTensor:
        """Return a tensor with a copy of an array; every core of the device is the same."""
        return cls(array, name)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The tensor's dtype."""
        return self._array.dtype

    def numpy(self) -> NDArray[Any]:
        """Return a copy of the contents."""
        return self._array.copy()

    def write(self, array: NDArray[Any]) -> None:
        """Replace the contents."""
        self._array[...] = array


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """The predicted latency. Every run takes the same time, so that the deviation is zero."""

    mean_ms: float
    min_ms: float
    max_ms: float
    std_dev_ms: float = 0.0


class SpikeModel:
    """A compiled kernel, loaded; called with tensors by name, it fills the outputs."""

    def __init__(self, compiled: CompiledKernel) -> None:
        self.compiled = compiled

    @classmethod
    def load_from_neff(cls, neff_path: str, core_id: int = 0, **options: Any) -> SpikeModel:
        """Load a compiled kernel from its file; raises ModelFileError."""
        return cls(CompiledKernel.load(neff_path))

    def __call__(
        self,
        inputs: Mapping[str, SpikeTensor],
        outputs: Mapping[str, SpikeTensor] | None = None,
        **options: Any,
    ) -> dict[str, SpikeTensor]:
        """Run on `inputs`; return the outputs by name, those in `outputs` filled in place.

        Inputs that the kernel writes to are updated. Raises UsageError for missing or misshapen
        tensors.
        """
        filled = dict(outputs or {})
        arrays = {spec.name: self._input(spec, inputs, filled) for spec in self.compiled.inputs}
        results = self._run(arrays)
        for index, (name, spec) in enumerate(self.compiled.output_specs):
            source = self.compiled.input_output_aliases.get(index)
            contents = arrays[source]._array if source else results[name]
            found = filled.setdefault(name, SpikeTensor(np.zeros(spec.shape, spec.dtype), name))
            found.write(contents.reshape(spec.shape))
        return filled

    def benchmark(self, *tensors: Any, **options: Any) -> BenchmarkResult:
        """Return the latency of one run; nothing is run, as each takes the predicted time."""
        milliseconds = self.compiled.total_ps / 1e9
        return BenchmarkResult(milliseconds, milliseconds, milliseconds)

    def _input(
        self,
        spec: TensorSpec,
        inputs: Mapping[str, SpikeTensor],
        outputs: Mapping[str, SpikeTensor],
    ) -> SpikeTensor:
        found = inputs.get(spec.name, outputs.get(spec.name))
        if found is None or tuple(found.shape) != spec.shape:
            what = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise UsageError(
                f"{self.compiled.name}: input '{spec.name}' {what}; it was compiled for "
                f"{spec.dtype}{list(spec.shape)}."
            )
        return found

    def _run(self, arrays: Mapping[str, SpikeTensor]) -> dict[str, NDArray[Any]]:
        """Run the programs of all cores; return the contents of the outputs by name."""
        programs = self.compiled.programs
        ops = get_backend("numpy")
        team = Team(len(programs), 1, ops)
        shared: dict[Tensor, Storage] = {}
        machines = [
            Machine(program.core, ops, shared=shared, meet=seat.meet)
            for program, seat in zip(programs, team.seats.values(), strict=True)
        ]
        tensors = {id(t): t for program in programs for t in program.tensors}.values()
        for tensor in tensors:
            if tensor.role == "input":
                contents = np.ascontiguousarray(arrays[tensor.name]._array)
                machines[0].bind(tensor, contents.view(to_dtype(contents.dtype).np))
        team.run(
            [
                partial(FunctionalSimulator(machine).run, program)
                for machine, program in zip(machines, programs, strict=True)
            ]
        )
        results = {}
        for tensor in tensors:
            if tensor.role == "input" and machines[0].changed(tensor):
                arrays[tensor.name].write(machines[0].read(tensor).reshape(tensor.shape))
            elif tensor.role == "output":
                results[tensor.name] = machines[0].read(tensor)
        return results

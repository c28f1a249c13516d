"""Executables: a program with what must lie in HBM before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from emuron.isa.program import Program
from emuron.isa.tensor import Tensor
from emuron.numerics.dtypes import DType
from emuron.sim.memory import Placement


@dataclass(frozen=True, slots=True, eq=False)
class Port:
    """An HBM tensor that holds named inputs or outputs, one after another.

    `shapes` are those of the names; `dtype` is what their data is rounded to on the way in.
    """

    tensor: Tensor
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: DType


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An HBM tensor that is filled once, when the executable is loaded; `load` gives its data."""

    tensor: Tensor
    load: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Executable:
    """One core's program, its placement on chip, its ports and its parameters."""

    name: str
    program: Program
    placement: Placement
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    parameters: tuple[Image, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of parameters and constants in HBM."""
        return sum(image.tensor.nbytes for image in self.parameters)

    @property
    def input_bytes(self) -> int:
        """Bytes that one run copies from the host: inputs that are not kept on the device."""
        kept = set(self.aliases.values())
        return sum(_bytes(port, kept) for port in self.inputs)

    @property
    def output_bytes(self) -> int:
        """Bytes that one run copies to the host: outputs that do not stay on the device."""
        return sum(_bytes(port, set(self.aliases)) for port in self.outputs)

    @property
    def hbm_bytes(self) -> int:
        """Bytes of HBM that one core needs: parameters, inputs, outputs and scratch."""
        return sum(t.nbytes for t in self.program.tensors if not t.buffer.is_on_chip)


def _bytes(port: Port, kept: set[str]) -> int:
    sizes = zip(port.names, port.shapes, strict=True)
    return sum(int(np.prod(s)) * port.dtype.itemsize for name, s in sizes if name not in kept)

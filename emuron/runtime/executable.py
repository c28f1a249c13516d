"""Executables: programs of one core, what the host computes between them, and their data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from emuron.isa.program import Program
from emuron.isa.tensor import Tensor
from emuron.numerics.dtypes import DType
from emuron.sim.memory import Placement
from emuron.trace.pass_record import PassRecord


@dataclass(frozen=True, slots=True, eq=False)
class Port:
    """An HBM tensor that holds named values, one after another.

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
class DevicePart:
    """One program with its placement on chip, its ports and its parameters.

    `aliases` maps the values that leave in the memory of one that entered to that one.
    """

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
    def output_sizes(self) -> tuple[int, ...]:
        """Bytes that one run copies to the host for each port: what does not stay on the device."""
        return tuple(_bytes(port, set(self.aliases)) for port in self.outputs)

    @property
    def output_bytes(self) -> int:
        """Bytes that one run copies to the host."""
        return sum(self.output_sizes)

    @property
    def state_bytes(self) -> int:
        """Bytes of the inputs whose memory outputs take over (a KV cache)."""
        kept = set(self.aliases.values())
        return sum(_bytes(port, set(port.names) - kept) for port in self.inputs)

    @property
    def hbm_bytes(self) -> int:
        """Bytes of HBM that the part needs: parameters, inputs, outputs and scratch."""
        return sum(t.nbytes for t in self.program.tensors if not t.buffer.is_on_chip)


@dataclass(frozen=True, slots=True)
class HostOp:
    """An operator that the host computes: where it stands in the model, its work, and why."""

    name: str
    place: str
    flops: int
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class HostPart:
    """Operators that the host computes between two programs.

    `compute` takes the values named `inputs` as the parts before store them and returns others in
    the same way.
    """

    name: str
    ops: tuple[HostOp, ...]
    inputs: tuple[str, ...]
    compute: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True, slots=True, eq=False)
class Executable:
    """What one core runs: programs, and what the host computes between them.

    `inputs` names what is given to a run and its shape, `outputs` maps the outputs to the values
    of the parts; `aliases` maps the outputs that take over an input's memory to that input. `ops`
    and `flops` count the model's operators and their work, wherever they run; `passes` says what
    the compiler did.
    """

    name: str
    parts: tuple[DevicePart | HostPart, ...]
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    ops: int = 0
    flops: int = 0
    passes: tuple[PassRecord, ...] = ()

    @property
    def programs(self) -> tuple[DevicePart, ...]:
        """The parts that run on the device."""
        return tuple(part for part in self.parts if isinstance(part, DevicePart))

    @property
    def host_ops(self) -> tuple[HostOp, ...]:
        """The operators that the host computes."""
        return tuple(op for part in self.parts if isinstance(part, HostPart) for op in part.ops)

    @property
    def ops_on_device(self) -> float:
        """The share of the operators that run on the device."""
        return 1 - len(self.host_ops) / self.ops if self.ops else 1.0

    @property
    def flops_on_device(self) -> float:
        """The share of the work that is done on the device."""
        return 1 - sum(op.flops for op in self.host_ops) / self.flops if self.flops else 1.0

    @property
    def parameter_bytes(self) -> int:
        """Bytes of parameters and constants in HBM."""
        return sum(part.parameter_bytes for part in self.programs)

    @property
    def input_bytes(self) -> int:
        """Bytes that one run copies to the device, for all programs."""
        return sum(part.input_bytes for part in self.programs)

    @property
    def output_sizes(self) -> tuple[int, ...]:
        """Bytes of each copy from the device in one run, for all programs."""
        return tuple(size for part in self.programs for size in part.output_sizes)

    @property
    def output_bytes(self) -> int:
        """Bytes that one run copies from the device, for all programs."""
        return sum(self.output_sizes)

    @property
    def state_bytes(self) -> int:
        """Bytes of the inputs whose memory outputs take over (a KV cache)."""
        return sum(part.state_bytes for part in self.programs)

    @property
    def hbm_bytes(self) -> int:
        """Bytes of HBM that one core needs; the programs are loaded side by side."""
        return sum(part.hbm_bytes for part in self.programs)

    @property
    def sbuf_peak_bytes(self) -> int:
        """Bytes of SBUF in each partition that the largest program holds at once."""
        return max((part.placement.sbuf_peak_bytes for part in self.programs), default=0)

    @property
    def psum_peak_bytes(self) -> int:
        """Bytes of PSUM in each partition that the largest program holds at once."""
        return max((part.placement.psum_peak_bytes for part in self.programs), default=0)


def _bytes(port: Port, kept: set[str]) -> int:
    sizes = zip(port.names, port.shapes, strict=True)
    return sum(int(np.prod(s)) * port.dtype.itemsize for name, s in sizes if name not in kept)

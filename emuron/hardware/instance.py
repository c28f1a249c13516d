"""What an EC2 instance (or UltraServer) is: chips, host, links and prices."""

from __future__ import annotations

from dataclasses import dataclass, field

from emuron.errors import UnknownNameError
from emuron.hardware.chip import Chip
from emuron.hardware.price import KINDS, Price
from emuron.hardware.schema import Alternative
from emuron.hardware.topology import Topology


@dataclass(frozen=True, slots=True)
class HostSpec:
    """Costs of the host around a program, of the framework's making."""

    framework_launch_us: float  # from the framework's call to the device's start
    sync_launch_us: float  # a launch that waits for the one before, in a serving loop
    prompt_us: float  # of a batch of prompts, before their graph and after it
    op_launch_us: float  # to call one operator that the host computes
    op_gflop_per_s: float  # of an operator on one thread of the host
    op_gb_per_s: float  # memory that an operator reads and writes on one thread
    mapped_copy_gb_per_s: float  # of an output into memory that is mapped anew
    mapped_from_bytes: int  # outputs larger than this are
    tail_us: float  # what the 99th percentile of a latency is above the median


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance type; equal by value."""

    name: str
    family: str
    chip: Chip
    chips: int
    topology: Topology
    host: HostSpec
    prices: tuple[Price, ...]
    vcpu: int | None = None
    host_gib: int | None = None
    network_gbps: float | None = None  # Gbit/s
    network_up_to: bool = False  # the figure is a burst
    ebs_gbps: float | None = None  # Gbit/s
    link_override_gb_per_s: float | None = None  # where it is not the chip's figure
    built_of: str | None = None
    numa_nodes: tuple[tuple[int, ...], ...] = ()  # chips of each node
    sources: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    alternatives: tuple[Alternative, ...] = field(default=(), compare=False, repr=False)

    def __hash__(self) -> int:
        return hash((Instance, self.name))

    @property
    def cores(self) -> int:
        """Physical NeuronCores of all chips."""
        return self.chips * self.chip.cores

    @property
    def logical_cores(self) -> int:
        """Logical NeuronCores of all chips at the default LNC."""
        return self.chips * self.chip.logical_cores

    @property
    def hbm_bytes(self) -> int:
        """Device memory of all chips in bytes."""
        return self.chips * self.chip.hbm_bytes

    @property
    def hbm_gb_per_s(self) -> float:
        """Device-memory bandwidth of all chips in GB/s."""
        return self.chips * self.chip.hbm_gb_per_s

    @property
    def link_gb_per_s_per_chip(self) -> float | None:
        """NeuronLink bandwidth of a chip in GB/s; None where there is one chip."""
        if self.chips == 1:
            return None
        return self.link_override_gb_per_s or self.chip.links.intra_gb_per_s

    def peak_tflops(self, dtype: str) -> float | None:
        """Return the advertised peak of all chips for `dtype`; None where none is published."""
        peak = self.chip.peak_tflops(dtype)
        return None if peak is None else self.chips * peak

    def price(self, kind: str = "on_demand") -> Price | None:
        """Return the newest price of `kind`; None if none is known."""
        if kind not in KINDS:
            raise UnknownNameError("price kind", kind, KINDS)
        of_kind = [price for price in self.prices if price.kind == kind]
        return max(of_kind, key=lambda price: price.stated, default=None)

"""What a chip is: its NeuronCores, device memory, links and peaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from emuron.errors import UnknownNameError
from emuron.hardware.core import DmaSpec, Engine, NeuronCore, Timing
from emuron.hardware.schema import Alternative

__all__ = ["Chip", "CollectiveSpec", "DmaSpec", "Engine", "LinkSpec", "NeuronCore", "Timing"]


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """NeuronLink of one chip; bandwidths are a chip's total, each direction."""

    version: str
    links: int  # to chips of the same instance
    intra_gb_per_s: float  # to chips of the same instance (or server)
    inter_gb_per_s: float | None = None  # to chips of other instances of an UltraServer
    rack_gb_per_s: float | None = None  # to the peer chip of the neighbouring rack
    total_gb_per_s: float | None = None  # as advertised, where it is not the sum

    @property
    def link_gb_per_s(self) -> float:
        """Bandwidth of one link within the instance in GB/s."""
        return self.intra_gb_per_s / self.links


@dataclass(frozen=True, slots=True)
class CollectiveSpec:
    """Algorithms and constants of collective communication."""

    algorithms: tuple[str, ...]  # ring, mesh, rdh, kangaring
    ring_hop_us: float
    floor_us: float  # small message, one step
    link_efficiency: float  # usable fraction of the link bandwidth
    internode_hop_us: float
    streams_lnc1: int
    streams_lnc2: int
    mesh_max_bytes: int | None = None  # mesh up to here
    rdh_max_bytes: int | None = None  # recursive doubling up to here, KangaRing above
    efa_gbps: float | None = None  # network share of a chip, Gbit/s


@dataclass(frozen=True, slots=True)
class Chip:
    """One Inferentia or Trainium chip; equal by value."""

    name: str
    aliases: tuple[str, ...]
    core: NeuronCore
    cores: int  # physical NeuronCores
    lnc_default: int  # physical cores a logical core is made of by default
    lnc_sizes: tuple[int, ...]
    memory_kind: str
    hbm_bytes: int
    hbm_gb_per_s: float  # 1 GB is 10^9 bytes
    hbm_stacks: int
    hbm_efficiency: float  # streaming fraction of the peak
    peaks_tflops: tuple[tuple[str, float], ...]  # as advertised, all engines together
    host_dma_gb_per_s: float  # copy between host and device
    links: LinkSpec
    collectives: CollectiveSpec
    host_dma_engines: int | None = None
    dma_total_gb_per_s: float | None = None  # with inline compression or computation
    cc_cores: int = 0
    dies: int = 1
    hbm_reserved_bytes: int = 0  # firmware's, of each stack
    runtime_reserved_bytes: int = 0  # the runtime's, of each core's share of the device memory
    sources: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    alternatives: tuple[Alternative, ...] = field(default=(), compare=False, repr=False)

    def __hash__(self) -> int:
        return hash((Chip, self.name))

    @property
    def cores_per_stack(self) -> int:
        """Physical cores that share one memory stack (or channel)."""
        return max(1, self.cores // self.hbm_stacks)

    @property
    def hbm_stack_gb_per_s(self) -> float:
        """Peak bandwidth of one memory stack in GB/s."""
        return self.hbm_gb_per_s / self.hbm_stacks

    @property
    def dma_engines(self) -> int:
        """DMA engines of all cores, without those of the host."""
        return self.cores * self.core.dma.engines

    @property
    def logical_cores(self) -> int:
        """Logical NeuronCores at the default LNC."""
        return self.cores // self.lnc_default

    def peak_tflops(self, dtype: str) -> float | None:
        """Return the advertised peak for `dtype` in TFLOPS; None where none is published."""
        return dict(self.peaks_tflops).get(dtype)

    def source(self, path: str) -> str:
        """Return where the figure at the dotted `path` is stated."""
        known = dict(self.sources)
        if path not in known:
            raise UnknownNameError(f"figure of {self.name}", path, list(known))
        return known[path]

    def sharing(self, busy_cores: int) -> int:
        """Return how many cores use one HBM stack while so many of the chip work."""
        return max(1, ceil(busy_cores / (self.hbm_stacks or 1)))

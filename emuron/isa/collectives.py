"""Instructions of the two cores of a rank: `sendrecv` between them and `core_barrier`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from emuron.errors import UsageError
from emuron.isa import limits
from emuron.isa.dma import copy_cost
from emuron.isa.instruction import Cost, In, InOut, Out, instruction
from emuron.isa.meetings import CoreId, Meeting, Stage

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

DMA_ENGINES = ("dma", "gpsimd_dma")
BARRIER_ENGINES = ("unknown", "tensor", "vector", "scalar", "gpsimd", "sync")


@instruction(
    engine=("dma", "gpsimd"),
    nki="sendrecv",
    since=3,
    source="ISA32 sendrecv; A3 LNC; cost inferred from a copy",
)
class Sendrecv(Meeting):
    """Send src to one core of the rank and receive dst from one; both lie in SBUF.

    Instructions of one `pipe_id` pair up in program order; src is read when it is issued.
    """

    src: In
    dst: Out
    send_to_rank: int
    recv_from_rank: int
    pipe_id: int
    dma_engine: str = "dma"

    @property
    def raw(self) -> bool:
        """Bits are moved unchanged."""
        return True

    def check(self, core: NeuronCore) -> None:
        """Refuse other memories, unequal tiles and too much for the GpSimd engine's DMA."""
        for name in ("src", "dst"):
            limits.check_buffer(self, core, name, limits.SBUF)
        limits.check_same_dtype(self, "src", "dst")
        limits.check_same_elements(self, "src", "dst")
        limits.check_operator(self, "dma_engine", DMA_ENGINES)
        if self.dma_engine == "gpsimd_dma":
            itemsize = self.src.dtype.itemsize
            limit = core.limits.custom_gpsimd_transfer_bytes * itemsize // 4
            if self.src.free_size * itemsize > limit:
                raise self.refuse(
                    f"dma_engine=gpsimd_dma moves at most {limit} bytes a partition of "
                    f"{self.src.dtype}, not {self.src.free_size * itemsize}",
                    "Use dma_engine=dma.",
                )

    def meets(self, here: CoreId, cores: int) -> tuple[Hashable, tuple[CoreId, ...]]:
        """Return the pipe, and this core with those that it sends to and receives from."""
        for name in ("send_to_rank", "recv_from_rank"):
            if not 0 <= getattr(self, name) < cores:
                raise self.refuse(
                    f"{name}={getattr(self, name)}, but the kernel runs on {_count(cores)}",
                    f"Launch it as kernel[2], or name a core from 0 to {cores - 1}.",
                )
        numbers = sorted({here.number, self.send_to_rank, self.recv_from_rank})
        return ("sendrecv", self.pipe_id), tuple(CoreId(here.rank, n) for n in numbers)

    def stages(self, here: CoreId, cores: int) -> tuple[Stage, ...]:
        """Return that dst is free, that src goes to who has said so, and that dst has come.

        The first and the last are in queues of their own, so that neither holds up a transfer.
        """
        free = Stage("is ready", ("dst",), queue="arrivals")
        send = Stage("sends", (), ((self.send_to_rank, 0),), ("src",), timed=True)
        come = Stage("receives", ("dst",), ((self.recv_from_rank, 1),), queue="receipts")
        return free, send, come

    def agree(self, parts: Mapping[CoreId, Sendrecv]) -> None:
        """Refuse a receiver that expects another sender, shape or dtype."""
        for core, part in parts.items():
            receiver = CoreId(core.rank, part.send_to_rank)
            other = parts[receiver]
            if other.recv_from_rank != core.number:
                raise UsageError(
                    f"sendrecv on pipe {self.pipe_id}: core {core.number} sends to core "
                    f"{receiver.number}, which receives from core {other.recv_from_rank}. "
                    "Let each core receive from the core that sends to it."
                )
            sent, wanted = part.src, other.dst
            if (sent.dtype, sent.partitions, sent.free_size) != (
                wanted.dtype,
                wanted.partitions,
                wanted.free_size,
            ):
                raise UsageError(
                    f"sendrecv on pipe {self.pipe_id}: core {core.number} sends {sent!r}, core "
                    f"{receiver.number} receives into {wanted!r}. Give both the same shape and "
                    "dtype."
                )

    def exchange(
        self, ops: Any, parts: Mapping[CoreId, Sendrecv], read: Mapping[CoreId, tuple[Any, ...]]
    ) -> Mapping[CoreId, tuple[Any, ...]]:
        """Return to each core what the one that it receives from read."""
        return {core: read[CoreId(core.rank, part.recv_from_rank)] for core, part in parts.items()}

    def cost(self, core: NeuronCore) -> Cost:
        """Return a copy from SBUF to SBUF; the GpSimd engine's own DMA moves half of its
        bandwidth of both directions each way (hardware data, dma.gpsimd_gb_per_s).
        """
        copy = copy_cost(core, self.dst, (self.src,))
        if self.dma_engine == "dma" or core.dma.gpsimd_gb_per_s is None:
            return copy
        moved = copy.dma
        assert moved is not None
        rate = core.dma.gpsimd_gb_per_s / 2 / core.dma.core_gb_per_s
        return Cost(dma=replace(moved, rate=rate))


@instruction(
    engine=BARRIER_ENGINES[1:],
    nki="core_barrier",
    since=3,
    source="ISA32 core_barrier; cost assumed",
)
class CoreBarrier(Meeting):
    """Hold an engine until all `cores` of the rank are here; orders the accesses to `data`."""

    data: InOut
    cores: tuple[int, ...]
    engine: str = "gpsimd"

    @property
    def engine_name(self) -> str:
        """The engine that waits: GpSimd unless another is named."""
        return "gpsimd" if self.engine == "unknown" else self.engine

    @property
    def untouched(self) -> tuple[str, ...]:
        """The data is neither read nor written."""
        return ("data",)

    def check(self, core: NeuronCore) -> None:
        """Refuse generations without pairs of cores and engines that cannot wait."""
        limits.check_operator(self, "engine", BARRIER_ENGINES)

    def meets(self, here: CoreId, cores: int) -> tuple[Hashable, tuple[CoreId, ...]]:
        """Return the barrier's cores, which must be those of the launch."""
        named = tuple(sorted(self.cores))
        if named != tuple(range(cores)) or cores < 2:
            raise self.refuse(
                f"cores={list(self.cores)}, but the kernel runs on {_count(cores)}",
                "A barrier needs both cores: launch the kernel as kernel[2], cores=(0, 1).",
            )
        return "core_barrier", tuple(CoreId(here.rank, number) for number in named)

    def exchange(
        self, ops: Any, parts: Mapping[CoreId, CoreBarrier], read: Mapping[CoreId, tuple[Any, ...]]
    ) -> Mapping[CoreId, tuple[Any, ...]]:
        """Move nothing."""
        return read

    def cost(self, core: NeuronCore) -> Cost:
        """Return the barrier's time in cycles of the engine that waits."""
        engine = core.engine(self.engine_name)
        return Cost(cycles=core.timing.core_barrier_ns * engine.clock_ghz)


def _count(cores: int) -> str:
    return "one core" if cores == 1 else f"{cores} cores"

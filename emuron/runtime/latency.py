"""Latency and throughput of an inference: the device's time, and the host around it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from emuron.hardware.instance import HostSpec, Instance
from emuron.runtime.executable import HostOp

_PS_PER_US = 1_000_000
_PER_US = 1000  # a figure of giga-units per second, in units per microsecond


@dataclass(frozen=True, slots=True)
class Work:
    """What one inference asks of a core and of its host.

    `device_ps` is the time of all programs, the bytes are those of all copies, each output's own.
    """

    device_ps: int
    input_bytes: int
    output_sizes: tuple[int, ...] = ()
    programs: int = 1
    host_ops: tuple[HostOp, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """The parts of one inference's time, in microseconds; a worker has `tp` cores, mostly one.

    The framework launches, inputs go to the device by its host DMA, the program starts and drains
    (`floor_us`), runs, and outputs come back: once for each program where the host computes
    operators between them (`host_us`). A worker does one inference after another, as the
    published tables were measured, so that throughput is workers · batch / latency. Where workers
    share cores, each waits for the others' programs (`waiting_us`). One inference in a hundred
    meets a delay of the host (`tail_us`) or more.
    """

    device_us: float
    launch_us: float
    copy_in_us: float
    copy_out_us: float
    floor_us: float
    workers: int
    host_us: float = 0.0
    tail_us: float = 0.0
    waiting_us: float = 0.0

    @property
    def total_us(self) -> float:
        """Time from the framework's call to its return."""
        return self._on_core_us + self._around_us + self.waiting_us

    @property
    def p99_us(self) -> float:
        """Time that 99 inferences in a hundred do not exceed."""
        return self.total_us + self.tail_us

    @property
    def _on_core_us(self) -> float:
        return self.device_us + self.floor_us

    @property
    def _around_us(self) -> float:
        return self.launch_us + self.copy_in_us + self.copy_out_us + self.host_us

    def shared(self, workers: int, cores: int) -> Latency:
        """Return the latency with so many workers on so many cores, taking turns.

        While one worker is with its host, the others of its core use the core: what does not fit
        into that time is waited for.
        """
        others = max(0.0, workers / cores - 1) * self._on_core_us
        return replace(self, workers=workers, waiting_us=max(0.0, others - self._around_us))

    @classmethod
    def in_turn(cls, parts: Iterable[tuple[Latency, int]]) -> Latency:
        """Return the latency of networks that run one after another, each so many times."""
        parts = list(parts)
        names = [f.name for f in fields(cls) if f.name not in ("workers", "tail_us")]
        total = {n: sum(times * getattr(one, n) for one, times in parts) for n in names}
        first = parts[0][0]
        return cls(workers=first.workers, tail_us=first.tail_us, **total)

    def throughput_per_s(self, batch: int) -> float:
        """Inferences per second of the whole instance."""
        return self.workers * batch * 1e6 / self.total_us


def latency_of(instance: Instance, work: Work) -> Latency:
    """Return the latency of an inference.

    Figures: the instance's host (framework launch, operators, copies), the chip's host DMA, the
    core's launch floor. Outputs that the host's allocator maps anew each time are copied at the
    rate at which new pages are made; the copies of others are too quick to count.
    """
    chip, host = instance.chip, instance.host
    per_us = chip.host_dma_gb_per_s * _PER_US
    mapped = sum(size for size in work.output_sizes if size > host.mapped_from_bytes)
    mapped_us = mapped / (host.mapped_copy_gb_per_s * _PER_US)
    return Latency(
        device_us=work.device_ps / _PS_PER_US,
        launch_us=work.programs * host.framework_launch_us,
        copy_in_us=work.input_bytes / per_us,
        copy_out_us=sum(work.output_sizes) / per_us + mapped_us,
        floor_us=work.programs * chip.core.timing.neff_floor_us(1),
        workers=instance.cores,
        host_us=host_us(host, work.host_ops),
        tail_us=host.tail_us,
    )


def host_us(host: HostSpec, ops: Iterable[HostOp]) -> float:
    """Return the time of operators on the host: each is bound by its work or by its bytes."""
    return sum(
        host.op_launch_us
        + max(op.flops / host.op_gflop_per_s, op.bytes / host.op_gb_per_s) / _PER_US
        for op in ops
    )

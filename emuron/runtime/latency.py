"""Latency and throughput of an inference: the device's time, and the host around it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from emuron.hardware.instance import HostSpec, Instance
from emuron.runtime.executable import HostOp

_PS_PER_US = 1_000_000
_PER_US = 1000  # a figure of giga-units per second, in units per microsecond


@dataclass(frozen=True, slots=True)
class Work:
    """What one inference asks of a core and of its host.

    `device_ps` is the time of all programs, the bytes are those of all copies.
    """

    device_ps: int
    input_bytes: int
    output_bytes: int
    programs: int = 1
    host_ops: tuple[HostOp, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """The parts of one inference's time, in microseconds; a worker has `tp` cores, mostly one.

    The framework launches, inputs go to the device by its host DMA, the program starts and drains
    (`floor_us`), runs, and outputs come back: once for each program where the host computes
    operators between them (`host_us`). A worker does one inference after another, as the
    published tables were measured, so that throughput is workers · batch / latency.
    """

    device_us: float
    launch_us: float
    copy_in_us: float
    copy_out_us: float
    floor_us: float
    workers: int
    host_us: float = 0.0

    @property
    def total_us(self) -> float:
        """Time from the framework's call to its return."""
        copies_us = self.copy_in_us + self.copy_out_us
        return self.device_us + self.launch_us + copies_us + self.floor_us + self.host_us

    def throughput_per_s(self, batch: int) -> float:
        """Inferences per second of the whole instance."""
        return self.workers * batch * 1e6 / self.total_us


def latency_of(instance: Instance, work: Work) -> Latency:
    """Return the latency of an inference.

    Figures: the instance's host (framework launch, operators), the chip's host DMA, the core's
    launch floor.
    """
    chip = instance.chip
    per_us = chip.host_dma_gb_per_s * _PER_US
    return Latency(
        device_us=work.device_ps / _PS_PER_US,
        launch_us=work.programs * instance.host.framework_launch_us,
        copy_in_us=work.input_bytes / per_us,
        copy_out_us=work.output_bytes / per_us,
        floor_us=work.programs * chip.core.timing.neff_floor_us(1),
        workers=instance.cores,
        host_us=host_us(instance.host, work.host_ops),
    )


def host_us(host: HostSpec, ops: Iterable[HostOp]) -> float:
    """Return the time of operators on the host: each is bound by its work or by its bytes."""
    return sum(
        host.op_launch_us
        + max(op.flops / host.op_gflop_per_s, op.bytes / host.op_gb_per_s) / _PER_US
        for op in ops
    )

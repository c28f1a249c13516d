"""Latency and throughput of an inference: the device's time, and the host around it."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.hardware.instance import Instance

_PS_PER_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Latency:
    """The parts of one inference's time, in microseconds, one worker a core.

    The framework launches, inputs go to the device by its host DMA, the program starts and drains
    (`floor_us`), runs, and outputs come back. A worker does one inference after another, as the
    published tables were measured, so that throughput is cores · batch / latency.
    """

    device_us: float
    launch_us: float
    copy_in_us: float
    copy_out_us: float
    floor_us: float
    cores: int

    @property
    def total_us(self) -> float:
        """Time from the framework's call to its return."""
        return self.device_us + self.launch_us + self.copy_in_us + self.copy_out_us + self.floor_us

    def throughput_per_s(self, batch: int) -> float:
        """Inferences per second of the whole instance."""
        return self.cores * batch * 1e6 / self.total_us


def latency_of(instance: Instance, device_ps: int, input_bytes: int, output_bytes: int) -> Latency:
    """Return the latency of a program of `device_ps` that moves so many bytes to and from the host.

    Figures: the instance's host (framework launch), the chip's host DMA, the core's launch floor.
    """
    chip = instance.chip
    per_us = chip.host_dma_gb_per_s * 1000
    return Latency(
        device_us=device_ps / _PS_PER_US,
        launch_us=instance.host.framework_launch_us,
        copy_in_us=input_bytes / per_us,
        copy_out_us=output_bytes / per_us,
        floor_us=chip.core.timing.neff_floor_us(1),
        cores=instance.cores,
    )

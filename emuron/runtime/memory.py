"""What of a core's device memory a model takes, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from emuron.trace.quantity import bytes_text


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of device memory on each core, and the bytes that a core has.

    `state_bytes` are inputs whose memory outputs take over (a KV cache); `scratch_bytes` other
    inputs, outputs and values between operators; `reserved_bytes` what the runtime keeps.
    """

    weight_bytes: int
    state_bytes: int
    scratch_bytes: int
    reserved_bytes: int
    limit_bytes: int

    @cached_property
    def total_bytes(self) -> int:
        """All that is taken."""
        return self.weight_bytes + self.state_bytes + self.scratch_bytes + self.reserved_bytes

    @property
    def fits(self) -> bool:
        """Whether a core has that much."""
        return self.total_bytes <= self.limit_bytes

    @property
    def verdict(self) -> str:
        """`fits` or `does not fit`."""
        return "fits" if self.fits else "does not fit"

    def __str__(self) -> str:
        """Return the verdict with the numbers."""
        parts = ", ".join(
            f"{name} {bytes_text(size)}"
            for name, size in (
                ("weights", self.weight_bytes),
                ("KV cache", self.state_bytes),
                ("activations", self.scratch_bytes),
                ("runtime", self.reserved_bytes),
            )
            if size
        )
        return (
            f"{self.verdict}: {bytes_text(self.total_bytes)} of {bytes_text(self.limit_bytes)} "
            f"on each core ({parts})"
        )

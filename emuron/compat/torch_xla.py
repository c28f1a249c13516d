"""The calls of `torch_xla` in public drivers: the simulated device is the host's memory."""

from __future__ import annotations

from typing import Any

from emuron.errors import missing_extra


def device(index: int | None = None) -> Any:
    """Return the device on which tensors are given to kernels: PyTorch's CPU."""
    try:
        import torch
    except ImportError as error:
        raise missing_extra(error, "torch_xla") or error from error
    return torch.device("cpu")


xla_device = device


def sync(wait: bool = False) -> None:
    """Return at once: kernels have run when their call returns."""


def mark_step(wait: bool = False) -> None:
    """Return at once: kernels have run when their call returns."""


def wait_device_ops() -> None:
    """Return at once: kernels have run when their call returns."""


def get_ordinal() -> int:
    """Return this process's number."""
    return 0


def xrt_world_size() -> int:
    """Return the number of processes."""
    return 1


def is_master_ordinal() -> bool:
    """Return whether this process is the first."""
    return True

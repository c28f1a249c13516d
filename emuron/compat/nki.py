"""The names of the package `nki` itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from emuron.compat.dtypes import dtype
from emuron.nki.kernel import Kernel, jit, simulate
from emuron.nki.launch import run_kernel

__all__ = ["cpu_simulate", "dtype", "jit", "run_kernel", "simulate"]

GENERATION_VARIABLE = "NKI_NC_VERSION"
"""Names the generation ("gen3") for `cpu_simulate`, as its users set it."""


class cpu_simulate:
    """`nki.cpu_simulate(kernel)[cores](**arrays)`, the form of pre-release simulators.

    Called without brackets it runs on one core. Returns what the kernel returns, as arrays.
    """

    def __init__(self, kernel: Callable[..., Any], cores: int | None = None) -> None:
        self.kernel = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
        self.cores = cores

    def __getitem__(self, cores: int) -> cpu_simulate:
        """Return it with a number of physical cores."""
        return cpu_simulate(self.kernel, cores)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel."""
        kernel = self.kernel if self.cores is None else self.kernel[self.cores]
        return simulate(kernel, target=os.environ.get(GENERATION_VARIABLE))(*args, **kwargs)

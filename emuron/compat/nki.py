"""The names of the package `nki` itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from emuron.compat.dtypes import dtype
from emuron.compat.launches import record_launches
from emuron.nki.kernel import Simulated, jit, simulate
from emuron.nki.latency import baremetal, benchmark, profile
from emuron.nki.launch import run_kernel

__all__ = [
    "baremetal",
    "benchmark",
    "cpu_simulate",
    "dtype",
    "jit",
    "profile",
    "run_kernel",
    "simulate",
]

GENERATION_VARIABLE = "NKI_NC_VERSION"
"""Names the generation ("gen3") for `cpu_simulate`, as its users set it."""


def cpu_simulate(kernel: Callable[..., Any]) -> Simulated:
    """Return a kernel that runs on arrays, under the simulator's name before its release.

    The generation is that of NKI_NC_VERSION, if it is set.
    """
    return simulate(kernel, target=os.environ.get(GENERATION_VARIABLE))


record_launches()

"""The names of the package `nki` itself."""

from __future__ import annotations

from emuron.compat.dtypes import dtype
from emuron.compat.launches import record_launches
from emuron.nki.kernel import cpu_simulate, jit, simulate
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

record_launches()

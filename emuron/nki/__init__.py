"""Kernels by hand: the NKI language over the instruction set.

`jit` and `simulate` make and run kernels, `run_kernel` also times them; `language` and `isa` are
what kernels are written with. Names are loaded on first use: the compiler needs the recorder alone.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Any

_MODULE_OF_NAME = MappingProxyType(
    {
        "jit": "emuron.nki.kernel",
        "simulate": "emuron.nki.kernel",
        "cpu_simulate": "emuron.nki.kernel",
        "simulate_ranks": "emuron.nki.kernel",
        "benchmark": "emuron.nki.latency",
        "baremetal": "emuron.nki.latency",
        "profile": "emuron.nki.latency",
        "profile_run": "emuron.nki.line_profile",
        "run_kernel": "emuron.nki.launch",
        "run_ranks": "emuron.nki.launch",
        "assume_registers": "emuron.nki.registers",
        "races": "emuron.nki.race_checks",
        "Case": "emuron.nki.cases",
        "KernelRun": "emuron.nki.launch",
        "ShapeDtype": "emuron.nki.arrays",
        "check_subset": "emuron.nki.subset",
        "strict": "emuron.nki.versions",
        "unwritten": "emuron.nki.unwritten_memory",
    }
)

__all__ = [*_MODULE_OF_NAME, "isa", "language"]  # noqa: PLE0604 (the keys are strings)


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name in ("isa", "language"):
        return import_module(f"emuron.nki.{name}")
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module 'emuron.nki' has no attribute '{name}'")
    value = getattr(import_module(_MODULE_OF_NAME[name]), name)
    globals()[name] = value
    return value

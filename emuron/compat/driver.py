"""`nki.compiler.driver`, `ncc_driver` and `kernel_builder`: from a kernel to a compiled file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emuron.compat.compiled import CompiledKernel, CompileOptions, TracedKernel
from emuron.compat.frontend import TracerFrontend

__all__ = [
    "CompileOptions",
    "CompiledKernel",
    "compile_bir_to_neff",
    "compile_kernel",
    "compile_to_bir",
    "extract_perf_metrics",
]


def compile_to_bir(
    kernel: Callable[..., Any],
    inputs: Mapping[str, Any],
    compile_opts: CompileOptions | None = None,
    **hyperparameters: Any,
) -> TracedKernel:
    """Record a kernel on arrays (by shape and dtype) and other arguments."""
    options = compile_opts or CompileOptions()
    return TracerFrontend().compile(
        kernel,
        inputs={**inputs, **hyperparameters},
        target=options.target,
        lnc=options.lnc,
        artifacts_dir=options.artifacts_dir,
    )


def compile_bir_to_neff(
    traced: TracedKernel, compile_opts: CompileOptions | None = None
) -> CompiledKernel:
    """Place and time a recorded kernel and write its file."""
    return CompiledKernel.from_frontend(traced, compile_opts or CompileOptions())


def compile_kernel(
    kernel: Callable[..., Any],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    compile_opts: CompileOptions | None = None,
    **hyperparameters: Any,
) -> CompiledKernel:
    """Compile a kernel that takes its outputs as arguments; other keywords are passed to it."""
    traced = compile_to_bir(kernel, {**inputs, **outputs}, compile_opts, **hyperparameters)
    return compile_bir_to_neff(traced, compile_opts)


def extract_perf_metrics(compiled: CompiledKernel) -> dict[str, float]:
    """Return the predicted time in microseconds and the number of instructions."""
    return {
        "latency_us": compiled.total_ps / 1e6,
        "instructions": float(compiled.instructions),
    }

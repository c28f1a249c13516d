"""The classes of kernels under the names that adapters of frameworks derive from or look for."""

from __future__ import annotations

from typing import Any

from emuron.compat.compiled import CompiledKernel, CompileOptions
from emuron.compat.frontend import TracerFrontend
from emuron.nki.kernel import Kernel

__all__ = ["CompileKernel", "FrameworkKernel", "GenericKernel", "Kernel"]


class CompileKernel(Kernel):
    """A kernel that can be compiled for the shapes of some arguments."""

    def compile(self, options: CompileOptions | None = None, **arguments: Any) -> CompiledKernel:
        """Record, time and write the kernel for arguments by name."""
        chosen = options or CompileOptions(lnc=self.grid or 1)
        traced = TracerFrontend().compile(
            self, inputs=arguments, target=chosen.target, lnc=chosen.lnc
        )
        return CompiledKernel.from_frontend(traced, chosen)


class FrameworkKernel(CompileKernel):
    """The class that adapters of NKI 0.2 derive from."""


class GenericKernel(CompileKernel):
    """The class that adapters of NKI 0.1 and 0.2 derive from."""

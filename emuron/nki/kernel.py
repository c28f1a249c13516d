"""`nki.jit` and `nki.simulate`: kernels as objects that run on a simulated core."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from emuron.errors import UsageError
from emuron.hardware.chip import Chip
from emuron.nki.launch import record_kernel
from emuron.nki.recorder import active_recorder


class Kernel:
    """A function that writes NKI instructions; `kernel[n]` launches it on n physical cores.

    Called with arrays it runs and returns arrays; called from another kernel its instructions
    become part of that kernel.
    """

    def __init__(self, func: Callable[..., Any], grid: int | None = None) -> None:
        functools.update_wrapper(self, func)
        self.func = func
        self.grid = grid

    __name__: str

    def __getitem__(self, cores: int | tuple[int]) -> Kernel:
        """Return the kernel with a launch grid of 1 or 2 physical cores."""
        count = cores[0] if isinstance(cores, tuple) and len(cores) == 1 else cores
        if not isinstance(count, int) or count not in (1, 2):
            raise UsageError(
                f"{self.__name__}[{cores}]: a kernel is launched on 1 or 2 physical cores."
            )
        return Kernel(self.func, count)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel on the default target, or write it into the kernel that calls it."""
        if active_recorder() is not None:
            return self.func(*args, **kwargs)
        return simulate(self)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<nki kernel {self.__name__}>"


def jit(func: Callable[..., Any] | None = None, **options: object) -> Any:
    """Make a kernel of a function; usable as `@nki.jit`, `@nki.jit(…)` and `nki.jit(f)`.

    Options of AWS's compiler (mode, platform_target, debug_kernel …) are accepted and ignored.
    """
    if func is None:
        return jit
    return func if isinstance(func, Kernel) else Kernel(func)


def simulate(
    kernel: Callable[..., Any], *, target: str | Chip | None = None, backend: str = "numpy"
) -> Callable[..., Any]:
    """Return a function that runs a kernel on arrays and returns what it returns, as arrays.

    NumPy or PyTorch in, the same out; arguments that the kernel writes to are updated in place.
    `target` is a chip, generation or instance; without it NEURON_PLATFORM_TARGET_OVERRIDE counts,
    else trn2.
    """
    launched = kernel if isinstance(kernel, Kernel) else Kernel(kernel)

    @functools.wraps(launched.func)
    def run(*args: Any, **kwargs: Any) -> Any:
        return record_kernel(launched, args, kwargs, target, True, backend).outputs

    return run

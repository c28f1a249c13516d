"""`nki.jit` and `nki.simulate`: kernels as objects that run on a simulated core."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any

from emuron.errors import UsageError
from emuron.hardware.chip import Chip
from emuron.nki.recorder import active_recorder
from emuron.nki.recording import Inputs, record_kernel, record_ranks
from emuron.nki.scheduling import Edge


class Kernel:
    """A function that writes NKI instructions; `kernel[n]` launches it on n physical cores.

    Called with arrays it runs and returns arrays; called from another kernel its instructions
    become part of that kernel. `target` is the chip that it was made for, if `jit` was told one.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        grid: int | None = None,
        schedule: Sequence[Edge] = (),
        target: str | None = None,
    ) -> None:
        functools.update_wrapper(self, func)
        self.func = func
        self.grid = grid
        self.schedule = tuple(schedule)
        self.target = target

    __name__: str

    def __getitem__(self, cores: int | tuple[int]) -> Kernel:
        """Return the kernel with a launch grid of 1 or 2 physical cores."""
        return Kernel(self.func, _grid(self, cores), self.schedule, self.target)

    def __get__(self, owner: object, kind: type | None = None) -> Kernel:
        """Return the kernel as a method of an object; as a class attribute, the kernel itself."""
        if owner is None:
            return self
        return Kernel(MethodType(self.func, owner), self.grid, self.schedule, self.target)

    def with_schedule(self, edges: Sequence[Edge]) -> Kernel:
        """Return the kernel with waits between instructions that it names by `name=`.

        Each edge is (consumer, producer) or (consumer, [producers]). Names that the kernel does not
        give raise UnknownNameError when it runs.
        """
        return Kernel(self.func, self.grid, (*self.schedule, *edges), self.target)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel on the default target, or write it into the kernel that calls it."""
        if active_recorder() is not None:
            return self.func(*args, **kwargs)
        return simulate(self)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<nki kernel {self.__name__}>"


def jit(
    func: Callable[..., Any] | None = None,
    *,
    platform_target: str | None = None,
    **options: object,
) -> Any:
    """Make a kernel of a function; usable as `@nki.jit`, `@nki.jit(…)` and `nki.jit(f)`.

    `platform_target` is the chip to run on where a launch names none. The other options of AWS's
    compiler (mode, debug_kernel, experimental_flags …) are accepted and ignored.
    """
    if func is None:
        return functools.partial(jit, platform_target=platform_target)
    if isinstance(func, Kernel):
        return Kernel(func.func, func.grid, func.schedule, platform_target or func.target)
    return Kernel(func, target=platform_target)


def simulate(
    kernel: Callable[..., Any], *, target: str | Chip | None = None, backend: str = "numpy"
) -> Simulated:
    """Return a function that runs a kernel on arrays and returns what it returns, as arrays.

    NumPy or PyTorch in, the same out; arguments that the kernel writes to are updated in place.
    `simulate(kernel)[2]` and `simulate(kernel[2])` run it on two cores. `target` is a chip,
    generation or instance; without it that of `jit` counts, then NEURON_PLATFORM_TARGET_OVERRIDE
    and NKI_NC_VERSION in the environment, else trn2.
    """
    launched = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    return Simulated(launched, target, backend)


def simulate_ranks(
    kernel: Callable[..., Any],
    inputs: Sequence[Inputs],
    *,
    target: str | Chip | None = None,
    backend: str = "numpy",
) -> list[Any]:
    """Run a kernel on as many ranks (logical cores) as there are `inputs`; return their outputs.

    The inputs of a rank are a sequence of arguments or a mapping of names to them; each rank's are
    treated as `simulate` does. Ranks meet in the collectives of `nki.collectives`; `kernel[2]`
    gives each rank two physical cores.
    """
    launched = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    return [run.outputs for run in record_ranks(launched, inputs, target, True, backend)]


class Simulated:
    """A kernel that runs on arrays when called; `simulated[n]` runs it on n physical cores."""

    def __init__(self, kernel: Kernel, target: str | Chip | None, backend: str) -> None:
        functools.update_wrapper(self, kernel.func)
        self._kernel = kernel
        self._target = target
        self._backend = backend

    def __getitem__(self, cores: int | tuple[int]) -> Simulated:
        """Return the same with a launch grid of 1 or 2 physical cores."""
        return Simulated(self._kernel[cores], self._target, self._backend)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel and return what it returns, with arrays for tensors."""
        divert = _DIVERTED.get()
        if divert is not None:
            return divert(self._kernel, args, kwargs)
        run = record_kernel(self._kernel, args, kwargs, self._target, True, self._backend)
        return run.outputs


Diverted = Callable[[Kernel, tuple[Any, ...], dict[str, Any]], Any]
"""Takes a kernel with its arguments in place of a run, and returns what the launch returns."""

_DIVERTED: ContextVar[Diverted | None] = ContextVar("diverted", default=None)


@contextmanager
def diverted_launches(divert: Diverted) -> Iterator[None]:
    """Give every launch of `simulate` in this context to `divert` instead of running it."""
    token = _DIVERTED.set(divert)
    try:
        yield
    finally:
        _DIVERTED.reset(token)


def _grid(kernel: Kernel, cores: Any) -> int:
    """Return the number of cores that a subscript asks for; raise UsageError."""
    count = cores[0] if isinstance(cores, tuple) and len(cores) == 1 else cores
    if not isinstance(count, int) or count not in (1, 2):
        raise UsageError(
            f"{kernel.__name__}[{cores}]: a kernel is launched on 1 or 2 physical cores."
        )
    return count


cpu_simulate = simulate
"""The simulator's name before its release."""

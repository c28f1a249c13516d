"""The timing engine's source as it is, or compiled with numba."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

from emuron.errors import MissingExtraError
from emuron.sim import loop_skip, loop_state, timing_kernel, transfer_kernel
from emuron.sim.timing_layout import Tables

Simulate = Callable[[Tables], int]


def kernel(compiled: bool) -> Simulate:
    """Return `simulate`, compiled if asked; raise MissingExtraError without numba."""
    return _compiled() if compiled else timing_kernel.simulate


@cache
def _compiled() -> Simulate:
    """Compile a second copy of the engine's modules, so that the first stays plain Python."""
    try:
        import numba
    except ImportError as error:
        raise MissingExtraError("fast", "the compiled timing engine") from error
    functions: dict[str, Any] = {}
    for module in (loop_state, loop_skip, transfer_kernel, timing_kernel):
        copy = _copy(module)
        for name, value in list(vars(copy).items()):
            if isinstance(value, FunctionType) and value.__module__ == copy.__name__:
                functions[name] = numba.njit(cache=True)(value)
            if name in functions:
                setattr(copy, name, functions[name])
    simulate: Simulate = functions["simulate"]
    return simulate


def _copy(module: ModuleType) -> ModuleType:
    name = f"{module.__name__}_compiled"
    assert module.__file__ is not None
    spec = importlib.util.spec_from_file_location(name, module.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    sys.modules[name] = copy
    spec.loader.exec_module(copy)
    return copy

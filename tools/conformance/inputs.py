"""Random inputs that are not filled where they are too large for the case to be executed.

A case is executed only if its inputs are small; of larger ones only shapes and dtypes count, and
drawing a billion numbers takes longer than all else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from math import prod
from typing import Any

import numpy as np

_SIZE_AT = {
    "random": 0,
    "random_sample": 0,
    "standard_normal": 0,
    "normal": 2,
    "uniform": 2,
    "integers": 2,
    "randint": 2,
}
"""The position of `size` among the arguments of each function."""


def leave_large_random_arrays_unfilled(most_elements: int) -> None:
    """Let NumPy's random functions return zeros for arrays of more elements."""
    for name, position in _SIZE_AT.items():
        if hasattr(np.random, name):
            setattr(np.random, name, _sized(getattr(np.random, name), position, most_elements))
    for name in ("rand", "randn"):
        setattr(np.random, name, _by_dimensions(getattr(np.random, name), most_elements))

    class Generator(np.random.Generator):
        """A generator with the same numbers, of which large arrays stay zero."""

    for name, position in _SIZE_AT.items():
        if hasattr(Generator, name):
            setattr(Generator, name, _sized(getattr(Generator, name), position + 1, most_elements))

    def default_rng(seed: Any = None) -> np.random.Generator:
        """Return a generator as NumPy does."""
        if isinstance(seed, np.random.Generator):
            return seed
        return Generator(
            seed if isinstance(seed, np.random.BitGenerator) else np.random.PCG64(seed)
        )

    np.random.default_rng = default_rng


def _sized(draw: Callable[..., Any], position: int, most: int) -> Callable[..., Any]:
    @wraps(draw)
    def drawn(*args: Any, **options: Any) -> Any:
        size = options.get("size", args[position] if len(args) > position else None)
        if size is None or prod(np.atleast_1d(size).tolist()) <= most:
            return draw(*args, **options)
        one = draw(*args[:position], **{**options, "size": 1})
        return np.zeros(size, one.dtype)

    return drawn


def _by_dimensions(draw: Callable[..., Any], most: int) -> Callable[..., Any]:
    @wraps(draw)
    def drawn(*shape: int) -> Any:
        return draw(*shape) if prod(shape) <= most else np.zeros(shape)

    return drawn

"""One BLAS thread for tiles: products of 128 columns are many times slower on two."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

_FOLDERS = ("../numpy.libs", ".dylibs")  # where NumPy's wheels keep their libraries


@cache
def thread_controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return what reads and sets the threads of the OpenBLAS in NumPy's wheel; None without it.

    Another BLAS (a NumPy of a distribution, Accelerate) has controls of its own, such as
    OMP_NUM_THREADS.
    """
    package = Path(np.__file__).parent
    paths = [path for folder in _FOLDERS for path in package.joinpath(folder).glob("*openblas*")]
    for path in paths:
        library = ctypes.CDLL(str(path))
        for suffix in ("64_", ""):
            read = getattr(library, f"scipy_openblas_get_num_threads{suffix}", None)
            write = getattr(library, f"scipy_openblas_set_num_threads{suffix}", None)
            if read is not None and write is not None:
                return read, write
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy's products run on one thread inside."""
    controls = thread_controls()
    before = 1 if controls is None else controls[0]()
    if controls is None or before == 1:
        yield
        return
    controls[1](1)
    try:
        yield
    finally:
        controls[1](before)

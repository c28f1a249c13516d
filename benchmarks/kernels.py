"""How fast kernels are recorded: instructions a second, without data.

`python benchmarks/kernels.py` prints a row for each loop; the best of several rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.hardware import catalog
from emuron.nki.recorder import Recorder

INSTRUCTIONS = 20_000
ROUNDS = 5


def matmul_sliced(count: int) -> None:
    """Issue matmuls whose two operands are sliced each time."""
    stationary = nl.ndarray((128, 2048), nl.bfloat16)
    moving = nl.ndarray((128, 4096), nl.bfloat16)
    product = nl.ndarray((128, 512), nl.float32, buffer=nl.psum)
    for i in range(count):
        m, n = i % 16 * 128, i % 8 * 512
        nisa.nc_matmul(product, stationary[:, m : m + 128], moving[:, n : n + 512], accumulate=True)


def matmul_whole(count: int) -> None:
    """Issue matmuls on whole tiles."""
    stationary = nl.ndarray((128, 128), nl.bfloat16)
    moving = nl.ndarray((128, 512), nl.bfloat16)
    product = nl.ndarray((128, 512), nl.float32, buffer=nl.psum)
    for _ in range(count):
        nisa.nc_matmul(product, stationary, moving, accumulate=True)


def vector_sliced(count: int) -> None:
    """Issue tensor_scalars on sliced tiles."""
    tile = nl.ndarray((128, 4096), nl.float32)
    for i in range(count):
        n = i % 8 * 512
        nisa.tensor_scalar(tile[:, n : n + 512], tile[:, n : n + 512], nl.multiply, 2.0)


def slices(count: int) -> None:
    """Make views only."""
    tile = nl.ndarray((128, 4096), nl.float32)
    for i in range(count):
        n = i % 8 * 512
        tile[:, n : n + 512]


def rate(write: Callable[[int], None]) -> float:
    """Return the best rate of `write` in calls a processor second."""
    core = catalog.chip("trn2").core
    best = 0.0
    for _ in range(ROUNDS):
        with Recorder(core, write.__name__).active():
            start = time.process_time()
            write(INSTRUCTIONS)
            best = max(best, INSTRUCTIONS / (time.process_time() - start))
    return best


def main() -> None:
    """Print the rates."""
    assert nki.isa is nisa
    for write in (matmul_sliced, matmul_whole, vector_sliced, slices):
        print(f"{write.__name__:16} {rate(write) / 1e6:6.3f} M/s")


if __name__ == "__main__":
    main()

"""Print how fast kernels are timed from end to end without data: recorded, placed, tracked, timed.

The goal is 1 M instructions/s for all after recording, compiled (`pip install emuron[fast]`), and a
large kernel in less than 10 s with it. The first run compiles, which it says.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import emuron.nki as nki
from emuron.nki.recording import record_kernel
from emuron.sim.compiled import has_numba
from emuron.sim.memory import place_cores
from emuron.sim.timing import TimingSimulator

LARGEST = 4096  # of the kernel that holds the most on chip
KERNELS = Path(__file__).parents[1] / "examples" / "kernels" / "matmul.py"
ROUNDS = 3  # of which the best counts
GOAL = 1.0  # million instructions a second, after recording, compiled

T = TypeVar("T")


def timed(step: Callable[[], T]) -> tuple[T, float]:
    """Return what a step gives and its processor seconds."""
    begin = time.process_time()
    found = step()
    return found, time.process_time() - begin


def example(name: str) -> Any:
    """Return a kernel of the matrix multiplication examples."""
    spec = importlib.util.spec_from_file_location("matmul_example", KERNELS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def measure(name: str, size: int) -> None:
    """Print the seconds of one kernel, compiled if numba is installed and as it is."""
    arguments = (nki.ShapeDtype((size, size), "bfloat16"),) * 2
    run, recorded = timed(lambda: record_kernel(example(name), arguments, {}, None, False))
    count = sum(len(program) for program in run.programs)
    tensors = sum(len(program.tensors) for program in run.programs)
    _, placed = timed(lambda: place_cores(run.programs))
    print(f"{name} {size}: {count:,} instructions, {tensors:,} tensors")
    print(f"  recorded {recorded:.2f} s, placed {placed:.2f} s")
    for numba in (True, False) if has_numba() else (False,):
        simulator = TimingSimulator(run.chip, numba=numba)
        rounds = [
            timed(lambda: simulator.run_cores(run.programs, collect=False))[1]  # noqa: B023
            for _ in range(ROUNDS if numba else 1)
        ]
        seconds = min(rounds)
        rate = count / (placed + seconds) / 1e6
        goal = f"   (goal {GOAL:.0f})" if numba else ""
        print(
            f"  {'compiled' if numba else 'plain':9} timed {seconds:6.2f} s: {rate:.2f} M instr/s "
            f"placed and timed, {recorded + placed + seconds:.2f} s in all{goal}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    size = parser.parse_args().size
    if has_numba():
        _, seconds = timed(lambda: measure("matmul_optimised", 1024))
        print(f"(warm-up, with what was compiled or loaded: {seconds:.1f} s)")
    for name in ("matmul_naive", "matmul_tiled"):
        measure(name, size)
    measure("matmul_optimised", min(size, LARGEST))


if __name__ == "__main__":
    main()

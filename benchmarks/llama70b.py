"""Llama 2 70B, prefill of one prompt in bfloat16, timed without weights.

Prints the seconds of each step (graph, lower, place, time), the instructions and how many of them
were executed one by one, beside the goals of core_performance.md §6. A core's memory is not
checked: the program is that of one core which holds all weights.
Run: python benchmarks/llama70b.py [tokens]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
import sys
import time

from emuron.compiler.frontends.zoo import open_model
from emuron.compiler.ops import Autocast
from emuron.compiler.passes.lower import lower
from emuron.compiler.pipeline import RESIDENT_SHARES, optimize
from emuron.errors import CapacityError
from emuron.hardware.catalog import instance
from emuron.sim.memory import place
from emuron.sim.timing import TimingSimulator

TOKENS = 512  # 4096 take minutes: see the README
GOAL_SECONDS = 2.0  # pure Python, core_performance.md §6
GOAL_EXECUTED = 0.01  # share of the instructions


def main() -> None:
    """Print a line for each step and the totals."""
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else TOKENS
    chip = instance("inf2.48xlarge").chip
    clock = [time.perf_counter()]

    def lap(step: str) -> None:
        clock.append(time.perf_counter())
        print(f"{step:<8}{clock[-1] - clock[-2]:>9.2f} s", flush=True)

    graph = optimize(open_model("llama-2-70b", weights=False).prefill_graph(1, tokens))
    lap("graph")
    for share in RESIDENT_SHARES:
        budget = int(chip.core.sbuf_usable_bytes_per_partition * share)
        program = lower(graph, chip.core, Autocast("matmult"), budget).program
        lap("lower")
        try:
            place(program)
        except CapacityError:
            continue
        finally:
            lap("place")
        break
    found = TimingSimulator(chip, numba=False).run(program, collect=False)
    lap("time")
    seconds = clock[-1] - clock[0]
    share_executed = found.executed / found.instructions
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"whole   {seconds:>9.2f} s     goal {GOAL_SECONDS:g} s, pure Python")
    print(f"executed {share_executed:.3%} of {found.instructions:,}     goal {GOAL_EXECUTED:.0%}")
    print(f"{found.instructions / seconds:,.0f} instructions/s, peak memory {memory_mib:,.0f} MiB")
    print(f"device time of one core {found.total_ps / 1e12:.3f} s")


if __name__ == "__main__":
    main()

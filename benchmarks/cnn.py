"""ResNet-50 at the level of instructions: compiling, and timing it, against a cycle simulator.

Run with `python benchmarks/cnn.py`. The limit is that of the project's issue on models: ONNXim's
cycle simulation of the same network takes about 20 s of processor time on two cores such as these.
"""

from __future__ import annotations

import time

from emuron.compiler.compile import compile_model
from emuron.compiler.frontends.zoo import open_model
from emuron.sim.timing import TimingSimulator

ONNXIM_S = 20.0
LEAST_RATIO = 100.0
MOST_COMPILE_S = 20.0
ROUNDS = 3


def main() -> None:
    """Print the times and their ratio to the limit."""
    begun = time.perf_counter()
    model = compile_model(open_model("resnet50", weights=False), on="inf2.xlarge", batch=1)
    executable = model.executable
    cold_s = time.perf_counter() - begun
    core = model.instance.chip.core
    programs = [part.program for part in executable.programs]
    best_s, total_ps = float("inf"), 0
    for _ in range(ROUNDS):
        begun = time.process_time()
        results = [TimingSimulator(core).run(program, collect=False) for program in programs]
        best_s = min(best_s, time.process_time() - begun)
        total_ps = sum(result.total_ps for result in results)
    ratio = ONNXIM_S / best_s
    print(f"resnet50, batch 1, inf2.xlarge: {total_ps / 1e9:.3f} ms on a core")
    print(f"compiled cold in {cold_s:.1f} s (limit {MOST_COMPILE_S:.0f} s)")
    print(
        f"timed instruction by instruction in {best_s:.3f} s of processor time: "
        f"{ratio:.0f}x faster than a cycle simulation of {ONNXIM_S:.0f} s "
        f"(goal {LEAST_RATIO:.0f}x)"
    )


if __name__ == "__main__":
    main()

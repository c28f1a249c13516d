"""Four kernels on emuron and on the interpreters of its peers: processor seconds, one thread.

python benchmarks/peers.py [--python PATH] [--json FILE]

Each run has a process of its own and reports the best of several rounds, after a first one in which
results are checked and whatever compiles is compiled. PATH is an interpreter that has triton and
jax, where they are not in this environment; TRITON_VIZ names a copy of triton-viz's repository.
What is not there is named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = ("emuron_kernels", "triton_viz_kernels", "triton_kernels", "pallas_kernels")
WORKLOADS = (
    "matmul float32",
    "matmul bfloat16",
    "softmax",
    "attention",
    "attention 512 keys",
    "attention, two passes",
)
OURS = ("emuron", "emuron, timed")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def seconds(python: str, program: str, workload: str) -> dict[str, float]:
    """Return the seconds of each way in which a program runs a workload, none if it cannot."""
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": path}
    command = [python, str(HERE / "peers" / f"{program}.py"), workload]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or [""]
    if done.returncode:
        print(f"{program}, {workload}: not run: {lines[-1]}", flush=True)
        return {}
    found: dict[str, float] = json.loads(lines[-1])
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the seconds, and how many times those of emuron they are, with and without time."""
    lines = [f"{'':20}{'':22}{'seconds':>9}{'/ emuron':>10}{'/ timed':>9}"]
    for workload, ways in found.items():
        ours = [ways.get(way, float("nan")) for way in OURS]
        for way, value in ways.items():
            ratios = "".join(
                f"{value / own:>{width}.2f}" for own, width in zip(ours, (10, 9), strict=True)
            )
            lines.append(f"{workload:20}{way:22}{value:9.4f}{ratios}")
    return "\n".join(lines)


def main() -> None:
    """Print the table; write the seconds as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter with triton and jax")
    parser.add_argument("--json", type=Path, help="file for the seconds")
    chosen = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for workload in WORKLOADS:
        found[workload] = {}
        for program in PROGRAMS:
            peer = program in ("triton_kernels", "pallas_kernels")
            found[workload] |= seconds(chosen.python if peer else sys.executable, program, workload)
    print(table(found))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

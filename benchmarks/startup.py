"""Time what a user waits for before anything happens: the import and the help of the command."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 7
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import emuron": ["-c", "import emuron"],
    "emuron --help": ["-m", "emuron", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Return the wall time of one run of the interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    for name, arguments in COMMANDS.items():
        median = statistics.median(seconds(arguments) for _ in range(REPEATS))
        print(f"{name:<20}{median * 1000:8.0f} ms   (median of {REPEATS})")

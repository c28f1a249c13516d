"""Time the casts of emuron.numerics against ml_dtypes: nanoseconds an element, both in one run.

Run from the repository: python benchmarks/casts.py. Times are process CPU time, best of several.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from emuron.numerics.dtypes import DTYPES, DType
from emuron.numerics.rounding import round_to, widen

ELEMENTS = 1 << 16
REPEATS = 15
CALLS = 8


def ns_per_element(call: Callable[[], object]) -> float:
    """Return the least CPU time of a call per element, in nanoseconds."""
    call()
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time_ns()
        for _ in range(CALLS):
            call()
        best = min(best, (time.process_time_ns() - start) / CALLS)
    return best / ELEMENTS


def main() -> None:
    """Print one line for each format."""
    x = np.random.default_rng(0).standard_normal(ELEMENTS).astype(np.float32)
    print(f"{'ns per element':16}{'nearest':>9}{'library':>9}{'ratio':>7}{'stoch.':>8}", end="")
    print(f"{'widen':>8}{'library':>9}{'ratio':>7}")
    for to in DTYPES.values():
        if to.kind == "packed" or to == "float32":
            continue
        print(line_of(x, to))


def line_of(x: np.ndarray, to: DType) -> str:
    """Return the times of one format; the library is ml_dtypes or NumPy, if it has the format."""
    stored = round_to(x, to)
    nearest = ns_per_element(lambda: round_to(x, to))
    wide = ns_per_element(lambda: widen(stored, to))
    random = ns_per_element(lambda: round_to(x, to, rounding="stochastic")) if to.is_float else None
    stochastic = f"{random:8.2f}" if random is not None else f"{'-':>8}"
    if to == "tfloat32" or to.kind == "uint":
        return f"{to:16}{nearest:9.2f}{'-':>9}{'-':>7}{stochastic}{wide:8.2f}{'-':>9}{'-':>7}"
    library = ns_per_element(lambda: x.astype(to.np))
    library_wide = ns_per_element(lambda: stored.astype(np.float32))
    return (
        f"{to:16}{nearest:9.2f}{library:9.2f}{nearest / library:7.2f}{stochastic}"
        f"{wide:8.2f}{library_wide:9.2f}{wide / library_wide:7.2f}"
    )


if __name__ == "__main__":
    main()

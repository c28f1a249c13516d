"""The workloads: their arrays, what they must give, and how a run of one is measured."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

MATMUL_SIDE = 1024
SOFTMAX_SIDE = 4096
HEADS, SEQUENCE, WIDTH = 8, 2048, 64
SCALE = WIDTH**-0.5
TILE = 128  # rows of a result, and the step along a contraction
TILE_COLUMNS = (128, 512)  # of a product: as in the peers' own examples, and as NKI multiplies
SECONDS = 3.0  # of runs of which the best counts: two at least


@dataclass(frozen=True)
class Workload:
    """Arrays to work on, and the result in double precision with its tolerance.

    `kind` is matmul, softmax or attention, which takes `keys` at a time. In two passes, NKI kernels
    find all maxima first; others take the attention as it is.
    """

    kind: str
    arrays: tuple[Any, ...]
    expected: Any
    tolerance: float
    keys: int = 0


def _matmul(dtype: Any) -> Workload:
    random = np.random.default_rng(0)
    shape = (MATMUL_SIDE, MATMUL_SIDE)
    a, b = (random.standard_normal(shape, np.float32).astype(dtype) for _ in range(2))
    # One unit in the last place of bfloat16 below 256: some peers round towards zero.
    narrow = np.dtype(dtype).itemsize < 4
    return Workload("matmul", (a, b), a.astype(float) @ b.astype(float), 1.0 if narrow else 1e-3)


def _softmax() -> Workload:
    x = np.random.default_rng(0).standard_normal((SOFTMAX_SIDE, SOFTMAX_SIDE), np.float32)
    powers = np.exp(x.astype(float))
    return Workload("softmax", (x,), powers / powers.sum(axis=1, keepdims=True), 1e-7)


def _attention(keys: int, kind: str = "attention") -> Workload:
    random = np.random.default_rng(0)
    arrays = tuple(random.standard_normal((HEADS, SEQUENCE, WIDTH), np.float32) for _ in range(3))
    q, k, v = (array.astype(float) for array in arrays)
    powers = np.exp(SCALE * q @ k.transpose(0, 2, 1))
    expected = powers / powers.sum(axis=2, keepdims=True) @ v
    return Workload(kind, arrays, expected, 1e-5, keys)


WORKLOADS: Mapping[str, Callable[[], Workload]] = {
    "matmul float32": lambda: _matmul(np.float32),
    "matmul bfloat16": lambda: _matmul(ml_dtypes.bfloat16),
    "softmax": _softmax,
    "attention": lambda: _attention(128),
    "attention 512 keys": lambda: _attention(512),
    "attention, two passes": lambda: _attention(128, "attention_in_two_passes"),
}


def measure(work: Workload, run: Callable[[], Any]) -> float:
    """Return the processor seconds of the best run, after checking what the first returns."""
    difference = float(np.max(np.abs(np.asarray(run()).astype(float) - work.expected)))
    if not difference <= work.tolerance:
        raise SystemExit(f"{work.kind} is {difference:g} off, more than {work.tolerance:g}")
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < SECONDS:
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def main(prepare: Callable[[Workload], Mapping[str, Callable[[], Any]]]) -> None:
    """Print the seconds of the workload that the command names, for each way of `prepare`."""
    work = WORKLOADS[sys.argv[1]]()
    found = {way: measure(work, run) for way, run in prepare(work).items()}
    print(json.dumps(found))

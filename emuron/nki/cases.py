"""Cases: what a kernel file offers to be run, with the numbers it should give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emuron.errors import UsageError
from emuron.nki.arrays import ShapeDtype, to_numpy


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A named launch of a kernel: `emuron kernel run FILE` runs those that `cases()` returns.

    `args` are arrays, or `ShapeDtype`s for a case that is only timed. `expected`, called with the
    arguments, returns what the kernel should; the largest error, relative to the largest expected
    number, is at most `tolerance`.
    """

    name: str
    kernel: Callable[..., Any]
    args: tuple[Any, ...]
    expected: Callable[..., Any] | None = None
    tolerance: float = 1e-5

    @property
    def has_data(self) -> bool:
        """Whether the case can be executed, not only timed."""
        return not any(isinstance(arg, ShapeDtype) for arg in self.args)


def largest_error(found: Any, expected: Any) -> float:
    """Return the largest |found − expected| over the largest |expected|, over all outputs.

    A not-a-number on one side alone is an infinite error.
    """
    founds = found if isinstance(found, list | tuple) else (found,)
    wanted = expected if isinstance(expected, list | tuple) else (expected,)
    if len(founds) != len(wanted):
        raise UsageError(f"The kernel returns {len(founds)} tensors, the check {len(wanted)}.")
    return max(_error(a, b) for a, b in zip(founds, wanted, strict=True))


def _error(found: Any, expected: Any) -> float:
    a = to_numpy(found).astype(np.float64)
    b = to_numpy(np.asarray(expected)).astype(np.float64)
    if a.shape != b.shape:
        raise UsageError(f"The kernel returns shape {list(a.shape)}, the check {list(b.shape)}.")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(a - b))
    apart[np.isnan(apart)] = np.inf
    scale = float(np.max(np.abs(b), where=np.isfinite(b), initial=0.0)) or 1.0
    return float(apart.max(initial=0.0)) / scale

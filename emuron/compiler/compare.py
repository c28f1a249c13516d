"""How far two sets of outputs are apart: differing elements, ULP, largest difference, cosine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output against another one's; `exact` says that equal bits are expected.

    `ulp` is the largest distance in float32 units in the last place; `cosine` is of the flattened
    arrays.
    """

    output: str
    against: str
    elements: int
    differing: int
    ulp: int
    largest: float
    cosine: float
    exact: bool = False

    @property
    def passed(self) -> bool | None:
        """Whether the outputs are equal, where they have to be."""
        return self.differing == 0 if self.exact else None


def compare_outputs(
    against: str,
    outputs: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    *,
    exact: bool = False,
) -> list[Comparison]:
    """Return the comparison of every output that both have."""
    return [
        _compare(name, against, np.asarray(array), np.asarray(other[name]), exact)
        for name, array in outputs.items()
        if name in other
    ]


def _compare(name: str, against: str, a: np.ndarray, b: np.ndarray, exact: bool) -> Comparison:
    x, y = (v.astype(np.float32).reshape(-1) for v in (a, b))
    difference = np.abs(x.astype(np.float64) - y.astype(np.float64))
    norms = float(np.linalg.norm(x.astype(np.float64)) * np.linalg.norm(y.astype(np.float64)))
    cosine = float(x.astype(np.float64) @ y.astype(np.float64)) / norms if norms else 1.0
    return Comparison(
        name,
        against,
        int(x.size),
        int(np.count_nonzero(x != y)),
        int(np.abs(_ordered(x) - _ordered(y)).max(initial=0)),
        float(difference.max(initial=0.0)),
        cosine,
        exact,
    )


def _ordered(x: np.ndarray) -> np.ndarray:
    """Return float32 numbers as integers in which neighbours differ by one."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)

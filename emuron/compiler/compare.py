"""How far two sets of outputs are apart: differing elements, ULP, largest difference, cosine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emuron.numerics.dtypes import DType, dtype
from emuron.trace.report import Fidelity

BLAS_NOTE = "none: BLAS on this computer sums in another order"
"""The bound where `sums_in_order` is false: see emuron/numerics/matmul.py."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output against another one's; `exact` says that equal bits are expected.

    `ulp` is the largest distance in units in the last place, huge where a sign changes near zero;
    `largest` is the largest absolute difference, `largest_ulp` the same in units in the last place
    of the largest value; `cosine` is of the flattened arrays.
    """

    output: str
    against: str
    elements: int
    differing: int
    ulp: int
    largest: float
    largest_ulp: float
    cosine: float
    exact: bool = False

    @property
    def passed(self) -> bool | None:
        """Whether the bits are equal, where they have to be."""
        return self.differing == 0 if self.exact else None

    def row(self) -> Fidelity:
        """Return the comparison as a line of the report."""
        name = f"{self.output}: against {self.against}"
        if self.exact or self.against == "instruction":
            found = (
                f"{self.differing:,} of {self.elements:,} elements differ, largest {self.ulp} ULP"
            )
            return Fidelity(name, "bits", found, "0" if self.exact else BLAS_NOTE, self.passed)
        found = f"cosine {self.cosine:.6f}, off by {self.largest:.3g} at most, "
        found += f"{self.largest_ulp:,.0f} ULP of the largest value"
        return Fidelity(name, "difference", found, "none: what the casts round")


def compare_outputs(
    against: str,
    outputs: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    *,
    exact: bool = False,
) -> list[Comparison]:
    """Return the comparison of every output that both have; shapes and dtypes are the same."""
    return [
        _compare(name, against, np.asarray(array), np.asarray(other[name]), exact)
        for name, array in outputs.items()
        if name in other
    ]


def _compare(name: str, against: str, a: np.ndarray, b: np.ndarray, exact: bool) -> Comparison:
    bits_a, bits_b = _bits(a), _bits(b)
    x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    largest = float(np.abs(x - y).max(initial=0.0))
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    return Comparison(
        name,
        against,
        int(x.size),
        int(np.count_nonzero(bits_a != bits_b)),
        int(np.abs(_ordered(bits_a) - _ordered(bits_b)).max(initial=0)),
        largest,
        largest / _last_place(float(np.abs(y).max(initial=0.0)), dtype(b.dtype)),
        float(x @ y) / lengths if lengths else 1.0,
        exact,
    )


def _last_place(value: float, kind: DType) -> float:
    """Return the unit in the last place of a value of a dtype; 1 for integers."""
    if kind.kind != "float":
        return 1.0
    _, exponent = math.frexp(max(value, kind.smallest) if math.isfinite(value) else kind.max)
    return math.ldexp(1.0, exponent - 1 - kind.mantissa_bits)


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(f"i{array.dtype.itemsize}")


def _ordered(bits: np.ndarray) -> np.ndarray:
    """Return the bits of floating-point numbers as integers in which neighbours differ by one."""
    magnitude = bits.astype(np.int64) & np.iinfo(bits.dtype).max
    return np.where(bits < 0, -magnitude, magnitude)

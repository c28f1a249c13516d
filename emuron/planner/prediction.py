"""Predictions of measurements, and what sums up their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from emuron.errors import UsageError
from emuron.planner.measurements import Measurement


@dataclass(frozen=True, slots=True)
class Prediction:
    """A measurement and what emuron says of it, in the row's unit; None where it says nothing."""

    measurement: Measurement
    predicted: float | None
    note: str = ""

    @property
    def relative_error(self) -> float | None:
        """What the prediction exceeds the measurement by, as a share of the measurement."""
        if self.predicted is None:
            return None
        return self.predicted / self.measurement.value - 1


@dataclass(frozen=True, slots=True)
class Summary:
    """How far the predictions of a table are off; None where too few rows are predicted.

    Errors are absolute relative errors; `p90_abs_error` interpolates between rows. `spearman` is
    the rank correlation of predicted and measured.
    """

    rows: int
    predicted: int
    median_abs_error: float | None
    p90_abs_error: float | None
    spearman: float | None

    def __str__(self) -> str:
        """Return the summary as a sentence."""
        text = f"{self.predicted} of {self.rows} rows predicted"
        if self.median_abs_error is not None and self.p90_abs_error is not None:
            text += (
                f"; error: median {self.median_abs_error:.1%}, "
                f"90th percentile {self.p90_abs_error:.1%}"
            )
        if self.spearman is not None:
            text += f"; rank correlation {self.spearman:.3f}"
        return text + "."


def summarize(predictions: Iterable[Prediction]) -> Summary:
    """Return the summary of some predictions."""
    return error_summary([(p.predicted, p.measurement.value) for p in predictions])


def error_summary(rows: Sequence[tuple[float | None, float]]) -> Summary:
    """Return the summary of pairs of a prediction (None: there is none) and a measurement."""
    pairs = [(predicted, measured) for predicted, measured in rows if predicted is not None]
    errors = np.array([abs(predicted / measured - 1) for predicted, measured in pairs])
    return Summary(
        rows=len(rows),
        predicted=len(pairs),
        median_abs_error=float(np.median(errors)) if pairs else None,
        p90_abs_error=float(np.quantile(errors, 0.9)) if pairs else None,
        spearman=rank_correlation([p for p, _ in pairs], [m for _, m in pairs]),
    )


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Return Spearman's correlation, ties sharing their mean rank; None where a side is constant.

    Raises UsageError for sequences of different lengths.
    """
    if len(left) != len(right):
        raise UsageError(f"cannot correlate {len(left)} values with {len(right)}")
    if len(set(left)) < 2 or len(set(right)) < 2:
        return None
    x, y = _centred_ranks(left), _centred_ranks(right)
    return float(x @ y / math.sqrt(float(x @ x) * float(y @ y)))


def _centred_ranks(values: Sequence[float]) -> np.ndarray:
    _, inverse, counts = np.unique(np.array(values), return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    ranks: np.ndarray = mean_ranks[inverse] - (len(values) + 1) / 2
    return ranks

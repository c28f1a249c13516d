"""Predict published measurements and sum up the errors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from emuron.compiler.compile import compile_model
from emuron.compiler.frontends.zoo import open_model, zoo, zoo_name
from emuron.errors import EmuronError, UnknownNameError, UsageError
from emuron.hardware.catalog import instance as find_instance
from emuron.hardware.instance import Instance
from emuron.numerics.dtypes import DType, dtype
from emuron.planner.measurements import Measurement
from emuron.runtime.latency import Latency, Work, latency_of

_UNITS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "latency_p50": {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6},
        "throughput": {"inferences/s": 1.0, "1/s": 1.0},
    }
)
"""The metrics that are predicted, and their units in a second or per second."""

_PRECISIONS: Mapping[str, str] = MappingProxyType(
    {"": "float32", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
)
_DEFAULT_AUTOCAST = "matmult-bf16"
"""What compile_model does where nothing is said."""


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


@dataclass(frozen=True, slots=True)
class _Configuration:
    """What is compiled: a zoo model for one core of a chip."""

    model: str
    task: str
    chip: str
    batch: int
    sequence: int
    precision: DType
    autocast: str
    autocast_type: str


class Predictor:
    """Predicts measurements of encoders; compiles each configuration once."""

    def __init__(self) -> None:
        self._timed: dict[_Configuration, Work | EmuronError] = {}

    def predict(self, row: Measurement) -> Prediction:
        """Return the prediction of one row, or a note that says why there is none."""
        try:
            value, notes = self._predict(row)
        except EmuronError as error:
            return Prediction(row, None, str(error))
        return Prediction(row, value, "; ".join(notes))

    def latency(self, row: Measurement) -> Latency:
        """Return the parts of the latency predicted for a row's configuration.

        Raises an EmuronError that says why there is none.
        """
        target = _target(row)
        latency = latency_of(target, self._time(_configuration(row, target)[0], target))
        return latency if row.cores is None else replace(latency, workers=row.cores)

    def _predict(self, row: Measurement) -> tuple[float, list[str]]:
        target = _target(row)
        configuration, notes = _configuration(row, target)
        _check_metric(row)
        value = _value(row, self.latency(row), configuration.batch)
        return value, [*notes, *_doubts(row, target)]

    def _time(self, configuration: _Configuration, target: Instance) -> Work:
        if configuration not in self._timed:
            try:
                self._timed[configuration] = _compile(configuration, target)
            except EmuronError as error:
                self._timed[configuration] = error
        found = self._timed[configuration]
        if isinstance(found, EmuronError):
            raise found
        return found


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


def _target(row: Measurement) -> Instance:
    try:
        target = find_instance(row.instance)
    except UnknownNameError as error:
        raise UsageError(f"instance {row.instance!r} is not in the catalog") from error
    if target.chip.core.version == "v1":
        raise UsageError(f"{target.name} has NeuronCores-v1, whose instructions are not modelled")
    if row.cores is not None and row.cores > target.cores:
        raise UsageError(f"{row.cores} cores stated, but {target.name} has {target.cores}")
    return target


def _configuration(row: Measurement, target: Instance) -> tuple[_Configuration, list[str]]:
    """Return what to compile for a row, and notes on what was taken for granted."""
    _check_run_mode(row)
    model, notes = _model(row)
    batch, sequence = _shape(row)
    stated = row.dtype.lower()
    if stated not in _PRECISIONS:
        raise UsageError(f"model dtype {row.dtype!r} is not understood")
    if not row.autocast:
        notes.append(f"auto-cast not stated, {_DEFAULT_AUTOCAST} assumed")
    mode, _, cast = (row.autocast.lower() or _DEFAULT_AUTOCAST).partition("-")
    task = "masked_lm" if "MaskedLM" in row.task else "features"
    found = _Configuration(
        model,
        task,
        target.chip.name,
        batch,
        sequence,
        dtype(_PRECISIONS[stated]),
        mode,
        cast or "bf16",
    )
    return found, notes


def _check_run_mode(row: Measurement) -> None:
    if row.tensor_parallel is not None and row.tensor_parallel > 1:
        raise UsageError(f"tensor parallelism over {row.tensor_parallel} cores is not modelled yet")
    if row.run_mode.lower() not in ("", "data parallel"):
        raise UsageError(f"run mode {row.run_mode!r} is not modelled, only Data Parallel is")


def _model(row: Measurement) -> tuple[str, list[str]]:
    """Return the zoo's name of the model that a row means, and notes on how it was found."""
    named = re.search(r"\(([\w./-]+)\)\s*$", row.model)
    name = named[1] if named else row.model
    found = zoo_name(name) or _base_of(name)
    if found is None:
        task = f" (task: {row.task})" if row.task else ""
        raise UsageError(f"{name}{task} is not among the native models of the zoo")
    if zoo()[found].family != "encoder":
        raise UsageError(f"{found} generates text; only encoders are predicted so far")
    return found, [] if zoo_name(name) else [f"predicted as {found}, without a head"]


def _base_of(name: str) -> str | None:
    """Return the zoo model that a fine-tuned one is named after."""
    short = name.rsplit("/", 1)[-1].lower()
    bases = [known for known in zoo() if short.startswith(f"{known}-")]
    return max(bases, key=len, default=None)


def _shape(row: Measurement) -> tuple[int, int]:
    if row.batch is None or row.sequence is None:
        names = (("batch", row.batch), ("sequence length", row.sequence))
        missing = " and ".join(name for name, size in names if size is None)
        raise UsageError(f"no {missing} stated")
    return row.batch, row.sequence


def _check_metric(row: Measurement) -> None:
    if row.metric == "latency_p99":
        raise UsageError("no tail model: p99 is not predicted")
    if row.metric not in _UNITS:
        raise UsageError(f"metric {row.metric!r} is not predicted, only {' and '.join(_UNITS)} are")
    if row.unit not in _UNITS[row.metric]:
        known = ", ".join(_UNITS[row.metric])
        raise UsageError(f"unit {row.unit!r} of {row.metric} is unknown (known: {known})")
    if row.value <= 0:
        raise UsageError(f"a measured {row.metric} of {row.value:g} cannot be right")


def _compile(wanted: _Configuration, target: Instance) -> Work:
    compiled = compile_model(
        open_model(wanted.model, weights=False, dtype=wanted.precision),
        task=wanted.task,
        on=target.name,
        batch=wanted.batch,
        sequence=wanted.sequence,
        autocast=wanted.autocast,
        autocast_type=wanted.autocast_type,
    )
    return compiled.device.work(compiled.executable)


def _doubts(row: Measurement, target: Instance) -> list[str]:
    """Return what a prediction rests on that no measurement has calibrated or that is in doubt."""
    notes = []
    source = dict(target.sources).get("host.framework_launch_us", "")
    if not source.startswith("fitted: on rows"):
        notes.append(f"extrapolated: nothing was fitted on {target.family}")
    if "SUSPECT" in row.remark:
        notes.append("the table marks the row as suspect")
    return notes


def _value(row: Measurement, latency: Latency, batch: int) -> float:
    seconds = latency.total_us / 1e6
    rate = latency.throughput_per_s(batch)
    return (rate if row.metric == "throughput" else seconds) * _UNITS[row.metric][row.unit]

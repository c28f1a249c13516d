"""Rows of models that answer in one inference: latency, and throughput of an instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from emuron.compiler.compile import compile_model
from emuron.compiler.frontends.zoo import open_model
from emuron.errors import EmuronError, UsageError
from emuron.hardware.instance import Instance
from emuron.numerics.dtypes import DType, dtype
from emuron.planner.measurements import Measurement
from emuron.planner.rows import Units, autocast_of, check_metric, doubts, target_of, zoo_model
from emuron.runtime.latency import Latency, Work, latency_of

UNITS: Units = MappingProxyType(
    {
        "latency_p50": {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6},
        "throughput": {"inferences/s": 1.0, "1/s": 1.0},
    }
)
"""The metrics that are predicted, and their units in a second or per second."""

PRECISIONS: Mapping[str, str] = MappingProxyType(
    {"": "float32", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
)


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


class InferenceRows:
    """Predicts latency and throughput; compiles each configuration once."""

    def __init__(self) -> None:
        self._timed: dict[_Configuration, Work | EmuronError] = {}

    def latency(self, row: Measurement) -> Latency:
        """Return the parts of the latency predicted for a row's configuration.

        Raises an EmuronError that says why there is none.
        """
        target = target_of(row)
        latency = latency_of(target, self._time(_configuration(row, target)[0], target))
        return latency if row.cores is None else replace(latency, workers=row.cores)

    def predict(self, row: Measurement) -> tuple[float, list[str]]:
        """Return the prediction in the row's unit, and notes; raise EmuronError for none."""
        target = target_of(row)
        configuration, notes = _configuration(row, target)
        factor, latency = check_metric(row, UNITS), self.latency(row)
        rate = latency.throughput_per_s(configuration.batch)
        value = rate if row.metric == "throughput" else latency.total_us / 1e6
        return value * factor, [*notes, *doubts(row, target)]

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


def _configuration(row: Measurement, target: Instance) -> tuple[_Configuration, list[str]]:
    """Return what to compile for a row, and notes on what was taken for granted."""
    _check_run_mode(row)
    model, notes = zoo_model(row, ("encoder",))
    batch, sequence = _shape(row)
    stated = row.dtype.lower()
    if stated not in PRECISIONS:
        raise UsageError(f"model dtype {row.dtype!r} is not understood")
    mode, cast, more = autocast_of(row)
    notes += more
    task = "masked_lm" if "MaskedLM" in row.task else "features"
    found = _Configuration(
        model,
        task,
        target.chip.name,
        batch,
        sequence,
        dtype(PRECISIONS[stated]),
        mode,
        cast,
    )
    return found, notes


def _check_run_mode(row: Measurement) -> None:
    if row.tensor_parallel is not None and row.tensor_parallel > 1:
        raise UsageError(f"tensor parallelism over {row.tensor_parallel} cores is not modelled yet")
    if row.run_mode.lower() not in ("", "data parallel"):
        raise UsageError(f"run mode {row.run_mode!r} is not modelled, only Data Parallel is")


def _shape(row: Measurement) -> tuple[int, int]:
    if row.batch is None or row.sequence is None:
        names = (("batch", row.batch), ("sequence length", row.sequence))
        missing = " and ".join(name for name, size in names if size is None)
        raise UsageError(f"no {missing} stated")
    return row.batch, row.sequence


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

"""Rows of models that answer in one inference: latency, and throughput of an instance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType

from emuron.compiler.compile import compile_model
from emuron.compiler.frontends.zoo import open_model, zoo
from emuron.errors import EmuronError, UsageError
from emuron.hardware.instance import Instance
from emuron.numerics.dtypes import DType, dtype
from emuron.planner.measurements import Measurement
from emuron.planner.protocols import workers_of
from emuron.planner.rows import Units, autocast_of, check_metric, doubts, target_of, zoo_model
from emuron.runtime.device import Device
from emuron.runtime.latency import Latency, Work, latency_of

_SECONDS: Mapping[str, float] = MappingProxyType({"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6})
UNITS: Units = MappingProxyType(
    {
        "latency_p50": _SECONDS,
        "latency_p99": _SECONDS,
        "throughput": {"inferences/s": 1.0, "1/s": 1.0},
    }
)
"""The metrics that are predicted, and their units in a second or per second."""

PRECISIONS: Mapping[str, str] = MappingProxyType(
    {"": "float32", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
)
FAMILIES = ("encoder", "vision", "multimodal", "diffusion", "speech")
"""Families of the zoo that answer in one inference, or in a fixed number of them."""

_SEQUENCES = ("encoder",)
"""Families whose rows must state a sequence length."""

_TEXT_TOKENS = 9
"""Tokens of the texts beside images where a row states none: the longest label of CLIP's public
sample, "a photo of a lawn_mower", to which the others are padded."""

_Works = tuple[tuple[Work, int], ...]  # of each part of a model, and how often it runs


@dataclass(frozen=True, slots=True)
class _Configuration:
    """What is compiled: a zoo model for one core of a chip; "" as task is all of its parts."""

    model: str
    task: str
    chip: str
    batch: int
    sequence: int
    precision: DType
    autocast: str
    autocast_type: str
    sharing: int  # cores that use one HBM stack at a time


class InferenceRows:
    """Predicts latency and throughput; compiles each configuration once."""

    def __init__(self) -> None:
        self._timed: dict[_Configuration, _Works | EmuronError] = {}

    def latency(self, row: Measurement) -> Latency:
        """Return the parts of the latency predicted for a row's configuration.

        Raises an EmuronError that says why there is none.
        """
        target = target_of(row)
        wanted = _configuration(row, target)[0]
        found = Latency.in_turn((latency_of(target, w), n) for w, n in self._time(wanted, target))
        return found.shared(workers_of(row, wanted.model, target), row.cores or target.cores)

    def predict(self, row: Measurement) -> tuple[float, list[str]]:
        """Return the prediction in the row's unit, and notes; raise EmuronError for none."""
        target = target_of(row)
        configuration, notes = _configuration(row, target)
        factor, latency = check_metric(row, UNITS), self.latency(row)
        values = {
            "latency_p50": latency.total_us / 1e6,
            "latency_p99": latency.p99_us / 1e6,
            "throughput": latency.throughput_per_s(configuration.batch),
        }
        return values[row.metric] * factor, [*notes, *doubts(row, target)]

    def _time(self, configuration: _Configuration, target: Instance) -> _Works:
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
    model, notes = zoo_model(row, FAMILIES)
    model = _of_image(model, row.image)
    batch, sequence = _shape(row, model)
    stated = row.dtype.lower()
    if stated not in PRECISIONS:
        raise UsageError(f"model dtype {row.dtype!r} is not understood")
    mode, cast, more = autocast_of(row)
    notes += more
    if zoo()[model].family == "multimodal" and row.sequence is None:
        notes.append(f"texts not stated, the zoo's number of {_TEXT_TOKENS} tokens assumed")
    task = "masked_lm" if "MaskedLM" in row.task else ""
    found = _Configuration(
        model,
        task,
        target.chip.name,
        batch,
        sequence,
        dtype(PRECISIONS[stated]),
        mode,
        cast,
        _sharing(row, model, target),
    )
    return found, notes


def _sharing(row: Measurement, model: str, target: Instance) -> int:
    """Return how many cores use one HBM stack at a time, given the workers of a row."""
    workers = min(workers_of(row, model, target), row.cores or target.cores)
    return target.chip.sharing(min(target.chip.cores, ceil(workers / target.chips)))


def _of_image(model: str, image: str) -> str:
    """Return the zoo's variant of a model for the size of image that a row states, if it has one.

    Variants are named by the size: pixart-alpha-512 and pixart-alpha-256.
    """
    size = re.fullmatch(r"(\d+)x\1", image)
    variant = re.sub(r"-\d+$", f"-{size[1]}", model) if size else model
    return variant if variant in zoo() else model


def _check_run_mode(row: Measurement) -> None:
    if row.tensor_parallel is not None and row.tensor_parallel > 1:
        raise UsageError(f"tensor parallelism over {row.tensor_parallel} cores is not modelled yet")
    if row.run_mode.lower() not in ("", "data parallel"):
        raise UsageError(f"run mode {row.run_mode!r} is not modelled, only Data Parallel is")


def _shape(row: Measurement, model: str) -> tuple[int, int]:
    """Return batch and sequence length; raise UsageError for what the row has to state."""
    needs = {"batch": row.batch}
    if zoo()[model].family in _SEQUENCES:
        needs["sequence length"] = row.sequence
    missing = " and ".join(name for name, size in needs.items() if size is None)
    if missing or row.batch is None:
        raise UsageError(f"no {missing} stated")
    return row.batch, row.sequence or _TEXT_TOKENS


def _compile(wanted: _Configuration, target: Instance) -> _Works:
    model = open_model(wanted.model, weights=False, dtype=wanted.precision)
    parts = ((wanted.task, 1),) if wanted.task else model.parts
    works = []
    for task, runs in parts:
        compiled = compile_model(
            model,
            task=task,
            on=target.name,
            batch=wanted.batch,
            sequence=wanted.sequence,
            autocast=wanted.autocast,
            autocast_type=wanted.autocast_type,
        )
        device = Device(target, sharing=wanted.sharing)
        works.append((device.work(compiled.executable), runs))
    return tuple(works)

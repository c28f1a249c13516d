"""Rows of models that generate text: time to the first token, time per token, tokens per second."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.frontends.hf_bert import BertConfig
from emuron.compiler.frontends.zoo import open_model
from emuron.compiler.ops import Autocast
from emuron.errors import UsageError
from emuron.hardware.instance import Instance
from emuron.numerics.dtypes import DType, dtype
from emuron.planner.inference_rows import PRECISIONS
from emuron.planner.measurements import Measurement
from emuron.planner.rows import Units, autocast_of, check_metric, doubts, target_of, zoo_model
from emuron.serving.buckets import SMALLEST_TOKEN_BUCKET, pick, powers_of_two
from emuron.serving.compiled_steps import CompiledSteps
from emuron.serving.step_timer import ModelStepTimer

_SECONDS = MappingProxyType({"s": 1.0, "ms": 1e3, "us": 1e6})
_RATE = MappingProxyType({"tokens/s": 1.0})
UNITS: Units = MappingProxyType(
    {
        **dict.fromkeys(("ttft_p50", "ttft_batch"), _SECONDS),
        **dict.fromkeys(("tpot_p50", "itl_mean", "e2el"), _SECONDS),
        "token_throughput": _RATE,
        "latency_per_prompt_and_output_token_p50": _SECONDS,
        "latency_per_total_token_p50": _SECONDS,
        "prompt_and_output_token_throughput": _RATE,
        "total_token_throughput": _RATE,
    }
)
"""The metrics that are predicted, and their units in a second or per second.

Those of prompt and output tokens, or of total tokens, count both (features.md, "A trap in the
data").
"""


_POSITIONS = 1 << 20
"""Longest context: tables go beyond the checkpoints' positions, on which only angles depend."""


@dataclass(frozen=True, slots=True)
class _Configuration:
    """A model as it serves: on so many cores, with one static batch."""

    model: str
    instance: str
    tp: int
    batch: int
    precision: DType
    autocast: Autocast


@dataclass(frozen=True)
class Generation:
    """The steps of answering a batch of prompts of `prompt` tokens with `output` tokens each.

    Prompts are padded to the next bucket and read in one graph; each step reads the cache up to
    the next bucket of its position. Buckets are powers of two, the longest sequence the last, as
    Transformers NeuronX makes them.
    """

    timer: ModelStepTimer
    batch: int
    prompt: int
    output: int
    sequence: int

    @cached_property
    def first_s(self) -> float:
        """Time to the first token of all prompts."""
        return self.timer.step_seconds("prefill", self.batch, pick(self._buckets, self.prompt), 0)

    @cached_property
    def steps_s(self) -> list[float]:
        """Time of each token after the first."""
        lengths = range(self.prompt + 1, self.prompt + self.output)
        contexts = [pick(self._buckets, n) for n in lengths]
        return [self.timer.step_seconds("decode", self.batch, 1, c) for c in contexts]

    @property
    def total_s(self) -> float:
        """Time of the whole answer."""
        return self.first_s + sum(self.steps_s)

    def value(self, metric: str) -> float:
        """Return a metric of UNITS, in seconds or tokens per second."""
        if metric.startswith("ttft"):
            return self.first_s
        if metric in ("tpot_p50", "itl_mean"):
            steps = self.steps_s or [self.first_s]
            return statistics.median(steps) if metric == "tpot_p50" else statistics.fmean(steps)
        if metric == "e2el":
            return self.total_s
        tokens = self.output if metric == "token_throughput" else self.prompt + self.output
        if metric.startswith("latency_per"):
            return self.total_s / tokens
        return self.batch * tokens / self.total_s

    @property
    def _buckets(self) -> tuple[int, ...]:
        return powers_of_two(min(SMALLEST_TOKEN_BUCKET, self.sequence), self.sequence)


class GenerationRows:
    """Predicts rows of decoders; compiles and times each bucket once."""

    def __init__(self) -> None:
        self._timers: dict[_Configuration, ModelStepTimer] = {}

    def predict(self, row: Measurement) -> tuple[float, list[str]]:
        """Return the prediction in the row's unit, and notes; raise EmuronError for none."""
        factor, target = check_metric(row, UNITS), target_of(row)
        wanted, notes = _configuration(row, target)
        prompt, output = row.input_tokens, row.output_tokens
        if row.sequence is None or prompt is None or output is None:
            raise UsageError("no sequence length, or no number of prompt and output tokens stated")
        if prompt + output > row.sequence:
            raise UsageError(
                f"{prompt} prompt and {output} output tokens exceed the sequence of {row.sequence}"
            )
        if wanted not in self._timers:
            self._timers[wanted] = ModelStepTimer(_steps(wanted, target))
        timer = self._timers[wanted]
        made = Generation(timer, wanted.batch, prompt, output, row.sequence)
        return made.value(row.metric) * factor, [*notes, *doubts(row, target)]


def _configuration(row: Measurement, target: Instance) -> tuple[_Configuration, list[str]]:
    model, notes = zoo_model(row, ("decoder",))
    if row.run_mode.lower() not in ("", "tensor parallel"):
        raise UsageError(f"run mode {row.run_mode!r} of a decoder is not modelled")
    if row.batch is None:
        raise UsageError("no batch stated")
    stated = row.dtype.lower()
    if stated not in PRECISIONS:
        raise UsageError(f"model dtype {row.dtype!r} is not understood")
    mode, cast, more = autocast_of(row)
    notes += more
    if row.weight_dtype not in ("", "bf16"):
        notes.append(f"weights in {row.weight_dtype} predicted as bf16")
    # The tables' FP16 checkpoints are served in bfloat16 (their column weight_dtype).
    stored = "bfloat16" if row.weight_dtype or stated == "fp16" else PRECISIONS[stated]
    tp = row.tensor_parallel or 1
    configuration = _Configuration(
        *(model, target.name, tp, row.batch),
        dtype(stored),
        Autocast(mode, cast),  # type: ignore[arg-type]
    )
    return configuration, notes


def _steps(wanted: _Configuration, target: Instance) -> CompiledSteps:
    model = open_model(wanted.model, weights=False, dtype=wanted.precision)
    if not isinstance(model, HFModel) or isinstance(model.config, BertConfig):
        raise UsageError(f"{wanted.model} has no native decoder, which its steps are timed with")
    config = replace(model.config, positions=_POSITIONS)
    return CompiledSteps(target, replace(model, config=config), wanted.autocast, wanted.tp)

"""What a client asks of the engine, and what comes back: parameters, requests, tokens, outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from emuron.errors import UsageError

MAX_CHOICES = 128  # OpenAI's limit on `n`
MAX_LOGPROBS = 20  # OpenAI's limit on `top_logprobs`, vLLM's default `--max-logprobs`

_GREEDY_BELOW = 1e-5  # vLLM's _SAMPLING_EPS

# name -> (lowest, highest, whether the lowest is allowed), as OpenAI and vLLM have them
_RANGES: Mapping[str, tuple[float, float, bool]] = {
    "presence_penalty": (-2.0, 2.0, True),
    "frequency_penalty": (-2.0, 2.0, True),
    "repetition_penalty": (0.0, math.inf, False),
    "temperature": (0.0, math.inf, True),
    "top_p": (0.0, 1.0, False),
    "min_p": (0.0, 1.0, True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the tokens of one request are chosen; names and meanings are vLLM's.

    `top_k` of 0 or -1 considers every token; `temperature` of 0 is greedy. `logprobs` is the
    number of alternatives reported beside the chosen token. Raises UsageError on a bad value.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a value that no sampler can honour."""
        for name, (low, high, inclusive) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high, inclusive)
        _check_integer("n", self.n, 1, MAX_CHOICES)
        _check_integer("min_tokens", self.min_tokens, 0, None)
        _check_integer("top_k", self.top_k, -1, None)
        if self.max_tokens is not None:
            _check_integer("max_tokens", self.max_tokens, 1, None)
            if self.min_tokens > self.max_tokens:
                raise UsageError(
                    f"min_tokens must not exceed max_tokens={self.max_tokens}, "
                    f"got {self.min_tokens}"
                )
        if self.logprobs is not None:
            _check_integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if self.seed is not None:
            _check_integer("seed", self.seed, -(2**63), 2**63 - 1)
        if any(not text for text in self.stop):
            raise UsageError("stop must not contain an empty string")
        for token_id, bias in self.logit_bias:
            _check_number(f"logit_bias[{token_id}]", bias, -100.0, 100.0, True)
        if self.allowed_token_ids is not None and not self.allowed_token_ids:
            raise UsageError("allowed_token_ids must not be empty; leave it out to allow all")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature < _GREEDY_BELOW or self.top_k == 1


def _check_number(name: str, value: object, low: float, high: float, inclusive: bool) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if good:
        number = float(value)  # type: ignore[arg-type]
        good = math.isfinite(number) and number <= high
        good = good and (number >= low if inclusive else number > low)
    if not good:
        bracket = "[" if inclusive else "("
        upper = "infinity)" if math.isinf(high) else f"{high:g}]"
        raise UsageError(f"{name} must be a number in {bracket}{low:g}, {upper}, got {value!r}")


def _check_integer(name: str, value: object, low: int, high: int | None) -> None:
    good = isinstance(value, int) and not isinstance(value, bool)
    if good and low <= value and (high is None or value <= high):  # type: ignore[operator]
        return
    limit = f"at least {low}" if high is None else f"between {low} and {high}"
    raise UsageError(f"{name} must be an integer {limit}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to continue once. `arrival_ps` is on the engine's clock; `seed` is resolved."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    arrival_ps: int
    seed: int


class SampledToken(NamedTuple):
    """A chosen token, its log probability and the likeliest alternatives (id, log probability)."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class RequestTimes:
    """The moments of one request on the engine's clock, in picoseconds; None before it happens."""

    arrival_ps: int
    scheduled_ps: int | None = None
    first_token_ps: int | None = None
    last_token_ps: int | None = None
    finished_ps: int | None = None
    preemptions: int = 0

    @property
    def time_to_first_token_s(self) -> float | None:
        """Seconds from arrival to the first token."""
        return (
            None if self.first_token_ps is None else _seconds(self.arrival_ps, self.first_token_ps)
        )

    @property
    def end_to_end_s(self) -> float | None:
        """Seconds from arrival to the last token."""
        return None if self.finished_ps is None else _seconds(self.arrival_ps, self.finished_ps)


def _seconds(start_ps: int, end_ps: int) -> float:
    return (end_ps - start_ps) / 1e12


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """What one step added to one request.

    `text` is what became certain since the last output; `finish_reason` is None while the request
    runs, then "stop", "length" or "abort"; `stop_reason` is the stop string or token id that hit.
    """

    request_id: str
    tokens: tuple[SampledToken, ...]
    text: str = ""
    finish_reason: str | None = None
    stop_reason: str | int | None = None

    @property
    def finished(self) -> bool:
        """Whether no more output will come."""
        return self.finish_reason is not None


@dataclass(frozen=True, slots=True)
class Completion:
    """The whole answer to one request, as `LLMEngine.run` returns it."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    times: RequestTimes = field(compare=False)

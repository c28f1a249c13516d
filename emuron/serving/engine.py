"""The language-model engine: one loop of schedule, run, deliver, whatever the clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Protocol

from emuron.compiler.frontends.tokenizer import Tokenizer
from emuron.errors import UsageError
from emuron.serving.clock import PS_PER_S, Clock, VirtualClock
from emuron.serving.detokenizer import Detokenizer
from emuron.serving.request import (
    Completion,
    Request,
    RequestOutput,
    SampledToken,
    SamplingParams,
)
from emuron.serving.runner import TokenSource
from emuron.serving.scheduler import Scheduler, SchedulerConfig
from emuron.serving.sequence import Sequence, StepPlan
from emuron.serving.step_timer import StepTimer

_UNSEEDED = 1 << 63  # keeps the seeds that the engine draws apart from those that users give


@dataclass(frozen=True, slots=True)
class StepReport:
    """One finished step; times in picoseconds, before the sequences' own times are updated."""

    plan: StepPlan
    start_ps: int
    end_ps: int
    preemptions: int


class EngineObserver(Protocol):
    """Whoever counts what the engine does."""

    def on_step(self, report: StepReport) -> None:
        """Take note of a step."""

    def on_finish(self, sequence: Sequence, reason: str) -> None:
        """Take note that a request has ended."""


class LLMEngine:
    """Serves requests: `add_request`, then `step` until nothing is unfinished."""

    def __init__(
        self,
        config: SchedulerConfig,
        source: TokenSource,
        timer: StepTimer,
        *,
        clock: Clock | None = None,
        tokenizer: Tokenizer | None = None,
        eos_token_ids: Ordered[int] = (),
        seed: int = 0,
        observer: EngineObserver | None = None,
    ) -> None:
        """Start idle, on a virtual clock unless another is given."""
        self.scheduler = Scheduler(config)
        self.clock: Clock = VirtualClock() if clock is None else clock
        self.source = source
        self.timer = timer
        self.tokenizer = tokenizer
        self.observer = observer
        self._eos = frozenset(eos_token_ids)
        self._seed = seed
        self._ordinal = 0
        self._sequences: dict[str, Sequence] = {}
        self._future: list[tuple[int, int, Sequence]] = []  # a heap by arrival

    @property
    def has_unfinished_requests(self) -> bool:
        """Whether some request waits, runs or is still to arrive."""
        return bool(self._sequences)

    def check_request(self, num_prompt_tokens: int, params: SamplingParams) -> None:
        """Raise PromptTooLongError or UsageError for a request that `add_request` would refuse."""
        self.scheduler.check_prompt(num_prompt_tokens, params.max_tokens)
        self.source.check(params)
        if params.stop and self.tokenizer is None:
            raise UsageError("stop strings need a tokenizer, and this engine has none")

    def add_request(
        self,
        request_id: str,
        prompt_token_ids: Ordered[int],
        params: SamplingParams,
        *,
        arrival_ps: int | None = None,
    ) -> None:
        """Queue a request; with `arrival_ps` it arrives at that moment of the engine's clock."""
        if request_id in self._sequences:
            raise UsageError(f"a request named {request_id!r} is already under way")
        self.check_request(len(prompt_token_ids), params)
        self._check_vocabulary(prompt_token_ids)
        now_ps = self.clock.now_ps()
        moment_ps = now_ps if arrival_ps is None else arrival_ps
        request = Request(
            request_id, tuple(prompt_token_ids), params, moment_ps, self._resolve_seed(params)
        )
        sequence = Sequence(
            request, self.scheduler.config.max_model_len, self._detokenizer(request)
        )
        self._sequences[request_id] = sequence
        self._ordinal += 1
        if moment_ps > now_ps:
            heapq.heappush(self._future, (moment_ps, self._ordinal, sequence))
        else:
            self.scheduler.add(sequence)

    def abort(self, request_id: str) -> bool:
        """End a request and free its blocks; return whether it was under way."""
        sequence = self._sequences.get(request_id)
        if sequence is None:
            return False
        self._future = [entry for entry in self._future if entry[2] is not sequence]
        heapq.heapify(self._future)
        self._finish(sequence, "abort", self.clock.now_ps())
        return True

    def step(self) -> list[RequestOutput]:
        """Do one step and return what it added; with nothing to run, wait for the next arrival."""
        start_ps = self.clock.now_ps()
        self._admit(start_ps)
        if not self.scheduler.has_work:
            if self._future:
                self.clock.wait_until(self._future[0][0])
            return []
        preempted = self.scheduler.num_preemptions
        plan = self.scheduler.schedule(self._max_steps())
        if plan is None:
            return []
        step_ps = self._step_ps(plan)
        plan = self._until_next_arrival(plan, start_ps, step_ps)
        for sequence in plan.sequences:
            if sequence.times.scheduled_ps is None:
                sequence.times.scheduled_ps = start_ps
        sampled = self.source.run(plan, self.scheduler.kv)
        end_ps = self.clock.finish_step(start_ps, step_ps * plan.steps)
        if self.observer is not None:
            preemptions = self.scheduler.num_preemptions - preempted
            self.observer.on_step(StepReport(plan, start_ps, end_ps, preemptions))
        return self._deliver(plan, sampled, end_ps)

    def run(self, prompts: Iterable[tuple[Ordered[int], SamplingParams]]) -> list[Completion]:
        """Serve all prompts, present from the start, and return their answers in order."""
        names = []
        for prompt_token_ids, params in prompts:
            names.append(f"run-{self._ordinal}")
            self.add_request(names[-1], prompt_token_ids, params)
        sequences = {name: self._sequences[name] for name in names}
        texts = dict.fromkeys(names, "")
        reasons: dict[str, str] = {}
        while len(reasons) < len(names):
            for output in self.step():
                if output.request_id in sequences:
                    texts[output.request_id] += output.text
                    if output.finish_reason is not None:
                        reasons[output.request_id] = output.finish_reason
        return [_completion(sequences[name], texts[name], reasons[name]) for name in names]

    def _admit(self, now_ps: int) -> None:
        while self._future and self._future[0][0] <= now_ps:
            self.scheduler.add(heapq.heappop(self._future)[2])

    def _max_steps(self) -> int:
        """Several decodes may be done at once only where nobody watches the time pass."""
        return self.source.max_steps if isinstance(self.clock, VirtualClock) else 1

    def _step_ps(self, plan: StepPlan) -> int:
        seconds = self.timer.step_seconds(
            plan.kind, plan.batch_bucket, plan.token_bucket, plan.context
        )
        return round(seconds * PS_PER_S)

    def _until_next_arrival(self, plan: StepPlan, start_ps: int, step_ps: int) -> StepPlan:
        """Cut a plan of several steps so that a request that arrives meanwhile is seen in time."""
        if plan.steps == 1 or not self._future or not step_ps:
            return plan
        steps = -(-(self._future[0][0] - start_ps) // step_ps)
        return plan if steps >= plan.steps else self.scheduler.shorten(plan, steps)

    def _deliver(
        self, plan: StepPlan, sampled: Ordered[Ordered[SampledToken]], end_ps: int
    ) -> list[RequestOutput]:
        outputs = []
        for sequence, tokens in zip(plan.sequences, sampled, strict=True):
            times = sequence.times
            if times.first_token_ps is None:
                times.first_token_ps = end_ps
            times.last_token_ps = end_ps
            outputs.append(self._take(sequence, tokens, end_ps))
        return outputs

    def _take(
        self, sequence: Sequence, tokens: Ordered[SampledToken], end_ps: int
    ) -> RequestOutput:
        """Append tokens until one ends the request, and return what became certain."""
        reason: str | None = None
        stop: str | int | None = None
        count = 0
        for token in tokens:
            count += 1
            reason, stop = self._append(sequence, token.token_id)
            if reason is not None:
                break
        text = ""
        if sequence.detokenizer is not None:
            if reason == "length":
                sequence.detokenizer.flush()
            text = sequence.detokenizer.take(finished=reason is not None)
        if reason is not None:
            self._finish(sequence, reason, end_ps)
        return RequestOutput(sequence.request_id, tuple(tokens[:count]), text, reason, stop)

    def _append(self, sequence: Sequence, token_id: int) -> tuple[str | None, str | int | None]:
        """Add one token; return why the request ends with it, if it does."""
        params = sequence.request.params
        sequence.output_token_ids.append(token_id)
        sequence.remaining -= 1
        if len(sequence.output_token_ids) > params.min_tokens:
            if token_id in self._eos and not params.ignore_eos:
                return "stop", None
            if token_id in params.stop_token_ids:
                return "stop", token_id
        if sequence.detokenizer is not None:
            stop = sequence.detokenizer.push(token_id)
            if stop is not None:
                return "stop", stop
        return ("length", None) if sequence.remaining <= 0 else (None, None)

    def _finish(self, sequence: Sequence, reason: str, now_ps: int) -> None:
        sequence.times.finished_ps = now_ps
        self.scheduler.finish(sequence)
        del self._sequences[sequence.request_id]
        if self.observer is not None:
            self.observer.on_finish(sequence, reason)

    def _detokenizer(self, request: Request) -> Detokenizer | None:
        if self.tokenizer is None:
            return None
        params = request.params
        return Detokenizer(
            self.tokenizer,
            request.prompt_token_ids,
            stop=params.stop,
            min_tokens=params.min_tokens,
            include_stop=params.include_stop_str_in_output,
            skip_special_tokens=params.skip_special_tokens,
        )

    def _check_vocabulary(self, token_ids: Ordered[int]) -> None:
        if min(token_ids) < 0 or max(token_ids) >= self.source.vocab_size:
            bad = next(t for t in token_ids if not 0 <= t < self.source.vocab_size)
            raise UsageError(
                f"the prompt holds token {bad}, but this model has tokens 0 to "
                f"{self.source.vocab_size - 1}"
            )

    def _resolve_seed(self, params: SamplingParams) -> int:
        if params.seed is not None:
            return params.seed
        return _UNSEEDED + (self._seed << 32) + self._ordinal


def _completion(sequence: Sequence, text: str, reason: str) -> Completion:
    return Completion(
        sequence.request_id,
        sequence.request.prompt_token_ids,
        tuple(sequence.output_token_ids),
        text,
        reason,
        sequence.times,
    )

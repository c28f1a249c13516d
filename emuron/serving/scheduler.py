"""Who runs next: the queues, the blocks and the limits that every policy works within."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from emuron.errors import CapacityError, PromptTooLongError, UsageError
from emuron.serving.buckets import Buckets
from emuron.serving.kv_cache import DEFAULT_BLOCK_SIZE, KVCacheManager
from emuron.serving.policies.registry import Policy, make_policy
from emuron.serving.sequence import Sequence, StepPlan


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The limits of an engine; `buckets` None means the default powers of two.

    `num_blocks` None gives every one of `max_num_seqs` sequences room for `max_model_len` tokens.
    """

    max_model_len: int
    max_num_seqs: int = 4
    block_size: int = DEFAULT_BLOCK_SIZE
    num_blocks: int | None = None
    buckets: Buckets | None = None
    policy: str = "continuous"

    def __post_init__(self) -> None:
        """Refuse limits under which some request could never finish."""
        for name in ("max_model_len", "max_num_seqs", "block_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if self.num_blocks is not None and self.num_blocks < self.blocks_per_sequence:
            raise CapacityError(
                f"KV cache: one sequence of max_model_len={self.max_model_len} tokens needs "
                f"{self.blocks_per_sequence} blocks of {self.block_size}, but there are only "
                f"{self.num_blocks}; lower --max-model-len or raise --num-blocks"
            )
        buckets = self.resolved_buckets
        for name, largest, limit in (
            ("prefill", buckets.prefill[-1], self.max_model_len),
            ("context", buckets.context[-1], self.max_model_len),
            ("decode_batch", buckets.decode_batch[-1], self.max_num_seqs),
        ):
            if largest != limit:
                raise UsageError(f"the last {name} bucket must be {limit}, got {largest}")

    @property
    def blocks_per_sequence(self) -> int:
        """Blocks that the longest sequence needs."""
        return -(-self.max_model_len // self.block_size)

    @property
    def total_blocks(self) -> int:
        """Blocks of the whole KV cache."""
        return self.num_blocks or self.blocks_per_sequence * self.max_num_seqs

    @property
    def resolved_buckets(self) -> Buckets:
        """The buckets in use."""
        return self.buckets or Buckets.powers(self.max_model_len, self.max_num_seqs)


class Scheduler:
    """Keeps the waiting and the running sequences; the policy picks the next step."""

    def __init__(self, config: SchedulerConfig) -> None:
        """Start with nothing to do."""
        self.config = config
        self.buckets = config.resolved_buckets
        self.kv = KVCacheManager(config.total_blocks, config.block_size)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self._policy: Policy = make_policy(config.policy)

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self.waiting or self.running)

    def check_prompt(self, num_tokens: int, max_tokens: int | None) -> None:
        """Raise PromptTooLongError when a request can never fit the context window."""
        limit = self.config.max_model_len
        if num_tokens < 1:
            raise UsageError("the prompt must hold at least one token")
        wanted = num_tokens + (1 if max_tokens is None else max_tokens)
        if wanted > limit:
            asked = "" if max_tokens is None else f" and asks for {max_tokens} more"
            total = "" if max_tokens is None else f" ({wanted} in all)"
            raise PromptTooLongError(
                f"this model's maximum context length is {limit} tokens, but the prompt has "
                f"{num_tokens} tokens{asked}{total}; shorten the prompt or max_tokens"
            )

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind the others."""
        self.waiting.append(sequence)

    def schedule(self, max_steps: int = 1) -> StepPlan | None:
        """Return the next step, its blocks allocated; None when nothing can run.

        A decode plan may stand for up to `max_steps` equal steps.
        """
        return self._policy.plan(self, max_steps)

    def shorten(self, plan: StepPlan, steps: int) -> StepPlan:
        """Return a decode plan cut to `steps` steps, giving back the blocks of the others."""
        for sequence in plan.sequences:
            self.kv.trim(sequence.request_id, sequence.num_tokens + steps - 1)
        return replace(plan, steps=steps)

    def start(self, sequence: Sequence) -> None:
        """Move the head of the waiting queue to the running ones and give it its blocks."""
        self.kv.allocate(sequence.request_id, sequence.num_tokens)
        self.waiting.remove(sequence)
        self.running.append(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Take a running sequence's blocks away; it will be computed anew, first in the queue."""
        self.running.remove(sequence)
        self.kv.free(sequence.request_id)
        sequence.times.preemptions += 1
        self.num_preemptions += 1
        self.waiting.appendleft(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Forget a sequence, running or waiting, and free its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self.kv.free(sequence.request_id)

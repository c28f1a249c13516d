"""Continuous batching over static buckets, as vLLM schedules on Neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emuron.serving.buckets import pick
from emuron.serving.policies.registry import policy
from emuron.serving.sequence import Sequence, StepPlan

if TYPE_CHECKING:
    from emuron.serving.scheduler import Scheduler


@policy("continuous")
class ContinuousBatching:
    """One prefill a step, before any decode; never both in one step; first come, first served.

    A prefill waits while `max_num_seqs` sequences run or its blocks are not free. When a decode
    runs out of blocks, the youngest running sequence is preempted and later computed anew.
    """

    def plan(self, scheduler: Scheduler, max_steps: int) -> StepPlan | None:
        """Return a prefill of the oldest waiting sequence if it fits, else a decode of all."""
        head = scheduler.waiting[0] if scheduler.waiting else None
        if (
            head is not None
            and len(scheduler.running) < scheduler.config.max_num_seqs
            and scheduler.kv.can_allocate(head.num_tokens)
        ):
            scheduler.start(head)
            bucket = pick(scheduler.buckets.prefill, head.num_tokens)
            return StepPlan("prefill", (head,), 1, bucket, 0)
        return self._decode(scheduler, max_steps) if scheduler.running else None

    def _decode(self, scheduler: Scheduler, max_steps: int) -> StepPlan:
        index = 0
        while index < len(scheduler.running):
            sequence = scheduler.running[index]
            if scheduler.kv.append(sequence.request_id, sequence.num_tokens):
                index += 1
            else:
                scheduler.preempt(scheduler.running[-1])
        running = tuple(scheduler.running)
        longest = max(sequence.num_tokens for sequence in running)
        context = pick(scheduler.buckets.context, longest)
        steps = 1
        if max_steps > 1:
            steps = min(max_steps, context - longest + 1, min(s.remaining for s in running))
            steps = _reserve(scheduler, running, steps)
        batch = pick(scheduler.buckets.decode_batch, len(running))
        return StepPlan("decode", running, batch, 1, context, steps)


def _reserve(scheduler: Scheduler, running: tuple[Sequence, ...], steps: int) -> int:
    """Take the blocks of as many of the coming steps as can run without preemption."""
    kv = scheduler.kv
    while steps > 1 and kv.num_free < sum(
        kv.missing_blocks(s.request_id, s.num_tokens + steps - 1) for s in running
    ):
        steps //= 2
    for sequence in running:
        kv.append(sequence.request_id, sequence.num_tokens + steps - 1)
    return steps

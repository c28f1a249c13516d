"""What every schedule must keep to."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.errors import CapacityError, UnknownNameError, UsageError
from emuron.serving.buckets import Buckets
from emuron.serving.engine import LLMEngine, StepReport
from emuron.serving.request import SamplingParams
from emuron.serving.runner import SyntheticTokenSource
from emuron.serving.scheduler import Scheduler, SchedulerConfig
from emuron.serving.sequence import Sequence
from emuron.serving.step_timer import ModelStepTimer


class Watch:
    """Checks every step as it is reported."""

    def __init__(self, engine: LLMEngine) -> None:
        self.engine = engine
        self.finished: list[str] = []

    def on_step(self, report: StepReport) -> None:
        plan, scheduler = report.plan, self.engine.scheduler
        buckets, kv = scheduler.buckets, scheduler.kv
        assert 1 <= len(plan.sequences) <= scheduler.config.max_num_seqs
        assert plan.padded_tokens >= 0
        assert kv.num_free + sum(len(kv.block_table(h)) for h in kv.holders) == kv.num_blocks
        assert set(kv.holders) == {s.request_id for s in scheduler.running}
        if plan.kind == "prefill":
            assert len(plan.sequences) == 1
            assert plan.token_bucket in buckets.prefill
        else:
            assert plan.batch_bucket in buckets.decode_batch
            assert plan.context in buckets.context
            assert max(s.num_tokens for s in plan.sequences) + plan.steps - 1 <= plan.context
            head = scheduler.waiting[0] if scheduler.waiting else None
            full = len(scheduler.running) >= scheduler.config.max_num_seqs
            assert (
                head is None or full or report.preemptions or not kv.can_allocate(head.num_tokens)
            )

    def on_finish(self, sequence: Sequence, reason: str) -> None:
        self.finished.append(sequence.request_id)


REQUESTS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(0, 10**11)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(
    REQUESTS,
    st.integers(1, 5),
    st.integers(1, 8),
    st.integers(0, 30),
    st.sampled_from((1, 1 << 20)),
    st.sets(st.integers(0, 24)),
)
def test_every_request_ends_within_the_limits_and_no_block_leaks(
    requests: list[tuple[int, int, int]],
    max_num_seqs: int,
    block_size: int,
    spare_blocks: int,
    max_steps: int,
    aborted: set[int],
) -> None:
    config = SchedulerConfig(
        max_model_len=100,
        max_num_seqs=max_num_seqs,
        block_size=block_size,
        num_blocks=-(-100 // block_size) + spare_blocks,
    )
    timer = ModelStepTimer(lambda kind, batch, tokens, context: 1e-4 * tokens + 1e-3 * batch)
    engine = LLMEngine(config, SyntheticTokenSource(max_steps=max_steps), timer)
    watch = engine.observer = Watch(engine)
    for index, (prompt, max_tokens, arrival_ps) in enumerate(requests):
        params = SamplingParams(max_tokens=max_tokens)
        engine.add_request(str(index), [1] * prompt, params, arrival_ps=arrival_ps)
    total = sum(max_tokens for _, max_tokens, _ in requests)
    for step in range(2 * total + 2 * len(requests)):  # each step gives a token or passes idle time
        if step in aborted:
            engine.abort(str(step))
        engine.step()
    assert not engine.has_unfinished_requests
    assert len(watch.finished) == len(requests) == len(set(watch.finished))
    assert engine.scheduler.kv.usage == 0.0
    assert not engine.scheduler.has_work


def test_first_come_is_first_served(  # and a later request never overtakes to its first token
) -> None:
    config = SchedulerConfig(max_model_len=64, max_num_seqs=2, block_size=4, num_blocks=20)
    timer = ModelStepTimer(lambda kind, batch, tokens, context: 1e-3)
    engine = LLMEngine(config, SyntheticTokenSource(), timer)
    answers = engine.run(
        [([1] * (1 + 5 * i % 40), SamplingParams(max_tokens=9)) for i in range(20)]
    )
    firsts = [answer.times.first_token_ps for answer in answers]
    assert firsts == sorted(firsts)


def test_a_cache_too_small_for_one_sequence_is_refused() -> None:
    with pytest.raises(CapacityError, match=r"needs 32 blocks of 32.*only 31"):
        SchedulerConfig(max_model_len=1024, num_blocks=31)


def test_the_last_bucket_must_be_the_limit() -> None:
    with pytest.raises(UsageError, match=r"last decode_batch bucket must be 4, got 8"):
        SchedulerConfig(max_model_len=256, max_num_seqs=4, buckets=Buckets((256,), (8,), (256,)))


def test_an_unknown_policy_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="continuous"):
        Scheduler(SchedulerConfig(max_model_len=64, policy="continous"))

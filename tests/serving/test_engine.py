"""The engine's loop on a virtual clock."""

from collections.abc import Callable

import numpy as np
import pytest

from emuron.errors import PromptTooLongError, UsageError
from emuron.serving.engine import LLMEngine
from emuron.serving.request import SamplingParams

Make = Callable[..., LLMEngine]


def prompts(count: int, max_tokens: int = 20) -> list[tuple[list[int], SamplingParams]]:
    random = np.random.default_rng(3)
    return [
        (
            random.integers(0, 64, random.integers(1, 60)).tolist(),
            SamplingParams(max_tokens=max_tokens, seed=i, temperature=0.0 if i % 2 else 0.9),
        )
        for i in range(count)
    ]


def test_sixteen_requests_at_once_give_the_texts_of_one_by_one(history_engine: Make) -> None:
    together = history_engine(max_num_seqs=8).run(prompts(16))
    alone = [history_engine(max_num_seqs=8).run([prompt])[0] for prompt in prompts(16)]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]


def test_preemption_changes_no_token_and_leaks_no_block(history_engine: Make) -> None:
    engine = history_engine(max_num_seqs=8, num_blocks=64)  # one sequence of 256 tokens
    tight = engine.run(prompts(16, max_tokens=40))
    roomy = history_engine(max_num_seqs=8).run(prompts(16, max_tokens=40))
    assert engine.scheduler.num_preemptions > 0
    assert [c.token_ids for c in tight] == [c.token_ids for c in roomy]
    assert engine.scheduler.kv.usage == 0.0


def test_a_prompt_of_129_tokens_costs_the_256_bucket(synthetic_engine: Make) -> None:
    engine = synthetic_engine(max_model_len=1024)
    done = engine.run([([1] * 129, SamplingParams(max_tokens=1))])
    expected_s = engine.timer.step_seconds("prefill", 1, 256, 0)
    assert done[0].times.time_to_first_token_s == pytest.approx(expected_s)


def test_a_decode_waits_for_every_prefill(synthetic_engine: Make) -> None:
    """vLLM on Neuron: one prefill per step, prefill has priority, never both in one step."""
    engine = synthetic_engine(max_model_len=1024, max_num_seqs=2)
    first, second, third = engine.run([([1] * 10, SamplingParams(max_tokens=3))] * 3)
    prefill_s = engine.timer.step_seconds("prefill", 1, 128, 0)
    decode_s = engine.timer.step_seconds("decode", 2, 1, 128)
    assert first.times.end_to_end_s == pytest.approx(2 * prefill_s + 2 * decode_s)
    assert second.times.end_to_end_s == pytest.approx(2 * prefill_s + 2 * decode_s)
    assert third.times.time_to_first_token_s == pytest.approx(3 * prefill_s + 2 * decode_s)


@pytest.mark.parametrize("num_blocks", [None, 40])
def test_skipped_steps_take_exactly_the_time_of_single_ones(
    synthetic_engine: Make, num_blocks: int | None
) -> None:
    def finish_times(max_steps: int) -> list[tuple[int, int | None, int | None]]:
        engine = synthetic_engine(
            max_steps=max_steps, max_model_len=1024, max_num_seqs=4, num_blocks=num_blocks
        )
        random = np.random.default_rng(5)
        sequences = []
        for index in range(30):
            params = SamplingParams(max_tokens=int(random.integers(1, 300)))
            arrival_ps = int(random.integers(0, 10**12))
            prompt = [1] * int(random.integers(1, 700))
            engine.add_request(str(index), prompt, params, arrival_ps=arrival_ps)
            sequences.append(engine._sequences[str(index)])
        while engine.has_unfinished_requests:
            engine.step()
        return [
            (s.times.arrival_ps, s.times.first_token_ps, s.times.finished_ps) for s in sequences
        ]

    assert finish_times(1) == finish_times(1 << 30)


def test_a_hundred_thousand_requests_run_in_virtual_time(synthetic_engine: Make) -> None:
    engine = synthetic_engine(max_model_len=1024, max_num_seqs=64)
    prompt, params = [1] * 100, SamplingParams(max_tokens=16)
    for index in range(100_000):
        engine.add_request(str(index), prompt, params, arrival_ps=index * 10**9)
    tokens = 0
    while engine.has_unfinished_requests:
        tokens += sum(len(output.tokens) for output in engine.step())
    assert tokens == 1_600_000
    assert engine.scheduler.kv.usage == 0.0


def test_an_abort_frees_the_blocks_of_running_waiting_and_future_requests(
    history_engine: Make,
) -> None:
    engine = history_engine(max_num_seqs=1)
    for name, arrival_ps in (("running", 0), ("waiting", 0), ("future", 10**15)):
        engine.add_request(name, [1, 2, 3], SamplingParams(), arrival_ps=arrival_ps)
    engine.step()
    assert engine.scheduler.kv.holders == ("running",)
    assert [engine.abort(name) for name in ("running", "waiting", "future", "nobody")] == [
        True,
        True,
        True,
        False,
    ]
    assert engine.scheduler.kv.usage == 0.0
    assert not engine.has_unfinished_requests
    assert engine.step() == []


def test_the_end_of_text_ends_a_request_unless_it_is_ignored(history_engine: Make) -> None:
    free = history_engine().run([([1, 2], SamplingParams(temperature=0, max_tokens=8))])[0]
    engine = history_engine(eos_token_ids=(free.token_ids[3],))
    stopped, ignored = engine.run(
        [
            ([1, 2], SamplingParams(temperature=0, max_tokens=8)),
            ([1, 2], SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)),
        ]
    )
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(free.token_ids[3]) + 1]
    assert ignored.finish_reason == "length"
    assert ignored.token_ids == free.token_ids


def test_a_request_without_max_tokens_fills_the_context(history_engine: Make) -> None:
    engine = history_engine(max_model_len=32)
    done = engine.run([([1, 2], SamplingParams(temperature=0, max_tokens=None))])[0]
    assert len(done.token_ids) == 30
    assert done.finish_reason == "length"


def test_a_prompt_beyond_the_context_is_refused_with_the_counts(history_engine: Make) -> None:
    engine = history_engine(max_model_len=32)
    with pytest.raises(PromptTooLongError, match=r"32 tokens.*40 tokens.*asks for 5.*45 in all"):
        engine.add_request("a", [1] * 40, SamplingParams(max_tokens=5))


def test_bad_prompts_are_refused(history_engine: Make) -> None:
    engine = history_engine()
    with pytest.raises(UsageError, match="at least one token"):
        engine.add_request("a", [], SamplingParams())
    with pytest.raises(UsageError, match="token 64"):
        engine.add_request("a", [3, 64], SamplingParams())
    with pytest.raises(UsageError, match="tokenizer"):
        engine.add_request("a", [3], SamplingParams(stop=("x",)))
    engine.add_request("a", [3], SamplingParams())
    with pytest.raises(UsageError, match="'a' is already under way"):
        engine.add_request("a", [3], SamplingParams())


def test_unseeded_requests_differ_and_an_engine_seed_repeats_them(history_engine: Make) -> None:
    batch = [([1, 2, 3], SamplingParams(max_tokens=12))] * 2
    first, second = history_engine(seed=1).run(batch)
    assert first.token_ids != second.token_ids
    again = history_engine(seed=1).run(batch)
    assert [c.token_ids for c in again] == [first.token_ids, second.token_ids]
    assert history_engine(seed=2).run(batch)[0].token_ids != first.token_ids

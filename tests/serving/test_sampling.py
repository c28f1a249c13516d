"""Logits to tokens, checked against a plain loop."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.errors import UsageError
from emuron.serving.request import Request, SamplingParams
from emuron.serving.sampling import Sampler

LOGITS = np.array([2.0, 1.0, 0.5, -1.0, 3.0, 0.0], np.float32)


def draw(params: SamplingParams, output: tuple[int, ...] = (), logits=LOGITS, seed: int = 7) -> int:
    request = Request("r", (0, 1), params, 0, seed)
    return Sampler(len(logits), eos_token_ids=(4,)).sample(request, output, logits).token_id


def kept_by_hand(params: SamplingParams) -> dict[int, float]:
    """The tokens and probabilities that the cuts leave, by a loop over sorted tokens."""
    scaled = sorted(((x / params.temperature, -i) for i, x in enumerate(LOGITS)), reverse=True)
    weights = [(-i, math.exp(x)) for x, i in scaled]
    weights = weights[: params.top_k] if params.top_k > 0 else weights
    weights = [(i, w) for i, w in weights if w >= params.min_p * weights[0][1]]
    total = sum(w for _, w in weights)
    kept, before = {}, 0.0
    for token_id, weight in weights:
        if before < params.top_p:
            kept[token_id] = weight
        before += weight / total
    total = sum(kept.values())
    return {token_id: weight / total for token_id, weight in kept.items()}


@pytest.mark.parametrize(
    "options",
    [{}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.2}, {"top_k": 4, "top_p": 0.6, "min_p": 0.1}],
)
def test_draws_follow_the_distribution_that_the_cuts_leave(options: dict[str, float]) -> None:
    params = SamplingParams(temperature=0.8, **options)
    expected = kept_by_hand(params)
    counts = Counter(draw(params, seed=seed) for seed in range(4000))
    assert set(counts) <= set(expected)
    for token_id, share in expected.items():
        # Four standard deviations of a binomial share over 4000 draws.
        assert abs(counts[token_id] / 4000 - share) <= 4 * math.sqrt(share * (1 - share) / 4000)


def test_greedy_takes_the_likeliest() -> None:
    assert draw(SamplingParams(temperature=0)) == 4


def test_the_same_seed_gives_the_same_token_at_the_same_place() -> None:
    params = SamplingParams()
    assert draw(params, (1, 2)) == draw(params, (3, 5))
    assert len({draw(params, (0,) * i) for i in range(40)}) > 1


def test_a_bias_of_100_forces_a_token_and_of_minus_100_forbids_it() -> None:
    assert draw(SamplingParams(logit_bias=((3, 100.0),))) == 3
    greedy = SamplingParams(temperature=0, logit_bias=((4, -100.0),))
    assert draw(greedy) == 0


def test_only_allowed_tokens_are_drawn() -> None:
    params = SamplingParams(allowed_token_ids=(2, 3))
    assert {draw(params, seed=seed) for seed in range(50)} == {2, 3}


def test_the_end_of_text_is_held_back_until_min_tokens() -> None:
    params = SamplingParams(temperature=0, min_tokens=2)
    assert [draw(params, (0,) * i) for i in range(3)] == [0, 0, 4]


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 5), max_size=8),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.floats(0.1, 3),
)
def test_penalties_equal_a_loop_over_tokens(
    output: list[int], presence: float, frequency: float, repetition: float
) -> None:
    params = SamplingParams(
        temperature=0,
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
    )
    expected = []
    for token_id, logit in enumerate(float(x) for x in LOGITS):
        if token_id in (0, 1, *output):
            logit = logit / repetition if logit > 0 else logit * repetition
        if token_id in output:
            logit -= frequency * output.count(token_id) + presence
        expected.append(logit)
    best = max(expected)
    assert expected[draw(params, tuple(output))] == pytest.approx(best, abs=1e-12)


def test_logprobs_are_those_of_the_raw_logits() -> None:
    params = SamplingParams(temperature=0, logprobs=2, logit_bias=((3, 100.0),))
    token = Sampler(6).sample(Request("r", (0,), params, 0, 0), (), LOGITS)
    total = sum(math.exp(x) for x in LOGITS)
    assert token.token_id == 3
    assert token.logprob == pytest.approx(-1.0 - math.log(total))
    assert [i for i, _ in token.top] == [4, 0]


def test_a_token_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(UsageError, match=r"logit_bias names token 99.*0 to 5"):
        Sampler(6).check(SamplingParams(logit_bias=((99, 1.0),)))

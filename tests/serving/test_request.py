"""What SamplingParams accepts."""

import math

import pytest

from emuron.errors import UsageError
from emuron.serving.request import SamplingParams


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0),
        ("n", 10**9),
        ("n", 1.5),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("min_p", 1.5),
        ("max_tokens", 0),
        ("max_tokens", -5),
        ("max_tokens", True),
        ("presence_penalty", 2.5),
        ("repetition_penalty", 0.0),
        ("logprobs", 21),
        ("min_tokens", 17),
        ("seed", 2**64),
        ("stop", ("",)),
        ("logit_bias", ((1, 101.0),)),
        ("allowed_token_ids", ()),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        SamplingParams(**{name: value})


def test_temperature_zero_and_top_k_one_are_greedy() -> None:
    assert SamplingParams(temperature=0).greedy
    assert SamplingParams(temperature=0.7, top_k=1).greedy
    assert not SamplingParams().greedy

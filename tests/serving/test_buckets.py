"""Static shapes."""

import pytest

from emuron.errors import UsageError
from emuron.serving.buckets import Buckets, pick, powers_of_two


def test_default_buckets_are_powers_of_two_from_128_and_end_at_the_limit() -> None:
    """vLLM on Neuron: "powers of two from 128 to min(max batched tokens, max length)"."""
    buckets = Buckets.powers(max_model_len=1000, max_num_seqs=6)
    assert buckets.prefill == (128, 256, 512, 1000)
    assert buckets.decode_batch == (1, 2, 4, 6)


def test_a_limit_below_the_smallest_bucket_is_the_only_bucket() -> None:
    assert powers_of_two(128, 100) == (100,)
    assert powers_of_two(128, 128) == (128,)


def test_129_tokens_need_the_256_bucket() -> None:
    sizes = powers_of_two(128, 1024)
    assert pick(sizes, 128) == 128
    assert pick(sizes, 129) == 256


def test_a_need_beyond_the_last_bucket_is_refused() -> None:
    with pytest.raises(UsageError, match=r"holds 300.*256"):
        pick((128, 256), 300)


@pytest.mark.parametrize("sizes", [(), (0, 1), (4, 4), (8, 4)])
def test_buckets_must_be_positive_and_rise(sizes: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="decode_batch"):
        Buckets((128,), sizes, (128,))

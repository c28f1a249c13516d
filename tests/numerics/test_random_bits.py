import numpy as np
import pytest

from emuron.numerics.random_bits import random_bits


def test_the_first_words_of_a_longer_draw_are_those_of_a_shorter_one():
    assert np.array_equal(random_bits(3, 4, 100_000)[:777], random_bits(3, 4, 777))


@pytest.mark.parametrize(("seed", "counter"), [(4, 4), (3, 5), (-1, 4), (3, 2**40)])
def test_seed_and_counter_give_unrelated_words(seed, counter):
    first, other = random_bits(3, 4, 100_000), random_bits(seed, counter, 100_000)
    differing_bits = np.bitwise_count(first ^ other).mean()
    # 16 of 32 bits differ on average; the mean over 1e5 words has deviation sqrt(8 / 1e5).
    assert abs(differing_bits - 16) < 5 * np.sqrt(8 / 1e5)


def test_every_bit_is_set_half_of_the_time():
    words = random_bits(0, 0, 200_000)
    for bit in range(32):
        share = np.mean((words >> np.uint32(bit)) & np.uint32(1))
        # Five deviations of a mean of 2e5 coin tosses.
        assert abs(share - 0.5) < 5 * 0.5 / np.sqrt(2e5)


def test_neighbouring_words_are_uncorrelated():
    words = random_bits(1, 2, 200_000) / 2.0**32
    correlation = np.corrcoef(words[:-1], words[1:])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(2e5)


def test_the_words_are_pinned():
    """Results of seeded runs must not change from one release to the next."""
    assert random_bits(7, 11, 4).tolist() == [3550640846, 4242301590, 2916642262, 2026650417]

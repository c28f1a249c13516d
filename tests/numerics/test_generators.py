from __future__ import annotations

import numpy as np
import pytest

from emuron.numerics.generators import draw, initial_state


@pytest.mark.parametrize("words", [6, 24])
def test_equal_states_give_equal_numbers_however_they_are_drawn(words):
    state = initial_state(5, 8, words)
    whole, after = draw(state, 100)
    first, middle = draw(state, 37)
    second, end = draw(middle, 63)
    np.testing.assert_array_equal(np.concatenate([first, second], 1), whole)
    np.testing.assert_array_equal(end, after)


def test_lanes_seeds_and_words_give_other_numbers():
    state = initial_state(5, 8, 6)
    rows, _ = draw(state, 50)
    assert len({tuple(row) for row in rows.tolist()}) == 8
    assert (draw(initial_state(6, 8, 6), 50)[0] != rows).mean() > 0.99
    for word in range(6):
        other = state.copy()
        other[:, word] ^= 1
        assert (draw(other, 50)[0] != rows).mean() > 0.9


def test_the_bits_are_evenly_spread():
    bits, _ = draw(initial_state(1, 64, 6), 1000)
    ones = [(bits >> np.uint32(b) & 1).mean() for b in range(32)]
    # 64000 fair coins: five standard deviations are 0.01.
    np.testing.assert_allclose(ones, 0.5, atol=0.01)
    counts = np.bincount((bits >> np.uint32(28)).ravel(), minlength=16)
    assert ((counts - 4000) ** 2 / 4000).sum() < 50  # chi-squared of 15 degrees, far in its tail

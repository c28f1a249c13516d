"""Random number generators with a state, one for each lane of an engine.

The hardware's streams are not published. Here a lane's numbers are a hash of its state's words and
of a counter, which is the last word: equal states give equal streams, and drawing n numbers
advances the counter by n.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emuron.numerics.random_bits import random_bits

Words = npt.NDArray[np.uint32]


def initial_state(seed: int, lanes: int, words: int) -> Words:
    """Return the state [lanes, words] that a seed stands for; lanes differ, counters are zero."""
    state = random_bits(seed, 0, lanes * words).reshape(lanes, words)
    state[:, -1] = 0
    return state


def draw(state: Words, count: int) -> tuple[Words, Words]:
    """Return `count` words of random bits [lanes, count] for each lane, and the state after."""
    key = np.zeros(len(state), np.uint32)
    for word in range(state.shape[1] - 1):
        key = _mixed(_mixed(key) + state[:, word])
    numbers: Words = np.add(state[:, -1:], np.arange(count, dtype=np.uint32), dtype=np.uint32)
    bits = _mixed(_mixed(numbers ^ key[:, None]) + _mixed(key)[:, None])
    after = state.copy()
    after[:, -1] += np.uint32(count)
    return bits, after


def _mixed(words: Words) -> Words:
    """Mix 32 bits by Wellons' `lowbias32`."""
    words = words ^ (words >> np.uint32(16))
    words = words * np.uint32(0x7FEB352D)
    words = words ^ (words >> np.uint32(15))
    words = words * np.uint32(0x846CA68B)
    return words ^ (words >> np.uint32(16))

"""Static shapes: a compiled graph exists for a few sizes only, and work is padded up."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

from emuron.errors import UsageError

SMALLEST_TOKEN_BUCKET = 128  # vLLM on Neuron: prefill buckets are powers of two from 128


def powers_of_two(first: int, last: int) -> tuple[int, ...]:
    """Return `first`, doubled until it passes `last`; the last bucket is always `last` itself."""
    sizes = []
    size = first
    while size < last:
        sizes.append(size)
        size *= 2
    return (*sizes, last)


@dataclass(frozen=True, slots=True)
class Buckets:
    """The sizes that graphs are compiled for: prompt tokens, decode batch, context tokens."""

    prefill: tuple[int, ...]
    decode_batch: tuple[int, ...]
    context: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse lists that do not rise."""
        for name in ("prefill", "decode_batch", "context"):
            sizes = getattr(self, name)
            if not sizes or sizes[0] < 1 or any(a >= b for a, b in itertools.pairwise(sizes)):
                raise UsageError(f"{name} buckets must be positive and rise, got {list(sizes)}")

    @classmethod
    def powers(cls, max_model_len: int, max_num_seqs: int) -> Buckets:
        """Return the default buckets of vLLM on Neuron for these limits."""
        tokens = powers_of_two(SMALLEST_TOKEN_BUCKET, max_model_len)
        return cls(tokens, powers_of_two(1, max_num_seqs), tokens)


def pick(sizes: Ordered[int], need: int) -> int:
    """Return the smallest bucket that holds `need`; raise UsageError when none does."""
    index = bisect.bisect_left(sizes, need)
    if index == len(sizes):
        raise UsageError(f"no bucket holds {need}; the largest is {sizes[-1]}")
    return sizes[index]

"""Which tensors follow each other on the same bytes, so that one must wait for the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emuron.sim.footprints import Column
from emuron.sim.liveness import Life
from emuron.sim.tenancies import tenancies


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The lives in one memory, in order, with the first byte and the end of each."""

    lives: list[Life]
    start: Column
    end: Column


def set_rivals(regions: Sequence[Placed]) -> None:
    """Set the `rivals` of placed tensors, given by memory and in the order of their lives.

    That is each tensor with the one before it on a byte, and the last with the first of every loop
    and of the program, which may run again. Tensors further apart wait through those between.
    """
    tensors = [life.tensor for local in regions for life in local.lives]
    count, start = len(tensors), 0
    keys = [np.zeros(0, np.int64)]  # pairs of their numbers: one · count + other
    for local in regions:
        for one, other in _pairs(local):
            keys.append(np.unique((one + start) * count + other + start))
        start += len(local.lives)
    one, other = np.divmod(np.concatenate(keys), max(1, count))
    # Tensors that the user put on the same bytes share their contents: no rivals.
    aliases = np.array([tensor.aliases for tensor in tensors], np.bool_)
    apart = (one != other) & ~(aliases[one] & aliases[other])
    both = np.concatenate([one[apart] * count + other[apart], other[apart] * count + one[apart]])
    one, other = np.divmod(np.unique(both), max(1, count))
    others = [tensors[number] for number in other.tolist()]
    ends = np.searchsorted(one, np.arange(1, count + 1)).tolist()
    first = 0
    for tensor, end in zip(tensors, ends, strict=True):
        tensor.rivals = tuple(others[first:end])
        first = end


def _pairs(local: Placed) -> Iterator[tuple[Column, Column]]:
    """Yield numbers of tensors that share bytes: those of one column with those of the other."""
    for part in tenancies(local.start, local.end):
        yield part.tenant[part.follows - 1], part.tenant[part.follows]
        yield part.tenant[part.opens], part.tenant[part.closes]
    for inside in _by_loop(local.lives):
        for part in tenancies(local.start[inside], local.end[inside]):
            yield inside[part.tenant[part.opens]], inside[part.tenant[part.closes]]


def _by_loop(lives: list[Life]) -> Iterator[Column]:
    """Yield, for each loop, the numbers of the tensors that live inside it."""
    by_loop: dict[tuple[int, int], list[int]] = {}
    for number, life in enumerate(lives):
        for loop in life.loops:
            by_loop.setdefault(loop, []).append(number)
    for numbers in by_loop.values():
        yield np.array(numbers, np.int64)

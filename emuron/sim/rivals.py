"""Which tensors follow each other on the same bytes, so that one must wait for the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from emuron.sim.footprints import Column
from emuron.sim.liveness import Life
from emuron.sim.tenancies import tenancies

Placed = tuple[Life, int, int]  # with its first byte and its end


def set_rivals(regions: Sequence[list[Placed]]) -> None:
    """Set the `rivals` of placed tensors, given by memory and in the order of their lives.

    That is each tensor with the one before it on a byte, and the last with the first of every loop
    and of the program, which may run again. Tensors further apart wait through those between.
    """
    tensors = [life.tensor for local in regions for life, _, _ in local]
    count, start = len(tensors), 0
    keys = [np.zeros(0, np.int64)]  # pairs of their numbers: one · count + other
    for local in regions:
        for one, other in _pairs(local):
            keys.append(np.unique((one + start) * count + other + start))
        start += len(local)
    one, other = np.divmod(np.unique(np.concatenate(keys)), max(1, count))
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


def _pairs(local: list[Placed]) -> Iterator[tuple[Column, Column]]:
    """Yield numbers of tensors that share bytes: those of one column with those of the other."""
    start = np.array([start for _, start, _ in local], np.int64)
    end = np.array([end for _, _, end in local], np.int64)
    for part in tenancies(start, end):
        yield part.tenant[part.follows - 1], part.tenant[part.follows]
        yield part.tenant[part.opens], part.tenant[part.closes]
    for inside in _by_loop(local):
        for part in tenancies(start[inside], end[inside]):
            yield inside[part.tenant[part.opens]], inside[part.tenant[part.closes]]


def _by_loop(local: list[Placed]) -> Iterator[Column]:
    """Yield, for each loop, the numbers of the tensors that live inside it."""
    by_loop: dict[tuple[int, int], list[int]] = {}
    for number, (life, _, _) in enumerate(local):
        for loop in life.loops:
            by_loop.setdefault(loop, []).append(number)
    for numbers in by_loop.values():
        yield np.array(numbers, np.int64)

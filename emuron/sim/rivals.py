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

    That is each tensor with the one before it on a byte, the last with the first (for programs run
    again and again), and within a loop all that share bytes.
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
    in_loops = list(_pairs_in_loops(local))
    if in_loops:
        one, other = np.array(in_loops, np.int64).T
        yield one, other


def _pairs_in_loops(local: list[Placed]) -> Iterator[tuple[int, int]]:
    by_loop: dict[tuple[int, int], list[int]] = {}
    for number, (life, _, _) in enumerate(local):
        if life.outer_loop is not None:
            by_loop.setdefault(life.outer_loop, []).append(number)
    for together in by_loop.values():
        active: list[int] = []
        for number in sorted(together, key=lambda number: local[number][1]):
            active = [other for other in active if local[other][2] > local[number][1]]
            yield from ((other, number) for other in active)
            active.append(number)

"""Which tensors follow each other on the same bytes, so that one must wait for the other."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emuron.isa.tensor import Tensor
from emuron.sim.liveness import Life

Placed = tuple[Life, int, int]  # with its first byte and its end


@dataclass(slots=True, eq=False)
class _Owned:
    """A stretch of bytes with the last tensor on it so far and the first."""

    start: int
    end: int
    last: Tensor
    first: Tensor


class _Owners:
    """The stretches that tensors have been on, by first byte."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self.owned: list[_Owned] = []

    def enter(self, tensor: Tensor, start: int, end: int) -> Iterator[Tensor]:
        """Put a tensor on bytes; yield those that were last on some of them."""
        low = max(0, bisect_right(self._starts, start) - 1)
        if self.owned and self.owned[low].end <= start:
            low += 1
        if low < len(self.owned) and self._is(low, start, end):
            yield self.owned[low].last
            self.owned[low].last = tensor
            return
        high = bisect_left(self._starts, end)
        parts: list[_Owned] = []
        reached = start
        for old in self.owned[low:high]:
            yield old.last
            if old.start < start:
                parts.append(_Owned(old.start, start, old.last, old.first))
            if reached < old.start:
                parts.append(_Owned(reached, old.start, tensor, tensor))
            inner = max(old.start, start), min(old.end, end)
            parts.append(_Owned(*inner, tensor, old.first))
            if old.end > end:
                parts.append(_Owned(end, old.end, old.last, old.first))
            reached = old.end
        if reached < end:
            parts.append(_Owned(reached, end, tensor, tensor))
        self.owned[low:high] = parts
        self._starts[low:high] = [part.start for part in parts]

    def _is(self, number: int, start: int, end: int) -> bool:
        owned = self.owned[number]
        return owned.start == start and owned.end == end


def set_rivals(regions: Sequence[list[Placed]]) -> None:
    """Set the `rivals` of placed tensors, given by memory and in the order of their lives.

    That is each tensor with the one before it on a byte, the last with the first (for programs run
    again and again), and within a loop all that share bytes.
    """
    order: dict[Tensor, int] = {}
    rivals: dict[Tensor, set[Tensor]] = {}
    for local in regions:
        for life, _, _ in local:
            order[life.tensor] = len(order)
            rivals[life.tensor] = set()
        for one, other in [*_pairs(local), *_pairs_in_loops(local)]:
            # Tensors that the user put on the same bytes share their contents: no rivals.
            if one is not other and not (one.aliases and other.aliases):
                rivals[one].add(other)
                rivals[other].add(one)
    for tensor, others in rivals.items():
        tensor.rivals = tuple(sorted(others, key=order.__getitem__))


def _pairs(local: list[Placed]) -> Iterator[tuple[Tensor, Tensor]]:
    owners = _Owners()
    for life, start, end in local:
        for other in owners.enter(life.tensor, start, end):
            yield other, life.tensor
    for owned in owners.owned:
        yield owned.last, owned.first


def _pairs_in_loops(local: list[Placed]) -> Iterator[tuple[Tensor, Tensor]]:
    by_loop: dict[tuple[int, int], list[Placed]] = {}
    for placed in local:
        if placed[0].outer_loop is not None:
            by_loop.setdefault(placed[0].outer_loop, []).append(placed)
    for together in by_loop.values():
        active: list[Placed] = []
        for placed in sorted(together, key=lambda entry: entry[1]):
            active = [other for other in active if other[2] > placed[1]]
            for other in active:
                yield other[0].tensor, placed[0].tensor
            active.append(placed)

"""Whether the dependencies of a loop can be affine in its counter.

They are if what the iterations touch moves alike: accesses to one tensor, one of them a write, move
by the same step or never meet; and if what earlier instructions left on the bytes that the loop
moves over is itself affine along the way. Then the position to wait for is a maximum of affine
functions, hence convex, and equals a line wherever it does so at the start and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

from emuron.isa.affine import LoopIndex
from emuron.sim.sites import Run, SiteLoop, Sites

# What an access finds on a cell: (queue, position) of all that it must come after.
Found = list[tuple[int, int]]
Lookup = Callable[[int, int, int], Found]  # of a site, an access of it and a cell


def is_regular(
    loop: SiteLoop, sites: Sites, counters: dict[LoopIndex, int], lookup: Lookup
) -> bool:
    """Return whether the waits of a loop about to begin can be affine in its counter."""
    inside = list(_accesses(loop, sites))
    by_space: dict[int, list[int]] = {}
    for _, access in inside:
        by_space.setdefault(int(sites.space[access]), []).append(access)
    reach = _Reach(loop, sites, counters)
    if not all(reach.moves_alike(accesses) for accesses in by_space.values()):
        return False
    return all(reach.finds_affine(site, access, lookup) for site, access in inside)


def _accesses(loop: SiteLoop, sites: Sites) -> Iterator[tuple[int, int]]:
    """Yield the accesses of a loop, each with its site."""
    for part in loop.body:
        if isinstance(part, SiteLoop):
            yield from _accesses(part, sites)
            continue
        for site in range(part.first, part.last):
            for access in sites.accesses(Run(site, site + 1)):
                yield site, access


class _Reach:
    """What the accesses of a loop touch in each of its iterations."""

    def __init__(self, loop: SiteLoop, sites: Sites, counters: dict[LoopIndex, int]) -> None:
        self._index = loop.index
        self._sites = sites
        self._outer = {i: c for i, c in counters.items() if i not in _indices(loop)}

    def step(self, access: int) -> int:
        """Return the bytes that an access moves by in each iteration."""
        return self._sites.steps.get(access, {}).get(self._index, 0)

    def at(self, access: int, iteration: int) -> Iterator[int]:
        """Yield the cells touched in an iteration, inner loops written out."""
        place, spans = int(self._sites.place[access]), []
        for index, stride in self._sites.strides.get(access, ()):
            if index is self._index:
                place += stride * iteration
            elif index in self._outer:
                place += stride * self._outer[index]
            else:
                spans.append([stride * i for i in range(index.trip)])
        for shifts in product(*spans):
            yield from self._sites.cells_at(place + sum(shifts))

    def moves_alike(self, accesses: list[int]) -> bool:
        """Return whether accesses to a tensor move by one step, as far as they meet a write."""
        steps = {self.step(access) for access in accesses}
        writes = self._sites.writes
        if len(steps) == 1 or not any(writes[access] for access in accesses):
            return True
        touched: dict[int, set[int]] = {step: set() for step in steps}
        written: dict[int, set[int]] = {step: set() for step in steps}
        for access in accesses:
            step = self.step(access)
            for iteration in range(self._index.trip if step else 1):
                touched[step].update(self.at(access, iteration))
                if writes[access]:
                    written[step].update(self.at(access, iteration))
        return all(not (written[a] & touched[b]) for a in steps for b in steps if a != b)

    def finds_affine(self, site: int, access: int, lookup: Lookup) -> bool:
        """Return whether what an access finds on its way is affine in the iteration."""
        if self.step(access) == 0:
            return True
        before: list[Found] | None = None
        steps: list[int] | None = None
        for iteration in range(1, self._index.trip):
            found = [lookup(site, access, cell) for cell in self.at(access, iteration)]
            if before is not None:
                now = _steps(before, found)
                if now is None or (steps is not None and now != steps):
                    return False
                steps = now
            before = found
        return True


def _indices(loop: SiteLoop) -> set[LoopIndex]:
    found = {loop.index}
    for part in loop.body:
        if isinstance(part, SiteLoop):
            found |= _indices(part)
    return found


def _steps(before: list[Found], after: list[Found]) -> list[int] | None:
    """Return how much later the positions found are; None if other queues are found."""
    if len(before) != len(after):
        return None
    steps: list[int] = []
    for a, b in zip(before, after, strict=True):
        if [queue for queue, _ in a] != [queue for queue, _ in b]:
            return None
        steps.extend(q - p for (_, p), (_, q) in zip(a, b, strict=True))
    return steps

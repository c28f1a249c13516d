"""Dependencies: which earlier instructions each instruction must wait for.

A read waits for the last write of its bytes, a write for the last write and the reads since, and
for the last accesses of tensors that shared its bytes (`rivals`). Waits name a queue and a
position in it. Loops are scheduled as loops where their waits are affine functions of the counter
(`regularity`): the first iterations are tracked exactly, and the last one confirms the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emuron.sim.sites import Run, SiteLoop, Sites
from emuron.sim.tracker import Seen, Tracker
from emuron.sim.tracking_kernel import WAIT, Ints

_FEWEST_ITERATIONS = 3  # two differences that agree
_MOST_PEELED = 8  # iterations tracked before a loop counts as irregular


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The sites of a run with their waits.

    `ends` has the number of waits up to each site's last; a wait is two integers of `waits`, a
    queue and a position in it, and an entry of `slopes`: the position's slope over each enclosing
    loop, outermost first. Outside of loops `slopes` is None.
    """

    run: Run
    ends: Ints
    waits: Ints
    slopes: list[tuple[int, ...]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """A body that runs `trip` times, its waits moving by their slopes."""

    trip: int
    body: list[Node]


Node = Steps | Repeated
Structure = tuple[object, ...]


def schedule(sites: Sites, *, numba: bool = False) -> list[Node]:
    """Return the program with the waits that its data need."""
    return _Scheduler(sites, numba).run(sites.body)


class _Scheduler:
    def __init__(self, sites: Sites, numba: bool) -> None:
        self._tracker = Tracker(sites, numba=numba)

    def run(self, body: list[Run | SiteLoop]) -> list[Node]:
        nodes: list[Node] = []
        for part in body:
            if isinstance(part, SiteLoop):
                nodes.extend(self._loop(part))
            else:
                nodes.append(Steps(part, *self._tracker.visit(part)))
        return nodes

    def _iteration(self, loop: SiteLoop, number: int) -> list[Node]:
        self._tracker.begin_iteration(loop.index, number)
        return self.run(loop.body)

    def _loop(self, loop: SiteLoop) -> list[Node]:
        trip = loop.index.trip
        regular = trip > _FEWEST_ITERATIONS and self._tracker.is_regular(loop)
        done: list[list[Node]] = []
        seen = []
        while len(done) < trip:
            done.append(self._iteration(loop, len(done)))
            seen.append(self._tracker.seen_copy())
            if not regular or not _FEWEST_ITERATIONS <= len(done) <= min(_MOST_PEELED, trip - 1):
                continue
            found = _steady(done)
            if found is None:
                continue
            first, slopes = found
            saved = self._tracker.save()
            if self._confirm(loop, len(done), (done[-1], slopes), (seen[-2], seen[-1])):
                peeled = [node for iteration in done[:first] for node in iteration]
                return [*peeled, Repeated(trip - first, _sloped(done[first], iter(slopes)))]
            self._tracker.restore(saved)
        return [node for iteration in done for node in iteration]

    def _confirm(
        self,
        loop: SiteLoop,
        start: int,
        last: tuple[list[Node], list[int]],
        seen: tuple[Seen, Seen],
    ) -> bool:
        """Track an iteration in the middle and the last one; return whether both fit."""
        nodes, slopes = last
        structure, positions = _signature(nodes)
        trip, now = loop.index.trip, start
        for target in sorted({(start + trip - 1) // 2, trip - 1}):
            self._tracker.advance(loop, now, target, seen, target - start)
            found_structure, found = _signature(self._iteration(loop, target))
            distance = target - (start - 1)
            expected = [p + s * distance for p, s in zip(positions, slopes, strict=True)]
            if found_structure != structure or found != expected:
                return False
            now = target + 1
        return True


def _steady(iterations: list[list[Node]]) -> tuple[int, list[int]] | None:
    """Return the first iteration from which the waits are affine, and their slopes."""
    signatures = [_signature(nodes) for nodes in iterations[-_FEWEST_ITERATIONS:]]
    (a, first), (b, second), (c, third) = signatures
    slopes = [y - x for x, y in zip(second, third, strict=False)]
    if b != c:
        return None
    start = len(iterations) - 2
    if a == b and [y - x for x, y in zip(first, second, strict=True)] == slopes:
        start -= 1
    return start, slopes


def _signature(nodes: list[Node]) -> tuple[Structure, list[int]]:
    """Return the shape of scheduled nodes, and the positions of their waits."""
    shape: list[object] = []
    positions: list[int] = []
    for node in nodes:
        if isinstance(node, Steps):
            ends, waits = (tuple(map(int, column)) for column in (node.ends, node.waits))
            slopes = tuple(node.slopes) if node.slopes is not None else None
            shape.append((node.run.first, ends, waits[::WAIT], slopes))
            positions.extend(waits[1::WAIT])
        else:
            inner, found = _signature(node.body)
            shape.append((node.trip, inner))
            positions.extend(found)
    return tuple(shape), positions


def _sloped(nodes: list[Node], slopes: Iterator[int]) -> list[Node]:
    """Return the nodes as a loop body: each wait with its slope over the new outer loop."""
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, Repeated):
            result.append(Repeated(node.trip, _sloped(node.body, slopes)))
            continue
        inner = [()] * (len(node.waits) // WAIT) if node.slopes is None else node.slopes
        sloped = [(next(slopes), *levels) for levels in inner]
        result.append(Steps(node.run, node.ends, node.waits, sloped))
    return result

"""Dependencies: which earlier instructions each instruction must wait for.

A read waits for the last write of its bytes, a write for the last write and the reads since, and
for the last accesses of tensors that shared its bytes (`rivals`). Waits name a queue and a
position in it. Loops are scheduled as loops where their waits are affine functions of the counter
(`regularity`): the first iterations are tracked exactly, and the last one confirms the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from emuron.sim.sites import Site, SiteLoop, Sites
from emuron.sim.tracker import Tracker

# A wait: queue, position, and the position's slope over each enclosing loop, outermost first.
Wait = tuple[int, int, tuple[int, ...]]

_FEWEST_ITERATIONS = 3  # two differences that agree
_MOST_PEELED = 8  # iterations tracked before a loop counts as irregular


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """An instruction with its waits."""

    site: Site
    waits: tuple[Wait, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """A body that runs `trip` times, its waits moving by their slopes."""

    trip: int
    body: list[Node]


Node = Step | Repeated
Structure = tuple[object, ...]


def schedule(sites: Sites) -> list[Node]:
    """Return the program with the waits that its data need."""
    return _Scheduler(sites).run(sites.body)


class _Scheduler:
    def __init__(self, sites: Sites) -> None:
        self._tracker = Tracker(sites)

    def run(self, body: list[Site | SiteLoop]) -> list[Node]:
        nodes: list[Node] = []
        for part in body:
            if isinstance(part, SiteLoop):
                nodes.extend(self._loop(part))
            else:
                waits = self._tracker.visit(part)
                nodes.append(Step(part, tuple((q, p, ()) for q, p in waits)))
        return nodes

    def _iteration(self, loop: SiteLoop, number: int) -> list[Node]:
        self._tracker.counters[loop.index] = number
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
        seen: tuple[list[dict[int, int]], list[dict[int, int]]],
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
        if isinstance(node, Step):
            shape.append((node.site.number, tuple((q, slopes) for q, _, slopes in node.waits)))
            positions.extend(p for _, p, _ in node.waits)
        else:
            inner, found = _signature(node.body)
            shape.append((node.trip, inner))
            positions.extend(found)
    return tuple(shape), positions


def _sloped(nodes: list[Node], slopes: object) -> list[Node]:
    """Return the nodes as a loop body: each wait with its slope over the new outer loop."""
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, Step):
            waits = tuple((q, p, (next(slopes), *inner)) for q, p, inner in node.waits)  # type: ignore[call-overload]
            result.append(Step(node.site, waits))
        else:
            result.append(Repeated(node.trip, _sloped(node.body, slopes)))
    return result

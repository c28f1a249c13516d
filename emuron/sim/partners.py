"""What sites wait for besides their data: partners in other cores, and what kernels ask for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from emuron.errors import DeadlockError
from emuron.isa.affine import LoopIndex
from emuron.isa.meetings import CoreId, Meeting
from emuron.sim.sites import Run, SiteLoop, Sites

# The queue q of the core that is k numbers further on is called k * OTHER_CORE + q.
OTHER_CORE = 1 << 16


class Position(NamedTuple):
    """Where a site is in its queue: `base` plus a slope for each counter of the loops around it."""

    queue: int
    base: int
    slopes: tuple[int, ...]


@dataclass(slots=True, eq=False)
class _Occurrence:
    """A meeting in a program's text: its stages' positions, and the loops around it."""

    first: int  # site of the first stage
    loops: tuple[LoopIndex, ...]
    positions: list[Position] = field(default_factory=list)


_Topic = tuple[Hashable, tuple[CoreId, ...]]


def connect(cores: Sequence[Sites]) -> None:
    """Let the sites of all cores name what they wait for besides their data (`Sites.awaits`).

    The n-th meeting of a topic on one core is the n-th on the others; `Sites.further` names them.
    Raises DeadlockError where a partner never comes. Cores that are alike may be the same object.
    """
    own = {id(sites): number for number, sites in reversed(list(enumerate(cores)))}
    numbers = sorted(own.values())
    for sites in (cores[number] for number in numbers):
        if sites.program.orders and all(isinstance(part, Run) for part in sites.body):
            _order(sites)
    found = [_Meetings(sites, len(cores)).topics for sites in cores]
    for number in numbers:
        cores[number].further = [*cores[number + 1 :], *cores[:number]]
        for topic, occurrences in found[number].items():
            for ordinal, occurrence in enumerate(occurrences):
                _connect(cores[number], number, (topic, ordinal), occurrence, found)


def _order(sites: Sites) -> None:
    """Add the waits of `Program.orders`; those come from kernels by hand, which have no loops."""
    positions = np.zeros(len(sites), np.int64)
    for queue in range(len(sites.queue_names)):
        own = np.flatnonzero(sites.queue == queue)
        positions[own] = np.arange(len(own))
    for row, producers in sites.program.orders.items():
        site = sites.of_row(row).start
        needed: dict[int, int] = {}
        for producer in producers:
            earlier = sites.of_row(producer).stop - 1
            queue = int(sites.queue[earlier])
            if queue != sites.queue[site]:  # instructions of one queue are in order anyway
                needed[queue] = max(int(positions[earlier]), needed.get(queue, -1))
        if needed:
            sites.awaits[site] = [(q, position, ()) for q, position in sorted(needed.items())]


def _connect(
    sites: Sites,
    number: int,
    which: tuple[_Topic, int],
    occurrence: _Occurrence,
    found: Sequence[dict[_Topic, list[_Occurrence]]],
) -> None:
    topic, ordinal = which
    for i in range(len(occurrence.positions)):
        site = occurrence.first + i
        stage = sites.kinds.all[sites.kind[site]].stage
        assert stage is not None
        partners = []
        for core, other_stage in stage.awaits:
            others = found[core].get(topic, [])
            trips = [index.trip for index in occurrence.loops]
            if ordinal >= len(others) or [i.trip for i in others[ordinal].loops] != trips:
                raise DeadlockError(
                    f"core {number} waits in {sites.label(site)} (number {ordinal + 1}) for core "
                    f"{core}, which never comes. Let all cores issue the same meetings, in the "
                    "same loops."
                )
            queue, base, slopes = others[ordinal].positions[other_stage]
            away = (core - number) % len(found)
            terms = tuple(zip(occurrence.loops, slopes, strict=True))
            partners.append((away * OTHER_CORE + queue, base, terms))
        if partners:
            # By distance, so that cores that do the same have equal waits.
            nearest = sorted(partners, key=lambda partner: partner[0])
            sites.awaits.setdefault(site, []).extend(nearest)


class _Meetings:
    """The meetings of a program by topic, in the order of its text."""

    def __init__(self, sites: Sites, cores: int) -> None:
        self.topics: dict[_Topic, list[_Occurrence]] = {}
        self._sites, self._cores = sites, cores
        stage = [kind.stage is not None for kind in sites.kinds.all]
        self._is_stage = np.array(stage, np.bool_)[sites.kind]
        if any(stage):
            self._body(sites.body, dict.fromkeys(range(len(sites.queue_names)), 0), ())

    def _body(
        self,
        parts: list[Run | SiteLoop],
        issued: dict[int, int],
        loops: tuple[SiteLoop, ...],
    ) -> None:
        """Visit parts of which the first comes after `issued` instructions of each queue."""
        for part in parts:
            if isinstance(part, SiteLoop):
                self._body(part.body, dict(issued), (*loops, part))
                for queue, count in part.issues.items():
                    issued[queue] += count * part.index.trip
                continue
            self._run(part, issued, loops)
            queues, counts = np.unique(
                self._sites.queue[part.first : part.last], return_counts=True
            )
            for queue, count in zip(queues.tolist(), counts.tolist(), strict=True):
                issued[queue] += count

    def _run(self, run: Run, issued: dict[int, int], loops: tuple[SiteLoop, ...]) -> None:
        sites = self._sites
        queue = sites.queue[run.first : run.last]
        found = np.flatnonzero(self._is_stage[run.first : run.last])
        before = {q: np.cumsum(queue == q) for q in np.unique(queue[found]).tolist()}
        for place in found.tolist():
            site, own = run.first + place, int(queue[place])
            kind = sites.kinds.all[sites.kind[site]]
            if sites.kind[site] == sites.kinds.first[kind.form.id]:
                occurrence = _Occurrence(site, tuple(loop.index for loop in loops))
                example = kind.form.example
                assert isinstance(example, Meeting)
                topic = example.meets(sites.here, self._cores)
                self.topics.setdefault(topic, []).append(occurrence)
            base = issued[own] + int(before[own][place]) - 1
            slopes = tuple(loop.issues.get(own, 0) for loop in loops)
            occurrence.positions.append(Position(own, base, slopes))

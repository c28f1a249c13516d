"""Evidence: what the rules for hints look at, and the hint that they make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from emuron.trace.bounds import Bound
from emuron.trace.critical_path import CriticalPath
from emuron.trace.summary import Summary, queue_kind
from emuron.trace.waits import Wait
from emuron.trace.work import Figures, Traffic, Work


@dataclass(frozen=True, slots=True)
class Hint:
    """One thing to fix: the rule, where, what was measured, the gain at most, and the way out."""

    rule: str
    line: str
    engine: str
    measured: str
    quantities: Mapping[str, float]
    gain_ps: int
    way_out: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rules look at; `table_loads` counts activation-table loads by line."""

    summary: Summary
    figures: Figures
    works: tuple[Work, ...]
    traffic: tuple[Traffic, ...]
    waits: tuple[Wait, ...]
    critical: CriticalPath | None
    bounds: tuple[Bound, ...]
    table_loads: Mapping[str, int]

    def at_most(self, line: str, engine: str, ps: float, *, shorter: bool = True) -> int:
        """Return a gain in ps, no more than the line has on the critical path with that engine.

        No other resource may need longer for its work than what then is left; the engine itself
        neither, unless its own work gets `shorter`.
        """
        others = [b.least_ps for b in self.bounds if not (shorter and b.resource == engine)]
        room = self.summary.total_ps - max(others, default=0)
        if self.critical is None:
            return round(max(0, min(ps, room)))
        key = (line, engine)
        path = self.critical.busy_ps.get(key, 0) + self.critical.latency_ps.get(key, 0)
        return round(max(0, min(ps, room, path)))

    def on_path(self, engine: str) -> int:
        """Return an engine's time on the critical path; the whole run where it is not known."""
        if self.critical is None:
            return self.summary.total_ps
        times = (self.critical.busy_ps, self.critical.latency_ps)
        return sum(ps for part in times for (_, kind), ps in part.items() if kind == engine)

    def busy_ps(self, line: str, engine: str) -> int:
        """Return the time that an engine spent on a line."""
        found = (group for group in self.summary.groups if group.name == line)
        return sum(group.busy_ps.get(engine, 0) for group in found)

    def waited(self, of: Callable[[Wait], bool]) -> dict[tuple[str, str], tuple[int, int]]:
        """Return (time, events) of the chosen waits by the line and the kind waited for."""
        sums: dict[tuple[str, str], tuple[int, int]] = {}
        for wait in filter(of, self.waits):
            key = (wait.for_group, queue_kind(wait.for_queue))
            ps, events = sums.get(key, (0, 0))
            sums[key] = (ps + wait.wait_ps, events + wait.events)
        return sums

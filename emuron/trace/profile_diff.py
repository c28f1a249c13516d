"""Differences of two profiles: time, engines, bytes and hints, line by line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emuron.errors import UsageError
from emuron.trace.profile import FORMAT

_Document = Mapping[str, Any]
_NOTHING: _Document = {
    "share_us": 0.0,
    "critical_us": 0.0,
    "latency_us": 0.0,
    "busy_us": {},
    "dma_bytes": 0,
    "instructions": {},
}


@dataclass(frozen=True, slots=True)
class Change:
    """A figure before and after."""

    before: float
    after: float

    @property
    def difference(self) -> float:
        """What was added; negative for a saving."""
        return self.after - self.before

    def to_dict(self) -> dict[str, float | None]:
        """Return the json-able form; `ratio` is after over before, null from nothing."""
        ratio = self.after / self.before if self.before else None
        return {
            "before": self.before,
            "after": self.after,
            "difference": self.difference,
            "ratio": ratio,
        }


@dataclass(frozen=True, slots=True)
class LineChange:
    """A line of both profiles, or of one: matched by its text, so that it may have moved.

    `critical_us` includes the waiting on the critical path.
    """

    line_before: str | None
    line_after: str | None
    source: str
    share_us: Change
    critical_us: Change
    busy_us: Mapping[str, Change]
    dma_bytes: Change
    instructions: Change


@dataclass(frozen=True, slots=True)
class ProfileDiff:
    """What changed from one profile to another; lines by the size of the change."""

    totals: Mapping[str, Change]
    engines: Mapping[str, Change]
    lines: tuple[LineChange, ...]
    hints_gone: tuple[str, ...]
    hints_new: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the json-able form."""
        return {
            "totals": {name: change.to_dict() for name, change in self.totals.items()},
            "engines": {name: change.to_dict() for name, change in self.engines.items()},
            "lines": [_line_dict(line) for line in self.lines],
            "hints_gone": list(self.hints_gone),
            "hints_new": list(self.hints_new),
        }


def load_profile(path: Path) -> _Document:
    """Read a profile that `emuron kernel profile --json` printed; a UsageError for other files."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no profile ({error}).") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT or "lines" not in document:
        raise UsageError(
            f"{path} is no profile of format {FORMAT}, but of format {found}. "
            "Make one with: emuron kernel profile FILE --json > profile.json"
        )
    return dict(document)


def diff_profiles(before: _Document, after: _Document) -> ProfileDiff:
    """Return what changed between two profiles in their JSON form."""
    totals = ("time_us", "instructions", "dma_bytes", "hbm_bytes", "flops")
    kinds_before, kinds_after = _busy(before["engines"]), _busy(after["engines"])
    hints = [{f"{h['rule']} at {h['line']}" for h in p["hints"]} for p in (before, after)]
    return ProfileDiff(
        totals={name: Change(before[name], after[name]) for name in totals},
        engines=_changes(kinds_before, kinds_after),
        lines=_line_changes(before["lines"], after["lines"]),
        hints_gone=tuple(sorted(hints[0] - hints[1])),
        hints_new=tuple(sorted(hints[1] - hints[0])),
    )


def _busy(engines: Iterable[_Document]) -> dict[str, float]:
    busy: Counter[str] = Counter()
    for engine in engines:
        busy[engine["kind"]] += engine["busy_us"]
    return dict(busy)


def _changes(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Change]:
    names = dict.fromkeys([*before, *after])
    return {name: Change(before.get(name, 0), after.get(name, 0)) for name in names}


def _line_changes(
    before: Iterable[_Document], after: Iterable[_Document]
) -> tuple[LineChange, ...]:
    old, new = _by_text(before), _by_text(after)
    found = [_line_change(old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])]
    return tuple(sorted(found, key=lambda change: -abs(change.critical_us.difference)))


def _by_text(lines: Iterable[_Document]) -> dict[tuple[str, str, int], _Document]:
    """Return lines by file, text and how many equal ones came before."""
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for line in sorted(lines, key=_place):
        key = (_place(line)[0], line["source"] or line["line"])
        found[(*key, seen[key])] = line
        seen[key] += 1
    return found


def _place(line: _Document) -> tuple[str, int]:
    file, _, number = line["line"].rpartition(":")
    return file, int(number) if number.isdecimal() else 0


def _line_change(before: _Document | None, after: _Document | None) -> LineChange:
    old, new = before or _NOTHING, after or _NOTHING
    return LineChange(
        line_before=before["line"] if before else None,
        line_after=after["line"] if after else None,
        source=(after or before or {}).get("source", ""),
        share_us=Change(old["share_us"], new["share_us"]),
        critical_us=Change(_critical(old), _critical(new)),
        busy_us=_changes(old["busy_us"], new["busy_us"]),
        dma_bytes=Change(old["dma_bytes"], new["dma_bytes"]),
        instructions=Change(sum(old["instructions"].values()), sum(new["instructions"].values())),
    )


def _critical(line: _Document) -> float:
    """Return the line's time on the critical path, or its share where there is none."""
    if line["critical_us"] is None:
        return float(line["share_us"])
    return float(line["critical_us"] + line["latency_us"])


def _line_dict(line: LineChange) -> dict[str, Any]:
    return {
        "line_before": line.line_before,
        "line_after": line.line_after,
        "source": line.source,
        "share_us": line.share_us.to_dict(),
        "critical_us": line.critical_us.to_dict(),
        "busy_us": {engine: change.to_dict() for engine, change in line.busy_us.items()},
        "dma_bytes": line.dma_bytes.to_dict(),
        "instructions": line.instructions.to_dict(),
    }

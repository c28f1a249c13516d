"""Line use: what each source line of a kernel costs, and the text of that line."""

from __future__ import annotations

import linecache
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from emuron.trace.critical_path import CriticalPath
from emuron.trace.summary import IDLE, Summary, queue_kind
from emuron.trace.waits import Wait
from emuron.trace.work import Work

_OPENING, _CLOSING = tuple("([{"), tuple(")]}")
_MOST_ROWS = 20  # of a call


@dataclass(frozen=True, slots=True)
class Standstill:
    """Time that a line's instructions on one engine stood still for another line's on another."""

    engine: str
    for_line: str
    for_engine: str
    wait_ps: int
    events: int


@dataclass(frozen=True, slots=True)
class LineUse:
    """One source line, its share of the run, and what its instructions do and wait for.

    `share_ps` splits each instant equally among the lines active in it, so that the lines and the
    idle time add up to the run. `busy_ps` is the time of each kind of engine that is spent on the
    line. `critical_ps` and `latency_ps` are its time on the critical path, running and waiting
    for a result to arrive; None where the path is not known.
    """

    line: str
    path: str
    source: str
    instructions: Mapping[str, int]
    share_ps: float
    share: float
    active_ps: int
    busy_ps: Mapping[str, int]
    critical_ps: int | None
    latency_ps: int | None
    waits: tuple[Standstill, ...]
    dma_bytes: int
    flops: int


def source_line(line: str, files: Mapping[str, str]) -> tuple[str, str]:
    """Return the path and the text of a line called "file.py:12"; empty if there is none.

    A call that goes on over several lines is given whole, as one.
    """
    file, _, number = line.rpartition(":")
    path = files.get(file, "")
    if not path or not number.isdecimal():
        return path, ""
    text, depth = "", 0
    for row in range(int(number), int(number) + _MOST_ROWS):
        part = linecache.getline(path, row).strip()
        text += part if not text or text[-1] in _OPENING or part[:1] in _CLOSING else f" {part}"
        depth += sum(part.count(c) for c in _OPENING) - sum(part.count(c) for c in _CLOSING)
        if depth <= 0:
            break
    return path, text


def line_uses(
    summary: Summary,
    works: Iterable[Work],
    waits: Iterable[Wait],
    critical: CriticalPath | None,
    files: Mapping[str, str],
) -> tuple[LineUse, ...]:
    """Return the lines that did something, the largest share of the run first."""
    instructions: dict[str, dict[str, int]] = defaultdict(dict)
    for work in works:
        found = instructions[work.group]
        found[work.mnemonic] = found.get(work.mnemonic, 0) + work.count
    standstills = _standstills(waits)
    uses = []
    for group in summary.groups:
        if group.name == IDLE:
            continue
        path, source = source_line(group.name, files)
        uses.append(
            LineUse(
                line=group.name,
                path=path,
                source=source,
                instructions=instructions.get(group.name, {}),
                share_ps=group.share_ps,
                share=group.share,
                active_ps=group.active_ps,
                busy_ps=group.busy_ps,
                critical_ps=_of(critical.busy_ps, group.name) if critical else None,
                latency_ps=_of(critical.latency_ps, group.name) if critical else None,
                waits=tuple(standstills.get(group.name, ())),
                dma_bytes=group.bytes,
                flops=group.flops,
            )
        )
    return tuple(sorted(uses, key=lambda use: (-use.share_ps, use.line)))


def _of(times: Mapping[tuple[str, str], int], line: str) -> int:
    return sum(ps for (group, _), ps in times.items() if group == line)


def _standstills(waits: Iterable[Wait]) -> dict[str, list[Standstill]]:
    """Return the waits of each line's engines by what they waited for; other queues have none.

    A DMA ring that waits is no loss: it is one of many.
    """
    sums: dict[tuple[str, str, str, str], tuple[int, int]] = {}
    for wait in waits:
        engine = queue_kind(wait.queue)
        if engine in ("dma", "other"):
            continue
        key = (wait.group, engine, wait.for_group, queue_kind(wait.for_queue))
        ps, events = sums.get(key, (0, 0))
        sums[key] = (ps + wait.wait_ps, events + wait.events)
    found: dict[str, list[Standstill]] = defaultdict(list)
    for (line, engine, for_line, for_engine), (ps, events) in sorted(
        sums.items(), key=lambda item: -item[1][0]
    ):
        found[line].append(Standstill(engine, for_line, for_engine, ps, events))
    return found

"""Waits: what each event waited for, and where engines stand still for whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emuron.trace.trace import Trace

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wait:
    """Time that a line's events on one queue stood still for those of another line and queue.

    `until_end_ps` is the part in which the awaited event still ran; the rest is latency.
    """

    queue: str
    group: str
    for_queue: str
    for_group: str
    events: int
    wait_ps: int
    until_end_ps: int


@dataclass(frozen=True, slots=True, eq=False)
class Causes:
    """Of each event: the row that it could not start before (-1 if none), and its queue's idling.

    `idle_ps` is the time between the end of the event before it on its queue and its start.
    """

    row: Rows
    idle_ps: Rows


def find_causes(trace: Trace) -> Causes:
    """Return the cause of each event of a trace without repeats."""
    row, idle = np.full(len(trace), -1, np.int64), np.zeros(len(trace), np.int64)
    ordered = [_in_order(trace, queue) for queue in range(len(trace.queue_names))]
    for own in ordered:
        idle[own] = trace.start_ps[own] - np.append([0], trace.end_ps[own[:-1]])[: len(own)]
        before = np.append([-1], own[:-1])[: len(own)]
        mine = trace.blocker[own] == trace.queue[own]
        row[own[mine]] = before[mine]
    for queue, others in enumerate(ordered):
        held = np.flatnonzero((trace.blocker == queue) & (trace.queue != queue))
        if len(held) and len(others):
            ended = trace.start_ps[held] - trace.lag_ps[held]
            found = np.searchsorted(trace.end_ps[others], ended)
            row[held] = others[np.minimum(found, len(others) - 1)]
    return Causes(row, np.maximum(idle, 0))


def _in_order(trace: Trace, queue: int) -> Rows:
    """Return the rows of a queue in the order in which they ran."""
    rows = np.flatnonzero(trace.queue == queue)
    return rows[np.lexsort((trace.end_ps[rows], trace.start_ps[rows]))]


def find_waits(trace: Trace, causes: Causes) -> tuple[Wait, ...]:
    """Return who stood still for whom, the longest first."""
    held = np.flatnonzero((causes.row >= 0) & (causes.idle_ps > 0))
    other = causes.row[held]
    keys = np.stack([trace.queue[held], trace.group[held], trace.queue[other], trace.group[other]])
    distinct, index = np.unique(keys, axis=1, return_inverse=True)
    events = np.bincount(index.ravel(), minlength=distinct.shape[1])
    idle = np.zeros(distinct.shape[1], np.int64)
    running = np.zeros_like(idle)
    np.add.at(idle, index.ravel(), causes.idle_ps[held])
    latency = np.minimum(trace.lag_ps[held], causes.idle_ps[held])
    np.add.at(running, index.ravel(), causes.idle_ps[held] - latency)
    found = _waits(trace, distinct.T.tolist(), events.tolist(), idle.tolist(), running.tolist())
    return tuple(sorted(found, key=lambda wait: -wait.wait_ps))


def _waits(
    trace: Trace, keys: list[list[int]], events: list[int], idle: list[int], running: list[int]
) -> Iterator[Wait]:
    for (queue, group, for_queue, for_group), *sums in zip(
        keys, events, idle, running, strict=True
    ):
        yield Wait(
            trace.queue_names[queue],
            trace.groups[group],
            trace.queue_names[for_queue],
            trace.groups[for_group],
            *sums,
        )

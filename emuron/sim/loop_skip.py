"""Exact skipping of loop iterations whose state repeats."""

from __future__ import annotations

from emuron.sim.timing_layout import PAUSED, QUEUE, RUNNABLE, STATE, Tables


def at_boundaries(t: Tables) -> int:
    """Look for repetition at the back edges where queues pause; return whether any paused."""
    queues = t.queues
    paused = 0
    for queue in range(0, len(queues), QUEUE):
        if queues[queue + STATE] == PAUSED:
            queues[queue + STATE] = RUNNABLE
            paused = 1
    return paused

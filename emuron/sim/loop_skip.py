"""Exact skipping of loop iterations: where the state of a loop repeats, so does its future.

Queues pause at the back edges of loops. When the loop's leader does, the state of the loop's
queues (`capture`) is compared with an earlier one, all times relative to now and all positions to
the iteration. The engine computes with integers and nothing else, so an equal state proves that
what happened since will happen again and again, one period later each time; whole periods are then
left out by shifting times and positions, and the history remembers them as a segment. The queues
outside the loop must not interfere meanwhile: `periods` makes sure.
"""

from __future__ import annotations

from emuron.sim.loop_state import capture, head, known_time, loop_of, moves_bytes
from emuron.sim.timing_layout import (
    BLOCK_POSITION,
    BLOCK_QUEUE,
    BLOCKED,
    BODY,
    BODY_END,
    BUSY,
    COUNT,
    DELAY,
    DIRECT,
    EVENT,
    EVENT_START,
    FIRST,
    FLOWING,
    FREE,
    FROM,
    HISTORY,
    IS_DMA,
    ISSUED,
    ISSUES,
    KNOWN,
    LAST_DONE,
    LAST_REPEAT,
    LAST_START,
    LEADER,
    LOOP_RECORD,
    LOOPS_TO,
    MISSES,
    MOST_MISSES,
    NEST,
    NEXT_SAVE,
    NEXT_WAIT,
    NOW,
    NUMBER,
    PAUSED,
    PAUSED_AT,
    PERIOD_PS,
    POSITION,
    PREVIOUS,
    QUEUE,
    QUEUE_COUNT,
    QUEUES_FROM,
    QUEUES_TO,
    READY,
    REPEAT,
    REPEAT_COUNT,
    REPEAT_PERIOD,
    REPEAT_PREVIOUS,
    REPEAT_QUEUE,
    REPEAT_START,
    REPEAT_STOP,
    ROOM,
    RUNNABLE,
    SAVED,
    SAVED_AT,
    SCRATCH,
    SEARCHING,
    SEGMENT,
    SEGMENT_BASE,
    SEGMENTS,
    SKIPPED,
    SLOPES,
    SPAN,
    STACK,
    STATE,
    STATE_SIZE,
    TO,
    TRIP,
    USED,
    WAIT,
    WAIT_QUEUE,
    WAITS_FROM,
    WAITS_TO,
    Ints,
)


def at_boundaries(m: Ints, h: Ints, g: Ints) -> int:
    """Look for repetition where queues pause, and let them go on.

    Returns 0 if none pauses, 2 if the tables must grow first, else 1.
    """
    paused = 0
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        if m[queue + STATE] == PAUSED:
            nest = m[m[queue + PAUSED_AT] + NEST]
            if m[nest + LEADER] == queue:
                if not has_room(m, h, g):
                    return 2
                search(m, h, g, nest)
            paused = 1
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        if m[queue + STATE] == PAUSED:
            m[queue + STATE] = RUNNABLE
    return paused


def has_room(m: Ints, h: Ints, g: Ints) -> bool:
    """Return whether one more skip and one more saved state fit into the tables."""
    most = m[QUEUE_COUNT] * (SEGMENT + REPEAT) + m[STATE_SIZE]
    return bool(m[USED] + most <= len(g))


def search(m: Ints, h: Ints, g: Ints, nest: int) -> None:
    """Compare a loop's state with the saved one; skip if it repeats, save it now and then."""
    leader = loop_of(m, nest, m[nest + LEADER])
    count = m[leader + COUNT]
    if count == 1:
        m[nest + SAVED] = 0
        m[nest + NEXT_SAVE] = 1
    if m[leader + TRIP] - count < 2:
        return
    size = capture(m, h, g, nest, count)
    if size == 0:
        return
    if m[nest + SAVED] == size and repeats(m, h, g, m[nest + SAVED_AT], size):
        if skip(m, h, g, nest, count):
            m[nest + SAVED] = 0
            m[nest + NEXT_SAVE] = 0
            m[nest + MISSES] = 0
            return
    else:
        m[nest + MISSES] += 1
        if m[nest + MISSES] > MOST_MISSES:
            m[nest + SEARCHING] = 0
    if count >= m[nest + NEXT_SAVE]:
        # Brent: a state saved at powers of two meets every period sooner or later.
        m[nest + NEXT_SAVE] = 2 * count
        save(m, h, g, nest, size)


def save(m: Ints, h: Ints, g: Ints, nest: int, size: int) -> None:
    """Keep the captured state of a loop."""
    if size > m[nest + ROOM]:
        m[nest + SAVED_AT] = m[USED]
        m[nest + ROOM] = size
        m[USED] += size
    first = m[nest + SAVED_AT]
    for i in range(size):
        g[first + i] = m[m[SCRATCH] + i]
    m[nest + SAVED] = size


def repeats(m: Ints, h: Ints, g: Ints, saved: int, size: int) -> bool:
    """Return whether the captured state equals the saved one; the head is no part of it."""
    for i in range(head(m), size):  # noqa: SIM110  (numba compiles no generators)
        if g[saved + i] != m[m[SCRATCH] + i]:
            return False
    return True


def skip(m: Ints, h: Ints, g: Ints, nest: int, count: int) -> bool:
    """Leave out as many whole periods of a loop as possible; return whether there are any."""
    saved = m[nest + SAVED_AT]
    period_ps = m[m[SCRATCH]] - g[saved]
    iterations = count - g[saved + 1]
    if period_ps <= 0 or iterations <= 0:
        return False
    number = periods(m, h, g, nest, iterations)
    if number < 1:
        return False
    with_dma = moves_bytes(m, nest)
    # Who takes part is decided before anything is shifted.
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        m[m[STACK] + m[queue + NUMBER]] = loop_of(m, nest, queue)
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        loop = m[m[STACK] + m[queue + NUMBER]]
        if loop >= 0:
            entry = saved + 2 + 2 * m[queue + NUMBER]
            m[queue + BUSY] += number * (m[queue + BUSY] - g[entry])
            remember(m, h, g, queue, g[entry + 1], number, period_ps)
            shift_queue(m, h, g, queue, loop, number * iterations, number * period_ps)
            forget_inner(m, loop)
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        loop = m[m[STACK] + m[queue + NUMBER]]
        if loop >= 0 and m[queue + STATE] == BLOCKED:
            repoint(m, queue, number * iterations * m[loop + ISSUES])
    if with_dma:
        m[NOW] += number * period_ps
    return True


def remember(
    m: Ints, h: Ints, g: Ints, queue: int, since: int, number: int, period_ps: int
) -> None:
    """Note for the trace that a queue's events since a saved state repeat."""
    until = m[queue + HISTORY] + m[queue + KNOWN] - m[queue + FIRST]
    if until == since:
        return
    entry = m[USED]
    m[USED] = entry + REPEAT
    g[entry + REPEAT_QUEUE] = m[queue + NUMBER]
    g[entry + REPEAT_START] = since
    g[entry + REPEAT_STOP] = until
    g[entry + REPEAT_PERIOD] = period_ps
    g[entry + REPEAT_COUNT] = number + 1
    g[entry + REPEAT_PREVIOUS] = m[LAST_REPEAT]
    m[LAST_REPEAT] = entry


def shift_queue(
    m: Ints, h: Ints, g: Ints, queue: int, loop: int, iterations: int, time_ps: int
) -> None:
    """Put a queue the given iterations further in a loop, and later by the given time."""
    moved = iterations * m[loop + ISSUES]
    first = m[queue + HISTORY] + m[queue + KNOWN]
    for index in range(first, first + m[queue + ISSUED] - m[queue + KNOWN]):
        h[EVENT * index] += time_ps
    if m[queue + FLOWING] == 1:
        h[EVENT * first + EVENT_START] += time_ps
    segment = m[USED]
    m[USED] = segment + SEGMENT
    saved = m[m[loop + NEST] + SAVED_AT]
    g[segment + FROM] = m[queue + KNOWN]
    g[segment + TO] = m[queue + KNOWN] + moved
    g[segment + SPAN] = m[loop + ISSUES] * (m[m[SCRATCH] + 1] - g[saved + 1])
    g[segment + PERIOD_PS] = m[m[SCRATCH]] - g[saved]
    g[segment + SEGMENT_BASE] = m[queue + HISTORY]
    g[segment + PREVIOUS] = m[queue + SEGMENTS]
    m[queue + SEGMENTS] = segment
    m[queue + DIRECT] = m[queue + KNOWN] + moved
    m[queue + HISTORY] -= moved
    m[queue + KNOWN] += moved
    m[queue + ISSUED] += moved
    m[SKIPPED] += moved
    for field in (FREE, READY, LAST_DONE, LAST_START):
        m[queue + field] += time_ps
    m[loop + COUNT] += iterations
    start = m[loop + WAITS_FROM]
    for wait in range(start, m[loop + WAITS_TO], WAIT):
        slope = m[m[loop + SLOPES] + (wait - start) // WAIT]
        m[wait + POSITION] += iterations * slope


def forget_inner(m: Ints, loop: int) -> None:
    """Drop the saved states of the loops inside a loop: their times are from before a skip."""
    inner = loop + LOOP_RECORD
    while inner < m[LOOPS_TO] and m[inner + BODY] <= m[loop + BODY_END]:
        m[m[inner + NEST] + SAVED] = 0
        m[m[inner + NEST] + NEXT_SAVE] = 0
        inner += LOOP_RECORD


def repoint(m: Ints, queue: int, moved: int) -> None:
    """Renew what a blocked queue waits for after a skip."""
    if m[queue + BLOCK_QUEUE] == queue and m[queue + IS_DMA] == 1:
        m[queue + BLOCK_POSITION] += moved
    else:
        m[queue + BLOCK_POSITION] = m[m[queue + NEXT_WAIT] + POSITION]


def periods(m: Ints, h: Ints, g: Ints, nest: int, iterations: int) -> int:
    """Return how many periods of the given iterations can be left out."""
    number = 1 << 60
    with_dma = moves_bytes(m, nest)
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        loop = loop_of(m, nest, queue)
        if loop >= 0:
            left = m[loop + TRIP] - 1 - m[loop + COUNT]
            number = min(number, left // iterations)
        elif with_dma and m[queue + STATE] == BLOCKED:
            # A queue outside that waits for one inside must still wait at the end.
            other = m[queue + BLOCK_QUEUE]
            inside = loop_of(m, nest, other)
            if inside >= 0:
                ahead = m[queue + BLOCK_POSITION] - m[other + KNOWN]
                number = min(number, ahead // (iterations * m[inside + ISSUES]))
    while number > 0 and not independent(m, h, g, nest, number * iterations):
        number //= 2
    return number


def independent(m: Ints, h: Ints, g: Ints, nest: int, iterations: int) -> bool:
    """Return whether what a loop waits for from elsewhere is long done, so many iterations on."""
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        loop = loop_of(m, nest, queue)
        if loop < 0:
            continue
        first = m[loop + WAITS_FROM]
        for wait in range(first, m[loop + WAITS_TO], WAIT):
            other = m[wait + WAIT_QUEUE]
            inside = loop_of(m, nest, other)
            slope = m[m[loop + SLOPES] + (wait - first) // WAIT]
            if inside >= 0 and slope == m[inside + ISSUES]:
                continue
            furthest = m[wait + POSITION] + max(0, slope) * (iterations + 1)
            furthest += inner_reach(m, loop, wait)
            if furthest >= m[other + KNOWN]:
                return False
            if known_time(m, h, g, other, furthest) + m[wait + DELAY] > m[queue + FREE]:
                return False
    return True


def inner_reach(m: Ints, loop: int, wait: int) -> int:
    """Return how far the loops inside a loop may move a wait's position on."""
    reach = 0
    inner = loop + LOOP_RECORD
    while inner < m[LOOPS_TO] and m[inner + BODY] <= m[loop + BODY_END]:
        if m[inner + WAITS_FROM] <= wait < m[inner + WAITS_TO]:
            place = m[inner + SLOPES] + (wait - m[inner + WAITS_FROM]) // WAIT
            reach += max(0, m[place]) * m[inner + TRIP]
        inner += LOOP_RECORD
    return reach

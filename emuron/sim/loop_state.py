"""The state of a loop in the timing engine, all that its queues' future depends on.

Times are relative to a reference time and loop counters to the leader's, so that the states of two
iterations are equal where what follows is the same but for a shift.
"""

from __future__ import annotations

from emuron.sim.timing_layout import (
    BODY,
    BODY_END,
    BUSY,
    COUNT,
    DEPTH,
    DIRECT,
    EVENT,
    EVENT_ROW,
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
    LAST_START,
    LEADER,
    LEFT,
    LOOP_RECORD,
    LOOPS_TO,
    MOST_HISTORY,
    NEXT_WAIT,
    NOW,
    NUMBER,
    PARENT,
    PAUSED,
    PC,
    PERIOD_PS,
    POSITION,
    PREVIOUS,
    PROJECTIONS,
    QUEUE,
    QUEUE_COUNT,
    QUEUES_FROM,
    QUEUES_TO,
    READY,
    SCRATCH,
    SEGMENT_BASE,
    SEGMENTS,
    SLOPES,
    SPAN,
    STATE,
    TABLE,
    TO,
    WAIT,
    WAIT_QUEUE,
    WAITS_FROM,
    WAITS_TO,
    WARM,
    Ints,
)


def completion(m: Ints, h: Ints, g: Ints, queue: int, position: int) -> int:
    """Return the completion time at a position before the directly held part of the history."""
    shift = 0
    segment = m[queue + SEGMENTS]
    while segment >= 0:
        if position >= g[segment + FROM]:
            periods = (position - g[segment + FROM]) // g[segment + SPAN] + 1
            position -= periods * g[segment + SPAN]
            shift += periods * g[segment + PERIOD_PS]
        else:
            previous = g[segment + PREVIOUS]
            if previous < 0 or position >= g[previous + TO]:
                return shift + int(h[EVENT * (g[segment + SEGMENT_BASE] + position)])
            segment = previous
    return shift + int(h[EVENT * (m[queue + HISTORY] + position)])


def known_time(m: Ints, h: Ints, g: Ints, queue: int, position: int) -> int:
    """Return the completion time at a known position."""
    if position >= m[queue + DIRECT]:
        return int(h[EVENT * (m[queue + HISTORY] + position)])
    return completion(m, h, g, queue, position)


def loop_of(m: Ints, nest: int, queue: int) -> int:
    """Return a queue's record of a loop if it is in the leader's run of it, else -1."""
    loop = m[m[nest + PROJECTIONS] + m[queue + NUMBER]]
    if loop < 0 or not m[loop + BODY] <= m[queue + PC] <= m[loop + BODY_END]:
        return -1
    outer = m[loop + PARENT]
    leading = m[m[m[nest + PROJECTIONS] + m[m[nest + LEADER] + NUMBER]] + PARENT]
    while outer >= 0:
        if m[outer + COUNT] != m[leading + COUNT]:
            return -1
        outer, leading = m[outer + PARENT], m[leading + PARENT]
    return int(loop)


def moves_bytes(m: Ints, nest: int) -> bool:
    """Return whether DMA rings take part in a loop."""
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        if m[queue + IS_DMA] == 1 and loop_of(m, nest, queue) >= 0:
            return True
    return False


def reference_time(m: Ints, nest: int) -> int:
    """Return a time before which nothing more happens to the queues of a loop."""
    soonest = m[m[nest + LEADER] + FREE]
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        if loop_of(m, nest, queue) < 0:
            continue
        if m[queue + STATE] == PAUSED:
            soonest = min(soonest, m[queue + FREE])
        if m[queue + IS_DMA] == 1 and m[queue + KNOWN] < m[queue + ISSUED]:
            soonest = min(soonest, m[NOW])
    return int(soonest)


def head(m: Ints) -> int:
    """Return the length of a state's head: its time, its iteration, two values for each queue."""
    return int(2 + 2 * m[QUEUE_COUNT])


def capture(m: Ints, h: Ints, g: Ints, nest: int, count: int) -> int:
    """Write the state of a loop's queues to `scratch`; return its size, 0 if it has none."""
    now = reference_time(m, nest)
    with_dma = moves_bytes(m, nest)
    m[m[SCRATCH]], m[m[SCRATCH] + 1] = now, count
    size = head(m)
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        loop = loop_of(m, nest, queue)
        entry = 2 + 2 * m[queue + NUMBER]
        m[m[SCRATCH] + entry] = m[queue + BUSY]
        m[m[SCRATCH] + entry + 1] = m[queue + HISTORY] + m[queue + KNOWN] - m[queue + FIRST]
        if loop < 0:
            if with_dma and interferes(m, queue):
                return 0
            m[m[SCRATCH] + size] = m[queue + ISSUED] if with_dma else -1
            size += 1
            continue
        size = capture_queue(m, h, g, queue, loop, now, size)
        m[m[SCRATCH] + size] = m[loop + COUNT] - count
        size = capture_history(m, h, g, nest, queue, now, size + 1)
        if size < 0:
            return 0
    if with_dma:
        m[m[SCRATCH] + size] = m[NOW] - now
        size += 1
    return size


def interferes(m: Ints, queue: int) -> bool:
    """Return whether a queue outside a loop may move bytes or go on while the loop runs."""
    if m[queue + STATE] == PAUSED:
        return True
    return bool(m[queue + IS_DMA] == 1 and m[queue + KNOWN] < m[queue + ISSUED])


def capture_queue(m: Ints, h: Ints, g: Ints, queue: int, loop: int, now: int, size: int) -> int:
    """Write the state of one queue in a loop; return the size of the state so far."""
    for field in (PC, STATE, NEXT_WAIT, TABLE, WARM, FLOWING, LEFT):
        m[m[SCRATCH] + size] = m[queue + field]
        size += 1
    for field in (FREE, LAST_DONE, LAST_START):
        m[m[SCRATCH] + size] = m[queue + field] - now
        size += 1
    m[m[SCRATCH] + size] = max(0, m[queue + READY] - now)
    m[m[SCRATCH] + size + 1] = m[queue + ISSUED] - m[queue + KNOWN]
    size += 2
    inner = loop + LOOP_RECORD
    while inner < m[LOOPS_TO] and m[inner + BODY] <= m[loop + BODY_END]:
        m[m[SCRATCH] + size] = m[inner + COUNT]
        size += 1
        inner += LOOP_RECORD
    first = m[queue + HISTORY] + m[queue + KNOWN]
    for index in range(first, first + m[queue + ISSUED] - m[queue + KNOWN]):
        m[m[SCRATCH] + size] = h[EVENT * index + EVENT_ROW]
        m[m[SCRATCH] + size + 1] = max(h[EVENT * index], m[NOW]) - now
        size += 2
    if m[queue + FLOWING] == 1:
        m[m[SCRATCH] + size] = h[EVENT * first + EVENT_START] - now
        size += 1
    return size


def capture_history(m: Ints, h: Ints, g: Ints, nest: int, queue: int, now: int, size: int) -> int:
    """Write the completion times after `now` that the loop may still ask for; -1 if too many."""
    lowest = m[queue + KNOWN]
    own = loop_of(m, nest, queue)
    for other in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        loop = loop_of(m, nest, other)
        if loop < 0:
            continue
        first = m[loop + WAITS_FROM]
        for wait in range(first, m[loop + WAITS_TO], WAIT):
            if m[wait + WAIT_QUEUE] != queue:
                continue
            slope = m[m[loop + SLOPES] + (wait - first) // WAIT]
            if slope == m[own + ISSUES]:
                lowest = min(lowest, m[wait + POSITION])
    if m[queue + IS_DMA] == 1:
        lowest = min(lowest, m[queue + ISSUED] - m[DEPTH])
    position = m[queue + KNOWN] - 1
    while position >= max(0, lowest):
        time = known_time(m, h, g, queue, position)
        if time <= now:
            break
        if m[queue + KNOWN] - position > MOST_HISTORY:
            return -1
        m[m[SCRATCH] + size] = time - now
        size += 1
        position -= 1
    m[m[SCRATCH] + size] = -1
    return size + 1

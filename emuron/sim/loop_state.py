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
    NEST_RECORD,
    NEXT_WAIT,
    NOW,
    NUMBER,
    PARENT,
    PAUSED,
    PC,
    PERIOD_PS,
    POSITION,
    PREVIOUS,
    QUEUE,
    READY,
    SEGMENT_BASE,
    SEGMENTS,
    SLOPES,
    SPAN,
    STATE,
    STATE_SIZE,
    TABLE,
    TO,
    WAIT,
    WAIT_QUEUE,
    WAITS_FROM,
    WAITS_TO,
    WARM,
    Tables,
)


def completion(t: Tables, queue: int, position: int) -> int:
    """Return the completion time at a position before the directly held part of the history."""
    segments, shift = t.segments, 0
    segment = t.queues[queue + SEGMENTS]
    while segment >= 0:
        if position >= segments[segment + FROM]:
            periods = (position - segments[segment + FROM]) // segments[segment + SPAN] + 1
            position -= periods * segments[segment + SPAN]
            shift += periods * segments[segment + PERIOD_PS]
        else:
            previous = segments[segment + PREVIOUS]
            if previous < 0 or position >= segments[previous + TO]:
                return shift + int(t.done[segments[segment + SEGMENT_BASE] + position])
            segment = previous
    return shift + int(t.done[t.queues[queue + HISTORY] + position])


def known_time(t: Tables, queue: int, position: int) -> int:
    """Return the completion time at a known position."""
    if position >= t.queues[queue + DIRECT]:
        return int(t.done[t.queues[queue + HISTORY] + position])
    return completion(t, queue, position)


def loop_of(t: Tables, nest: int, queue: int) -> int:
    """Return a queue's record of a loop if it is in the leader's run of it, else -1."""
    queues, loops = t.queues, t.loops
    count = len(queues) // QUEUE
    number = nest // NEST_RECORD * count
    loop = t.projections[number + queues[queue + NUMBER]]
    if loop < 0 or not loops[loop + BODY] <= queues[queue + PC] <= loops[loop + BODY_END]:
        return -1
    outer = loops[loop + PARENT]
    leading = loops[t.projections[number + queues[t.nests[nest + LEADER] + NUMBER]] + PARENT]
    while outer >= 0:
        if loops[outer + COUNT] != loops[leading + COUNT]:
            return -1
        outer, leading = loops[outer + PARENT], loops[leading + PARENT]
    return int(loop)


def moves_bytes(t: Tables, nest: int) -> bool:
    """Return whether DMA rings take part in a loop."""
    for queue in range(0, len(t.queues), QUEUE):
        if t.queues[queue + IS_DMA] == 1 and loop_of(t, nest, queue) >= 0:
            return True
    return False


def reference_time(t: Tables, nest: int) -> int:
    """Return a time before which nothing more happens to the queues of a loop."""
    queues = t.queues
    soonest = queues[t.nests[nest + LEADER] + FREE]
    for queue in range(0, len(queues), QUEUE):
        if loop_of(t, nest, queue) < 0:
            continue
        if queues[queue + STATE] == PAUSED:
            soonest = min(soonest, queues[queue + FREE])
        if queues[queue + IS_DMA] == 1 and queues[queue + KNOWN] < queues[queue + ISSUED]:
            soonest = min(soonest, t.clock[NOW])
    return int(soonest)


def head(t: Tables) -> int:
    """Return the length of a state's head: its time, its iteration, two values for each queue."""
    return 2 + 2 * (len(t.queues) // QUEUE)


def capture(t: Tables, nest: int, count: int) -> int:
    """Write the state of a loop's queues to `scratch`; return its size, 0 if it has none."""
    queues, scratch = t.queues, t.scratch
    now = reference_time(t, nest)
    with_dma = moves_bytes(t, nest)
    scratch[0], scratch[1] = now, count
    size = head(t)
    for queue in range(0, len(queues), QUEUE):
        loop = loop_of(t, nest, queue)
        entry = 2 + 2 * queues[queue + NUMBER]
        scratch[entry] = queues[queue + BUSY]
        scratch[entry + 1] = queues[queue + HISTORY] + queues[queue + KNOWN] - queues[queue + FIRST]
        if loop < 0:
            if with_dma and interferes(t, queue):
                return 0
            scratch[size] = queues[queue + ISSUED] if with_dma else -1
            size += 1
            continue
        size = capture_queue(t, queue, loop, now, size)
        scratch[size] = t.loops[loop + COUNT] - count
        size = capture_history(t, nest, queue, now, size + 1)
        if size < 0:
            return 0
    if with_dma:
        scratch[size] = t.clock[NOW] - now
        size += 1
    return size


def interferes(t: Tables, queue: int) -> bool:
    """Return whether a queue outside a loop may move bytes or go on while the loop runs."""
    queues = t.queues
    if queues[queue + STATE] == PAUSED:
        return True
    return bool(queues[queue + IS_DMA] == 1 and queues[queue + KNOWN] < queues[queue + ISSUED])


def capture_queue(t: Tables, queue: int, loop: int, now: int, size: int) -> int:
    """Write the state of one queue in a loop; return the size of the state so far."""
    queues, scratch, loops = t.queues, t.scratch, t.loops
    for field in (PC, STATE, NEXT_WAIT, TABLE, WARM, FLOWING, LEFT):
        scratch[size] = queues[queue + field]
        size += 1
    for field in (FREE, LAST_DONE, LAST_START):
        scratch[size] = queues[queue + field] - now
        size += 1
    scratch[size] = max(0, queues[queue + READY] - now)
    scratch[size + 1] = queues[queue + ISSUED] - queues[queue + KNOWN]
    size += 2
    inner = loop + LOOP_RECORD
    while inner < len(loops) and loops[inner + BODY] <= loops[loop + BODY_END]:
        scratch[size] = loops[inner + COUNT]
        size += 1
        inner += LOOP_RECORD
    first = queues[queue + HISTORY] + queues[queue + KNOWN]
    for index in range(first, first + queues[queue + ISSUED] - queues[queue + KNOWN]):
        scratch[size] = t.row_of[index]
        scratch[size + 1] = max(t.done[index], t.clock[NOW]) - now
        size += 2
    if queues[queue + FLOWING] == 1:
        scratch[size] = t.start[first] - now
        size += 1
    return size


def capture_history(t: Tables, nest: int, queue: int, now: int, size: int) -> int:
    """Write the completion times after `now` that the loop may still ask for; -1 if too many."""
    queues = t.queues
    lowest = queues[queue + KNOWN]
    own = loop_of(t, nest, queue)
    for other in range(0, len(queues), QUEUE):
        loop = loop_of(t, nest, other)
        if loop < 0:
            continue
        first = t.loops[loop + WAITS_FROM]
        for wait in range(first, t.loops[loop + WAITS_TO], WAIT):
            if t.waits[wait + WAIT_QUEUE] != queue:
                continue
            slope = t.slopes[t.loops[loop + SLOPES] + (wait - first) // WAIT]
            if slope == t.loops[own + ISSUES]:
                lowest = min(lowest, t.waits[wait + POSITION])
    if queues[queue + IS_DMA] == 1:
        lowest = min(lowest, queues[queue + ISSUED] - t.clock[DEPTH])
    position = queues[queue + KNOWN] - 1
    while position >= max(0, lowest):
        time = known_time(t, queue, position)
        if time <= now:
            break
        if size >= t.clock[STATE_SIZE] // 2:
            return -1
        t.scratch[size] = time - now
        size += 1
        position -= 1
    t.scratch[size] = -1
    return size + 1

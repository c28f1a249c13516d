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
    LOOP_RECORD,
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
    READY,
    REPEAT,
    REPEAT_COUNT,
    REPEAT_PERIOD,
    REPEAT_QUEUE,
    REPEAT_START,
    REPEAT_STOP,
    REPEATS,
    RUNNABLE,
    SAVED,
    SAVED_AT,
    SEARCHING,
    SEGMENT,
    SEGMENT_BASE,
    SEGMENT_COUNT,
    SEGMENTS,
    SKIPPED,
    SLOPES,
    SPAN,
    STATE,
    STATE_COUNT,
    STATE_SIZE,
    TO,
    TRIP,
    WAIT,
    WAIT_QUEUE,
    WAITS_FROM,
    WAITS_TO,
    Tables,
)


def at_boundaries(t: Tables) -> int:
    """Look for repetition where queues pause, and let them go on.

    Returns 0 if none pauses, 2 if the tables must grow first, else 1.
    """
    queues = t.queues
    paused = 0
    for queue in range(0, len(queues), QUEUE):
        if queues[queue + STATE] == PAUSED:
            nest = t.loops[queues[queue + PAUSED_AT] + NEST]
            if t.nests[nest + LEADER] == queue:
                if not has_room(t):
                    return 2
                search(t, nest)
            paused = 1
    for queue in range(0, len(queues), QUEUE):
        if queues[queue + STATE] == PAUSED:
            queues[queue + STATE] = RUNNABLE
    return paused


def has_room(t: Tables) -> bool:
    """Return whether one more skip and one more saved state fit into the tables."""
    number = len(t.queues) // QUEUE
    clock = t.clock
    return bool(
        clock[SEGMENT_COUNT] + number * SEGMENT <= len(t.segments)
        and clock[REPEATS] + number * REPEAT <= len(t.repeats)
        and clock[STATE_COUNT] + clock[STATE_SIZE] <= len(t.states)
    )


def search(t: Tables, nest: int) -> None:
    """Compare a loop's state with the saved one; skip if it repeats, save it now and then."""
    nests = t.nests
    leader = loop_of(t, nest, nests[nest + LEADER])
    count = t.loops[leader + COUNT]
    if count == 1:
        nests[nest + SAVED] = 0
        nests[nest + NEXT_SAVE] = 1
    if t.loops[leader + TRIP] - count < 2:
        return
    size = capture(t, nest, count)
    if size == 0:
        return
    if nests[nest + SAVED] == size and repeats(t, nests[nest + SAVED_AT], size):
        if skip(t, nest, count):
            nests[nest + SAVED] = 0
            nests[nest + NEXT_SAVE] = 0
            nests[nest + MISSES] = 0
            return
    else:
        nests[nest + MISSES] += 1
        if nests[nest + MISSES] > MOST_MISSES:
            nests[nest + SEARCHING] = 0
    if count >= nests[nest + NEXT_SAVE]:
        # Brent: a state saved at powers of two meets every period sooner or later.
        nests[nest + NEXT_SAVE] = 2 * count
        save(t, nest, size)


def save(t: Tables, nest: int, size: int) -> None:
    """Keep the captured state of a loop."""
    nests = t.nests
    if nests[nest + SAVED_AT] < 0:
        nests[nest + SAVED_AT] = t.clock[STATE_COUNT]
        t.clock[STATE_COUNT] += t.clock[STATE_SIZE]
    first = nests[nest + SAVED_AT]
    for i in range(size):
        t.states[first + i] = t.scratch[i]
    nests[nest + SAVED] = size


def repeats(t: Tables, saved: int, size: int) -> bool:
    """Return whether the captured state equals the saved one; the head is no part of it."""
    for i in range(head(t), size):  # noqa: SIM110  (numba compiles no generators)
        if t.states[saved + i] != t.scratch[i]:
            return False
    return True


def skip(t: Tables, nest: int, count: int) -> bool:
    """Leave out as many whole periods of a loop as possible; return whether there are any."""
    queues, clock = t.queues, t.clock
    saved = t.nests[nest + SAVED_AT]
    period_ps = t.scratch[0] - t.states[saved]
    iterations = count - t.states[saved + 1]
    if period_ps <= 0 or iterations <= 0:
        return False
    number = periods(t, nest, iterations)
    if number < 1:
        return False
    with_dma = moves_bytes(t, nest)
    # Who takes part is decided before anything is shifted.
    members = len(queues) // QUEUE
    for queue in range(0, len(queues), QUEUE):
        t.stack[queues[queue + NUMBER]] = loop_of(t, nest, queue)
    for i in range(members):
        loop = t.stack[i]
        if loop >= 0:
            entry = saved + 2 + 2 * i
            busy = queues[i * QUEUE + BUSY] - t.states[entry]
            queues[i * QUEUE + BUSY] += number * busy
            remember(t, i * QUEUE, t.states[entry + 1], number, period_ps)
            shift_queue(t, i * QUEUE, loop, number * iterations, number * period_ps)
            forget_inner(t, loop)
    for i in range(members):
        queue = i * QUEUE
        if t.stack[i] >= 0 and queues[queue + STATE] == BLOCKED:
            repoint(t, queue, number * iterations * t.loops[t.stack[i] + ISSUES])
    if with_dma:
        clock[NOW] += number * period_ps
    return True


def remember(t: Tables, queue: int, since: int, number: int, period_ps: int) -> None:
    """Note for the trace that a queue's events since a saved state repeat."""
    entry = t.clock[REPEATS]
    queues = t.queues
    until = queues[queue + HISTORY] + queues[queue + KNOWN] - queues[queue + FIRST]
    if until == since:
        return
    t.repeats[entry + REPEAT_QUEUE] = queues[queue + NUMBER]
    t.repeats[entry + REPEAT_START] = since
    t.repeats[entry + REPEAT_STOP] = until
    t.repeats[entry + REPEAT_PERIOD] = period_ps
    t.repeats[entry + REPEAT_COUNT] = number + 1
    t.clock[REPEATS] = entry + REPEAT


def shift_queue(t: Tables, queue: int, loop: int, iterations: int, time_ps: int) -> None:
    """Put a queue the given iterations further in a loop, and later by the given time."""
    queues, loops, segments = t.queues, t.loops, t.segments
    moved = iterations * loops[loop + ISSUES]
    first = queues[queue + HISTORY] + queues[queue + KNOWN]
    for index in range(first, first + queues[queue + ISSUED] - queues[queue + KNOWN]):
        t.done[index] += time_ps
    if queues[queue + FLOWING] == 1:
        t.start[first] += time_ps
    segment = t.clock[SEGMENT_COUNT]
    t.clock[SEGMENT_COUNT] = segment + SEGMENT
    saved = t.nests[loops[loop + NEST] + SAVED_AT]
    segments[segment + FROM] = queues[queue + KNOWN]
    segments[segment + TO] = queues[queue + KNOWN] + moved
    segments[segment + SPAN] = loops[loop + ISSUES] * (t.scratch[1] - t.states[saved + 1])
    segments[segment + PERIOD_PS] = t.scratch[0] - t.states[saved]
    segments[segment + SEGMENT_BASE] = queues[queue + HISTORY]
    segments[segment + PREVIOUS] = queues[queue + SEGMENTS]
    queues[queue + SEGMENTS] = segment
    queues[queue + DIRECT] = queues[queue + KNOWN] + moved
    queues[queue + HISTORY] -= moved
    queues[queue + KNOWN] += moved
    queues[queue + ISSUED] += moved
    t.clock[SKIPPED] += moved
    for field in (FREE, READY, LAST_DONE, LAST_START):
        queues[queue + field] += time_ps
    loops[loop + COUNT] += iterations
    start = loops[loop + WAITS_FROM]
    for wait in range(start, loops[loop + WAITS_TO], WAIT):
        slope = t.slopes[loops[loop + SLOPES] + (wait - start) // WAIT]
        t.waits[wait + POSITION] += iterations * slope


def forget_inner(t: Tables, loop: int) -> None:
    """Drop the saved states of the loops inside a loop: their times are from before a skip."""
    loops = t.loops
    inner = loop + LOOP_RECORD
    while inner < len(loops) and loops[inner + BODY] <= loops[loop + BODY_END]:
        t.nests[loops[inner + NEST] + SAVED] = 0
        t.nests[loops[inner + NEST] + NEXT_SAVE] = 0
        inner += LOOP_RECORD


def repoint(t: Tables, queue: int, moved: int) -> None:
    """Renew what a blocked queue waits for after a skip."""
    queues = t.queues
    if queues[queue + BLOCK_QUEUE] == queue and queues[queue + IS_DMA] == 1:
        queues[queue + BLOCK_POSITION] += moved
    else:
        queues[queue + BLOCK_POSITION] = t.waits[queues[queue + NEXT_WAIT] + POSITION]


def periods(t: Tables, nest: int, iterations: int) -> int:
    """Return how many periods of the given iterations can be left out."""
    queues, loops = t.queues, t.loops
    number = 1 << 60
    with_dma = moves_bytes(t, nest)
    for queue in range(0, len(queues), QUEUE):
        loop = loop_of(t, nest, queue)
        if loop >= 0:
            left = loops[loop + TRIP] - 1 - loops[loop + COUNT]
            number = min(number, left // iterations)
        elif with_dma and queues[queue + STATE] == BLOCKED:
            # A queue outside that waits for one inside must still wait at the end.
            other = queues[queue + BLOCK_QUEUE]
            inside = loop_of(t, nest, other)
            if inside >= 0:
                ahead = queues[queue + BLOCK_POSITION] - queues[other + KNOWN]
                number = min(number, ahead // (iterations * loops[inside + ISSUES]))
    while number > 0 and not independent(t, nest, number * iterations):
        number //= 2
    return number


def independent(t: Tables, nest: int, iterations: int) -> bool:
    """Return whether what a loop waits for from elsewhere is long done, so many iterations on."""
    queues, loops = t.queues, t.loops
    for queue in range(0, len(queues), QUEUE):
        loop = loop_of(t, nest, queue)
        if loop < 0:
            continue
        first = loops[loop + WAITS_FROM]
        for wait in range(first, loops[loop + WAITS_TO], WAIT):
            other = t.waits[wait + WAIT_QUEUE]
            inside = loop_of(t, nest, other)
            slope = t.slopes[loops[loop + SLOPES] + (wait - first) // WAIT]
            if inside >= 0 and slope == loops[inside + ISSUES]:
                continue
            furthest = t.waits[wait + POSITION] + max(0, slope) * (iterations + 1)
            furthest += inner_reach(t, loop, wait)
            if furthest >= queues[other + KNOWN]:
                return False
            if known_time(t, other, furthest) + t.waits[wait + DELAY] > queues[queue + FREE]:
                return False
    return True


def inner_reach(t: Tables, loop: int, wait: int) -> int:
    """Return how far the loops inside a loop may move a wait's position on."""
    loops = t.loops
    reach = 0
    inner = loop + LOOP_RECORD
    while inner < len(loops) and loops[inner + BODY] <= loops[loop + BODY_END]:
        if loops[inner + WAITS_FROM] <= wait < loops[inner + WAITS_TO]:
            place = loops[inner + SLOPES] + (wait - loops[inner + WAITS_FROM]) // WAIT
            reach += max(0, t.slopes[place]) * loops[inner + TRIP]
        inner += LOOP_RECORD
    return reach

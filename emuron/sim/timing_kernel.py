"""The timing engine: queues run ahead in order, as far as what they wait for is known.

Engines and DMA rings issue their instructions in order, each as soon as its waits are known, in
whatever order of time. Only what moves bytes is ordered in time (`transfer_kernel`). Iterations
whose state repeats are skipped (`loop_skip`). The source runs on Python ints, and compiled.
"""

from __future__ import annotations

from emuron.sim.loop_skip import at_boundaries
from emuron.sim.loop_state import completion
from emuron.sim.timing_layout import (
    BACK_EDGE,
    BEFORE_PS,
    BLOCK_POSITION,
    BLOCK_QUEUE,
    BLOCKED,
    BODY,
    BUSY,
    BUSY_PS,
    COUNT,
    DELAY,
    DEPTH,
    DIRECT,
    DONE,
    END,
    EVENT,
    EVENT_END,
    EVENT_ROW,
    EVENT_START,
    FINISHED,
    FLOOR,
    FRACTION,
    FREE,
    FULL,
    GROW,
    GROW_STATES,
    HISTORY,
    HISTORY_END,
    IDLE_WEIGHT,
    ISSUED,
    KNOWN,
    LAST_DONE,
    LAST_START,
    LATENCY_PS,
    LOOP,
    NEST,
    NEXT_WAIT,
    ONE,
    PARENT,
    PAUSED,
    PAUSED_AT,
    PC,
    PLAIN,
    POSITION,
    QUEUE,
    QUEUES_FROM,
    QUEUES_TO,
    RAMP,
    READY,
    ROW,
    RUNNABLE,
    SEARCHING,
    SETUP_PS,
    SLOPES,
    STACK,
    STATE,
    STEP,
    STUCK,
    TABLE,
    TABLE_LOAD,
    TABLE_NEEDED,
    THROTTLED,
    TRANSFER,
    TRIP,
    WAIT,
    WAIT_END,
    WAITERS,
    WAITS_FROM,
    WAITS_TO,
    WARM,
    Ints,
)
from emuron.sim.transfer_kernel import run_transfers


def await_row(m: Ints, h: Ints, g: Ints, queue: int, row: int) -> bool:
    """Take in the waits of a row; return False, and block the queue, at the first unknown one."""
    wait = m[queue + NEXT_WAIT]
    last = m[row + WAIT_END]
    ready = m[queue + READY]
    while wait < last:
        other = m[wait]
        position = m[wait + POSITION]
        if position >= m[other + KNOWN]:
            m[queue + STATE] = BLOCKED
            m[queue + BLOCK_QUEUE] = other
            m[queue + BLOCK_POSITION] = position
            m[other + WAITERS] = 1
            break
        if position >= m[other + DIRECT]:
            time = h[EVENT * (m[other + HISTORY] + position)] + m[wait + DELAY]
        else:
            time = completion(m, h, g, other, position) + m[wait + DELAY]
        if time > ready:
            ready = time
        m[wait + POSITION] = position + m[wait + STEP]
        wait += WAIT
    m[queue + READY] = ready
    m[queue + NEXT_WAIT] = wait
    return bool(wait == last)


def prepare(m: Ints, queue: int, row: int) -> int:
    """Account for table loads, set-up and throttling; return the busy time of a special row."""
    table = m[row + TABLE_NEEDED]
    if table >= 0 and table != m[queue + TABLE]:
        m[queue + TABLE] = table
        m[queue + FREE] += m[TABLE_LOAD]
        m[queue + BUSY] += m[TABLE_LOAD]
    # A LoadStationary runs under the previous matmul, once that has taken its own weights.
    loaded = max(m[queue + LAST_START], m[queue + READY]) + m[row + SETUP_PS]
    m[queue + READY] = loaded
    busy = m[row + BUSY_PS]
    if m[row + THROTTLED] == 0:
        return int(busy)
    idle = max(0, loaded - m[queue + FREE])
    warm = max(0, m[queue + WARM] - (idle * m[IDLE_WEIGHT] >> FRACTION))
    rate = m[FLOOR] + (ONE - m[FLOOR]) * warm // m[RAMP]
    busy = busy * ONE // rate
    m[queue + WARM] = min(m[RAMP], warm + busy)
    return int(busy)


def back_edge(m: Ints, queue: int, row: int) -> int:
    """Return the row after a back edge, pausing the queue where repetition is looked for."""
    loop = m[row + LOOP]
    count = m[loop + COUNT] + 1
    if count < m[loop + TRIP]:
        m[loop + COUNT] = count
        m[queue + NEXT_WAIT] = m[loop + WAITS_FROM]
        if m[m[loop + NEST] + SEARCHING] == 1:
            m[queue + STATE] = PAUSED
            m[queue + PAUSED_AT] = loop
        return int(m[loop + BODY])
    m[loop + COUNT] = 0
    first, parent = m[loop + WAITS_FROM], m[loop + PARENT]
    for wait in range(first, m[loop + WAITS_TO], WAIT):
        step = -m[loop + TRIP] * m[m[loop + SLOPES] + (wait - first) // WAIT]
        if parent >= 0:
            outer = (wait - m[parent + WAITS_FROM]) // WAIT
            step += m[m[parent + SLOPES] + outer]
        m[wait + POSITION] += step
    return row + ROW


def issue_transfer(m: Ints, h: Ints, g: Ints, queue: int, row: int) -> bool:
    """Trigger a transfer; return False, and block the queue, while its ring is full."""
    position = m[queue + ISSUED]
    oldest = position - m[DEPTH]
    if oldest >= m[queue + KNOWN]:
        m[queue + STATE] = BLOCKED
        m[queue + BLOCK_QUEUE] = queue
        m[queue + BLOCK_POSITION] = oldest
        m[queue + WAITERS] = 1
        return False
    trigger = max(m[queue + FREE], m[queue + READY])
    if oldest >= 0:
        freed = (
            h[EVENT * (m[queue + HISTORY] + oldest)]
            if oldest >= m[queue + DIRECT]
            else completion(m, h, g, queue, oldest)
        )
        trigger = max(trigger, freed)
    m[queue + FREE] = trigger + m[row + BUSY_PS]
    m[queue + LAST_START] = trigger
    index = m[queue + HISTORY] + position
    h[EVENT * index] = trigger + m[row + BEFORE_PS]
    h[EVENT * index + EVENT_ROW] = row
    m[queue + ISSUED] = position + 1
    return True


def issue(m: Ints, h: Ints, g: Ints, queue: int, row: int) -> None:
    """Run an instruction of an engine whose waits are satisfied."""
    busy = m[row + BUSY_PS]
    if m[row] != PLAIN:
        busy = prepare(m, queue, row)
    begin = max(m[queue + FREE], m[queue + READY])
    finish = begin + busy
    visible = max(finish + m[row + LATENCY_PS], m[queue + LAST_DONE])
    position = m[queue + ISSUED]
    index = m[queue + HISTORY] + position
    h[EVENT * index] = visible
    h[EVENT * index + EVENT_ROW] = row
    h[EVENT * index + EVENT_START] = begin
    h[EVENT * index + EVENT_END] = finish
    m[queue + LAST_DONE] = visible
    m[queue + LAST_START] = begin
    m[queue + FREE] = finish
    m[queue + BUSY] += busy
    m[queue + ISSUED] = position + 1
    m[queue + KNOWN] = position + 1


def run_queue(m: Ints, h: Ints, g: Ints, queue: int) -> None:
    """Issue the instructions of one queue until it blocks, pauses or ends."""
    row, last = m[queue + PC], m[queue + END]
    room = m[queue + HISTORY_END] - m[queue + HISTORY]
    m[queue + STATE] = RUNNABLE
    while m[queue + STATE] == RUNNABLE:
        if row >= last:
            m[queue + STATE] = FINISHED
        elif m[row] == BACK_EDGE:
            row = back_edge(m, queue, row)
        elif m[queue + ISSUED] >= room:
            m[queue + STATE] = FULL
        elif m[queue + NEXT_WAIT] == m[row + WAIT_END] or await_row(m, h, g, queue, row):
            if m[row] != TRANSFER:
                issue(m, h, g, queue, row)
            elif not issue_transfer(m, h, g, queue, row):
                break
            m[queue + READY] = 0
            row += ROW
    m[queue + PC] = row


def run_ready(m: Ints, h: Ints, g: Ints) -> bool:
    """Run every queue as far as it gets; return False if one ran out of history."""
    stack = m[STACK]
    top = stack
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        state = m[queue + STATE]
        if state == RUNNABLE or (
            state == BLOCKED and m[queue + BLOCK_POSITION] < m[m[queue + BLOCK_QUEUE] + KNOWN]
        ):
            m[queue + STATE] = RUNNABLE
            m[top] = queue
            top += 1
    full = False
    while top > stack:
        top -= 1
        queue = m[top]
        run_queue(m, h, g, queue)
        full = full or m[queue + STATE] == FULL
        if m[queue + WAITERS] == 1:
            top = wake(m, queue, top)
    return not full


def wake(m: Ints, queue: int, top: int) -> int:
    """Put the queues on the stack whose wait for a queue is over; return the stack's new top."""
    m[queue + WAITERS] = 0
    for other in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        if m[other + STATE] == BLOCKED and m[other + BLOCK_QUEUE] == queue:
            if m[other + BLOCK_POSITION] < m[queue + KNOWN]:
                m[other + STATE] = RUNNABLE
                m[top] = other
                top += 1
            else:
                m[queue + WAITERS] = 1
    return top


def simulate(m: Ints, h: Ints, g: Ints) -> int:
    """Run all queues to their ends; return DONE, STUCK, or what to grow before calling again."""
    while True:
        if not run_ready(m, h, g):
            return GROW
        boundary = at_boundaries(m, h, g)
        if boundary == 2:
            return GROW_STATES
        if boundary == 0 and not run_transfers(m, h, g):
            break
    for queue in range(m[QUEUES_FROM], m[QUEUES_TO], QUEUE):
        if m[queue + STATE] != FINISHED:
            return STUCK
    return DONE

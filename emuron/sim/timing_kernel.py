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
    FINISHED,
    FLOOR,
    FRACTION,
    FREE,
    FULL,
    GROW,
    GROW_SEGMENTS,
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
    RAMP,
    READY,
    ROW,
    RUNNABLE,
    SEARCHING,
    SETUP_PS,
    SLOPES,
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
    Tables,
)
from emuron.sim.transfer_kernel import run_transfers


def await_row(t: Tables, queue: int, row: int) -> bool:
    """Take in the waits of a row; return False, and block the queue, at the first unknown one."""
    queues, waits, done = t.queues, t.waits, t.done
    wait = queues[queue + NEXT_WAIT]
    last = t.rows[row + WAIT_END]
    ready = queues[queue + READY]
    while wait < last:
        other = waits[wait]
        position = waits[wait + POSITION]
        if position >= queues[other + KNOWN]:
            queues[queue + STATE] = BLOCKED
            queues[queue + BLOCK_QUEUE] = other
            queues[queue + BLOCK_POSITION] = position
            queues[other + WAITERS] = 1
            break
        if position >= queues[other + DIRECT]:
            time = done[queues[other + HISTORY] + position] + waits[wait + DELAY]
        else:
            time = completion(t, other, position) + waits[wait + DELAY]
        if time > ready:
            ready = time
        waits[wait + POSITION] = position + waits[wait + STEP]
        wait += WAIT
    queues[queue + READY] = ready
    queues[queue + NEXT_WAIT] = wait
    return bool(wait == last)


def prepare(t: Tables, queue: int, row: int) -> int:
    """Account for table loads, set-up and throttling; return the busy time of a special row."""
    queues, rows, clock = t.queues, t.rows, t.clock
    table = rows[row + TABLE_NEEDED]
    if table >= 0 and table != queues[queue + TABLE]:
        queues[queue + TABLE] = table
        queues[queue + FREE] += clock[TABLE_LOAD]
        queues[queue + BUSY] += clock[TABLE_LOAD]
    # A LoadStationary runs under the previous matmul, once that has taken its own weights.
    loaded = max(queues[queue + LAST_START], queues[queue + READY]) + rows[row + SETUP_PS]
    queues[queue + READY] = loaded
    busy = rows[row + BUSY_PS]
    if rows[row + THROTTLED] == 0:
        return int(busy)
    idle = max(0, loaded - queues[queue + FREE])
    warm = max(0, queues[queue + WARM] - (idle * clock[IDLE_WEIGHT] >> FRACTION))
    rate = clock[FLOOR] + (ONE - clock[FLOOR]) * warm // clock[RAMP]
    busy = busy * ONE // rate
    queues[queue + WARM] = min(clock[RAMP], warm + busy)
    return int(busy)


def back_edge(t: Tables, queue: int, row: int) -> int:
    """Return the row after a back edge, pausing the queue where repetition is looked for."""
    queues, loops, waits, slopes = t.queues, t.loops, t.waits, t.slopes
    loop = t.rows[row + LOOP]
    count = loops[loop + COUNT] + 1
    if count < loops[loop + TRIP]:
        loops[loop + COUNT] = count
        queues[queue + NEXT_WAIT] = loops[loop + WAITS_FROM]
        if t.nests[loops[loop + NEST] + SEARCHING] == 1:
            queues[queue + STATE] = PAUSED
            queues[queue + PAUSED_AT] = loop
        return int(loops[loop + BODY])
    loops[loop + COUNT] = 0
    first, parent = loops[loop + WAITS_FROM], loops[loop + PARENT]
    for wait in range(first, loops[loop + WAITS_TO], WAIT):
        step = -loops[loop + TRIP] * slopes[loops[loop + SLOPES] + (wait - first) // WAIT]
        if parent >= 0:
            outer = (wait - loops[parent + WAITS_FROM]) // WAIT
            step += slopes[loops[parent + SLOPES] + outer]
        waits[wait + POSITION] += step
    return row + ROW


def issue_transfer(t: Tables, queue: int, row: int) -> bool:
    """Trigger a transfer; return False, and block the queue, while its ring is full."""
    queues, done = t.queues, t.done
    position = queues[queue + ISSUED]
    oldest = position - t.clock[DEPTH]
    if oldest >= queues[queue + KNOWN]:
        queues[queue + STATE] = BLOCKED
        queues[queue + BLOCK_QUEUE] = queue
        queues[queue + BLOCK_POSITION] = oldest
        queues[queue + WAITERS] = 1
        return False
    trigger = max(queues[queue + FREE], queues[queue + READY])
    if oldest >= 0:
        freed = (
            done[queues[queue + HISTORY] + oldest]
            if oldest >= queues[queue + DIRECT]
            else completion(t, queue, oldest)
        )
        trigger = max(trigger, freed)
    queues[queue + FREE] = trigger + t.rows[row + BUSY_PS]
    queues[queue + LAST_START] = trigger
    index = queues[queue + HISTORY] + position
    done[index] = trigger + t.rows[row + BEFORE_PS]
    t.row_of[index] = row
    queues[queue + ISSUED] = position + 1
    return True


def issue(t: Tables, queue: int, row: int) -> None:
    """Run an instruction of an engine whose waits are satisfied."""
    queues, rows = t.queues, t.rows
    busy = rows[row + BUSY_PS]
    if rows[row] != PLAIN:
        busy = prepare(t, queue, row)
    begin = max(queues[queue + FREE], queues[queue + READY])
    finish = begin + busy
    visible = max(finish + rows[row + LATENCY_PS], queues[queue + LAST_DONE])
    position = queues[queue + ISSUED]
    index = queues[queue + HISTORY] + position
    t.done[index] = visible
    t.row_of[index] = row
    t.start[index] = begin
    t.end[index] = finish
    queues[queue + LAST_DONE] = visible
    queues[queue + LAST_START] = begin
    queues[queue + FREE] = finish
    queues[queue + BUSY] += busy
    queues[queue + ISSUED] = position + 1
    queues[queue + KNOWN] = position + 1


def run_queue(t: Tables, queue: int) -> None:
    """Issue the instructions of one queue until it blocks, pauses or ends."""
    queues, rows = t.queues, t.rows
    row, last = queues[queue + PC], queues[queue + END]
    room = queues[queue + HISTORY_END] - queues[queue + HISTORY]
    queues[queue + STATE] = RUNNABLE
    while queues[queue + STATE] == RUNNABLE:
        if row >= last:
            queues[queue + STATE] = FINISHED
        elif rows[row] == BACK_EDGE:
            row = back_edge(t, queue, row)
        elif queues[queue + ISSUED] >= room:
            queues[queue + STATE] = FULL
        elif queues[queue + NEXT_WAIT] == rows[row + WAIT_END] or await_row(t, queue, row):
            if rows[row] != TRANSFER:
                issue(t, queue, row)
            elif not issue_transfer(t, queue, row):
                break
            queues[queue + READY] = 0
            row += ROW
    queues[queue + PC] = row


def run_ready(t: Tables) -> bool:
    """Run every queue as far as it gets; return False if one ran out of history."""
    queues, stack = t.queues, t.stack
    size = len(queues)
    depth = 0
    for queue in range(size - QUEUE, -1, -QUEUE):
        if can_run(t, queue):
            queues[queue + STATE] = RUNNABLE
            stack[depth] = queue
            depth += 1
    full = False
    while depth > 0:
        depth -= 1
        queue = stack[depth]
        run_queue(t, queue)
        if queues[queue + STATE] == FULL:
            full = True
        if queues[queue + WAITERS] == 0:
            continue
        queues[queue + WAITERS] = 0
        for other in range(0, size, QUEUE):
            if queues[other + STATE] == BLOCKED and queues[other + BLOCK_QUEUE] == queue:
                if queues[other + BLOCK_POSITION] < queues[queue + KNOWN]:
                    queues[other + STATE] = RUNNABLE
                    stack[depth] = other
                    depth += 1
                else:
                    queues[queue + WAITERS] = 1
    return not full


def can_run(t: Tables, queue: int) -> bool:
    """Return whether a queue has something to do without time going on."""
    queues = t.queues
    state = queues[queue + STATE]
    if state == BLOCKED:
        other = queues[queue + BLOCK_QUEUE]
        return bool(queues[queue + BLOCK_POSITION] < queues[other + KNOWN])
    return bool(state == RUNNABLE)


def simulate(t: Tables) -> int:
    """Run all queues to their ends; return DONE, STUCK, or what to grow before calling again."""
    while True:
        if not run_ready(t):
            return GROW
        boundary = at_boundaries(t)
        if boundary == 2:
            return GROW_SEGMENTS
        if boundary == 0 and not run_transfers(t):
            break
    for queue in range(0, len(t.queues), QUEUE):
        if t.queues[queue + STATE] != FINISHED:
            return STUCK
    return DONE

"""The part of the timing engine that is ordered in time: DMA transfers.

The transfers that move bytes at one time share the core's DMA engines and the HBM, max-min fair;
shares change only when a transfer starts or ends.
"""

from __future__ import annotations

from emuron.sim.timing_layout import (
    BUSY,
    FLOWING,
    FRACTION,
    HBM_RATE,
    HBM_SHARE,
    HISTORY,
    IS_DMA,
    ISSUED,
    KNOWN,
    LAST_DONE,
    LATENCY_PS,
    LEFT,
    NEVER,
    NOW,
    ONE,
    QUEUE,
    SETUP_PS,
    SHARE,
    TABLE_NEEDED,
    Tables,
)


def waiting_since(t: Tables, queue: int) -> int:
    """Return when a ring's oldest transfer may start, NEVER if none waits to."""
    queues = t.queues
    if queues[queue + IS_DMA] == 0 or queues[queue + FLOWING] == 1:
        return NEVER
    if queues[queue + KNOWN] == queues[queue + ISSUED]:
        return NEVER
    return int(t.done[queues[queue + HISTORY] + queues[queue + KNOWN]])


def start_transfers(t: Tables) -> int:
    """Start the transfers whose time has come; return the time of the next one, or NEVER."""
    queues, clock = t.queues, t.clock
    soonest, moving = NEVER, 0
    for queue in range(0, len(queues), QUEUE):
        moving += queues[queue + FLOWING]
        soonest = min(soonest, waiting_since(t, queue))
    if moving == 0 and soonest != NEVER:
        clock[NOW] = max(clock[NOW], soonest)
    if soonest > clock[NOW]:
        return soonest
    later = NEVER
    for queue in range(0, len(queues), QUEUE):
        time = waiting_since(t, queue)
        if time > clock[NOW]:
            later = min(later, time)
            continue
        index = queues[queue + HISTORY] + queues[queue + KNOWN]
        queues[queue + FLOWING] = 1
        queues[queue + LEFT] = t.rows[t.row_of[index] + SETUP_PS] << FRACTION
        t.start[index] = clock[NOW]
    share(t)
    return later


def demand(t: Tables, queue: int) -> int:
    """Return the HBM traffic of a queue's moving transfer per share of the DMA."""
    index = t.queues[queue + HISTORY] + t.queues[queue + KNOWN]
    return int(t.rows[t.row_of[index] + HBM_RATE])


def limit(t: Tables, queue: int) -> int:
    """Return the largest share of the DMA that a queue's moving transfer can use."""
    index = t.queues[queue + HISTORY] + t.queues[queue + KNOWN]
    return int(t.rows[t.row_of[index] + TABLE_NEEDED])


def share(t: Tables) -> None:
    """Share the DMA and the HBM among the moving transfers, max-min fair (water filling)."""
    queues = t.queues
    dma_left, hbm_left = ONE, t.clock[HBM_SHARE] << FRACTION
    for queue in range(0, len(queues), QUEUE):
        queues[queue + SHARE] = 0
    while True:
        count, traffic = 0, 0
        for queue in range(0, len(queues), QUEUE):
            if queues[queue + FLOWING] == 1 and queues[queue + SHARE] == 0:
                count += 1
                traffic += demand(t, queue)
        if count == 0:
            return
        even = max(1, dma_left // count)
        in_hbm = max(1, hbm_left // traffic) if traffic > 0 else even
        level = min(even, in_hbm)
        capped = cap(t, level)
        for queue in range(0, len(queues), QUEUE):
            if queues[queue + FLOWING] == 0 or queues[queue + SHARE] != 0:
                continue
            most = limit(t, queue)
            if (most <= level) if capped else (level == even or demand(t, queue) > 0):
                queues[queue + SHARE] = min(most, level)
                dma_left -= queues[queue + SHARE]
                hbm_left -= queues[queue + SHARE] * demand(t, queue)


def cap(t: Tables, level: int) -> bool:
    """Return whether some unshared transfer cannot use as much as the water level."""
    queues = t.queues
    for queue in range(0, len(queues), QUEUE):
        if queues[queue + FLOWING] == 1 and queues[queue + SHARE] == 0 and limit(t, queue) <= level:
            return True
    return False


def advance(t: Tables, next_start: int) -> bool:
    """Let time go on to the next start or end of a transfer; return whether one ended."""
    queues, clock = t.queues, t.clock
    step = next_start - clock[NOW] if next_start != NEVER else NEVER
    for queue in range(0, len(queues), QUEUE):
        if queues[queue + FLOWING] == 1:
            rate = queues[queue + SHARE]
            step = min(step, (queues[queue + LEFT] + rate - 1) // rate)
    clock[NOW] += step
    ended = False
    for queue in range(0, len(queues), QUEUE):
        if queues[queue + FLOWING] == 1:
            queues[queue + LEFT] -= queues[queue + SHARE] * step
            if queues[queue + LEFT] <= 0:
                end_transfer(t, queue)
                ended = True
    if ended:
        share(t)
    return ended


def end_transfer(t: Tables, queue: int) -> None:
    """Record the end of a queue's moving transfer at the present time."""
    queues, now = t.queues, t.clock[NOW]
    index = queues[queue + HISTORY] + queues[queue + KNOWN]
    visible = max(queues[queue + LAST_DONE], now + t.rows[t.row_of[index] + LATENCY_PS])
    t.done[index] = visible
    t.end[index] = now
    queues[queue + BUSY] += now - t.start[index]
    queues[queue + LAST_DONE] = visible
    queues[queue + FLOWING] = 0
    queues[queue + LEFT] = 0
    queues[queue + KNOWN] += 1


def run_transfers(t: Tables) -> bool:
    """Let time go on until a transfer ends; return False if none is under way."""
    while True:
        next_start = start_transfers(t)
        moving = False
        for queue in range(0, len(t.queues), QUEUE):
            moving = moving or t.queues[queue + FLOWING] == 1
        if not moving:
            return False
        if advance(t, next_start):
            return True

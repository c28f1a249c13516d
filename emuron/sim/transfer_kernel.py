"""The part of the timing engine that is ordered in time: DMA transfers.

The transfers that move bytes at one time share the core's DMA engines and the HBM, max-min fair;
shares change only when a transfer starts or ends.
"""

from __future__ import annotations

from emuron.sim.timing_layout import (
    BUSY,
    DEMAND,
    EVENT,
    EVENT_END,
    EVENT_ROW,
    EVENT_START,
    FLOWING,
    FRACTION,
    HBM_RATE,
    HBM_SHARE,
    HISTORY,
    ISSUED,
    KNOWN,
    LAST_DONE,
    LATENCY_PS,
    LEFT,
    LIMIT,
    MOVING,
    NEVER,
    NOW,
    ONE,
    QUEUE,
    QUEUES_TO,
    RINGS_FROM,
    SETUP_PS,
    SHARE,
    TABLE_NEEDED,
    UNSHARED,
    Ints,
)


def waiting_since(m: Ints, h: Ints, g: Ints, ring: int) -> int:
    """Return when a ring's oldest transfer may start, NEVER if none waits to."""
    if m[ring + FLOWING] == 1 or m[ring + KNOWN] == m[ring + ISSUED]:
        return NEVER
    return int(h[EVENT * (m[ring + HISTORY] + m[ring + KNOWN])])


def start_transfers(m: Ints, h: Ints, g: Ints) -> int:
    """Start the transfers whose time has come; return the time of the next one, or NEVER."""
    soonest = later = NEVER
    for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
        time = waiting_since(m, h, g, ring)
        if time < soonest:
            soonest = time
    if m[MOVING] == 0 and soonest != NEVER:
        m[NOW] = max(m[NOW], soonest)
    now = m[NOW]
    if soonest > now:
        return soonest
    for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
        time = waiting_since(m, h, g, ring)
        if time > now:
            later = min(later, time)
            continue
        event = EVENT * (m[ring + HISTORY] + m[ring + KNOWN])
        row = h[event + EVENT_ROW]
        m[ring + FLOWING] = 1
        m[ring + LEFT] = m[row + SETUP_PS] << FRACTION
        m[ring + DEMAND] = m[row + HBM_RATE]
        m[ring + LIMIT] = m[row + TABLE_NEEDED]
        h[event + EVENT_START] = now
        m[MOVING] += 1
    m[UNSHARED] = 1
    return later


def share(m: Ints) -> None:
    """Share the DMA and the HBM among the moving transfers, max-min fair (water filling)."""
    dma_left, hbm_left = ONE, m[HBM_SHARE] << FRACTION
    for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
        m[ring + SHARE] = 0
    left = m[MOVING]
    while left > 0:
        traffic, least = 0, ONE
        for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
            if m[ring + FLOWING] == 1 and m[ring + SHARE] == 0:
                traffic += m[ring + DEMAND]
                least = min(least, m[ring + LIMIT])
        even = max(1, dma_left // left)
        level = min(even, max(1, hbm_left // traffic)) if traffic > 0 else even
        capped = least <= level
        for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
            if m[ring + FLOWING] == 0 or m[ring + SHARE] != 0:
                continue
            # Who cannot use the level gets what it can; else the tighter of DMA and HBM decides.
            bound = m[ring + LIMIT] <= level if capped else level == even or m[ring + DEMAND] > 0
            if bound:
                own = min(m[ring + LIMIT], level)
                m[ring + SHARE] = own
                dma_left -= own
                hbm_left -= own * m[ring + DEMAND]
                left -= 1
    m[UNSHARED] = 0


def advance(m: Ints, h: Ints, g: Ints, next_start: int) -> bool:
    """Let time go on to the next start or end of a transfer; return whether one ended."""
    step = next_start - m[NOW]
    for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
        if m[ring + FLOWING] == 1:
            rate = m[ring + SHARE]
            step = min(step, (m[ring + LEFT] + rate - 1) // rate)
    m[NOW] += step
    ended = False
    for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
        if m[ring + FLOWING] == 1:
            m[ring + LEFT] -= m[ring + SHARE] * step
            if m[ring + LEFT] <= 0:
                end_transfer(m, h, g, ring)
                ended = True
    return ended


def end_transfer(m: Ints, h: Ints, g: Ints, ring: int) -> None:
    """Record the end of a ring's moving transfer at the present time."""
    now = m[NOW]
    event = EVENT * (m[ring + HISTORY] + m[ring + KNOWN])
    visible = max(m[ring + LAST_DONE], now + m[h[event + EVENT_ROW] + LATENCY_PS])
    h[event] = visible
    h[event + EVENT_END] = now
    m[ring + BUSY] += now - h[event + EVENT_START]
    m[ring + LAST_DONE] = visible
    m[ring + FLOWING] = 0
    m[ring + LEFT] = 0
    m[ring + KNOWN] += 1
    m[MOVING] -= 1
    m[UNSHARED] = 1


def run_transfers(m: Ints, h: Ints, g: Ints) -> bool:
    """Let time go on until a transfer ends; return False if none is under way."""
    ended = False
    while not ended:
        next_start = start_transfers(m, h, g)
        if m[MOVING] == 0:
            return False
        if m[UNSHARED] == 1:
            share(m)
        ended = advance(m, h, g, next_start)
    return True

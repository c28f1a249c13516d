"""The part of the timing engine that is ordered in time: DMA transfers.

The transfers that move bytes at one time share their core's DMA engines and the HBM, max-min fair;
shares change only when a transfer starts or ends.
"""

from __future__ import annotations

from emuron.sim.timing_layout import (
    BUSY,
    DEMAND,
    DMA_LEFT,
    EVEN,
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
    POOL,
    POOL_OF,
    POOLS_FROM,
    POOLS_TO,
    QUEUE,
    QUEUES_TO,
    RINGS_FROM,
    SETUP_PS,
    SHARE,
    TABLE_NEEDED,
    UNFED,
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
    """Share the DMA of each core and the HBM among the moving transfers, max-min fair.

    By water filling: the level rises for all until a transfer can use no more, the DMA engines of
    a core or the HBM is used up; who is held by that gets the level, and the rest goes on.
    """
    hbm_left = m[HBM_SHARE] << FRACTION
    for pool in range(m[POOLS_FROM], m[POOLS_TO], POOL):
        m[pool + DMA_LEFT] = ONE
        m[pool + UNFED] = 0
    for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
        m[ring + SHARE] = 0
        m[m[ring + POOL_OF] + UNFED] += m[ring + FLOWING]
    left = m[MOVING]
    while left > 0:
        traffic, least = 0, ONE
        for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
            if m[ring + FLOWING] == 1 and m[ring + SHARE] == 0:
                traffic += m[ring + DEMAND]
                least = min(least, m[ring + LIMIT])
        even = evens(m)
        level = min(even, max(1, hbm_left // traffic)) if traffic > 0 else even
        dry = level < even or (traffic > 0 and level == max(1, hbm_left // traffic))
        for ring in range(m[RINGS_FROM], m[QUEUES_TO], QUEUE):
            if m[ring + FLOWING] == 1 and m[ring + SHARE] == 0:
                # Who cannot use the level gets what it can; else the tighter of DMA and HBM holds.
                if least <= level:
                    held = m[ring + LIMIT] <= level
                else:
                    held = m[m[ring + POOL_OF] + EVEN] == level or (dry and m[ring + DEMAND] > 0)
                if held:
                    hbm_left -= feed(m, ring, level)
                    left -= 1
    m[UNSHARED] = 0


def evens(m: Ints) -> int:
    """Work out the even share of each core's DMA; return the least."""
    least = ONE
    for pool in range(m[POOLS_FROM], m[POOLS_TO], POOL):
        m[pool + EVEN] = 0
        if m[pool + UNFED] > 0:
            m[pool + EVEN] = max(1, m[pool + DMA_LEFT] // m[pool + UNFED])
            least = min(least, m[pool + EVEN])
    return int(least)


def feed(m: Ints, ring: int, level: int) -> int:
    """Give a transfer its share; return the HBM traffic that it takes."""
    own = min(m[ring + LIMIT], level)
    m[ring + SHARE] = own
    m[m[ring + POOL_OF] + DMA_LEFT] -= own
    m[m[ring + POOL_OF] + UNFED] -= 1
    return int(own * m[ring + DEMAND])


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

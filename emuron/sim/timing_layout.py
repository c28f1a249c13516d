"""Memory layout of the timing engine: flat integer columns, records and their fields.

The engine (`timing_kernel`, `transfer_kernel`, `loop_skip`, `loop_state`) runs on three lists of
ints or, compiled, int64 arrays: `m`, the program and the state of its queues; `h`, the history, one
event for each instruction executed; `g`, what grows: segments, repeats and saved states. Records
are consecutive integers; a pointer is the index of a record's first integer, and a field is a
constant added to it. Times are picoseconds. Three arguments, and not a structure of columns,
because compiled code counts references to each array at each call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# A queue: an engine or a DMA ring.
PC = 0  # pointer to the row to issue next
END = 1  # pointer past the last row
ISSUED = 2  # instructions issued: the position of the next
KNOWN = 3  # instructions whose completion time is known
FREE = 4  # earliest start of the next instruction
LAST_DONE = 5  # completion of the latest known instruction
HISTORY = 6  # number of an event = HISTORY + position, from position DIRECT on
DIRECT = 7
HISTORY_END = 8  # end of the queue's part of the history
STATE = 9
BLOCK_QUEUE = 10  # the queue and position that a blocked queue waits for
BLOCK_POSITION = 11
NEXT_WAIT = 12  # first wait of the next row that is not yet satisfied
READY = 13  # latest of the satisfied ones
BUSY = 14  # total busy time
LAST_START = 15
TABLE = 16  # activation table held
WARM = 17  # throttle: how far the rate has ramped up, 0 to RAMP
WAITERS = 18  # queues blocked on this one, at most
IS_DMA = 19
FLOWING = 20  # whether the oldest transfer moves bytes
LEFT = 21  # what is left of it
SHARE = 22  # its share of the core's DMA
PAUSED_AT = 23  # loop at whose back edge the queue pauses
SEGMENTS = 24  # last segment of the queue's history, -1 if none
NUMBER = 25  # number of the queue
FIRST = 26  # first event of the queue's part of the history
DEMAND = 27  # HBM_RATE and largest share of the moving transfer
LIMIT = 28
POOL_OF = 29  # pointer to the DMA engines that the ring's transfers use
QUEUE = 30  # size of the record

# States of a queue.
RUNNABLE, BLOCKED, PAUSED, FINISHED, FULL = 0, 1, 2, 3, 4

# A row: an instruction of one queue, or the back edge of a loop.
KIND = 0
BUSY_PS = 1  # on a DMA ring: least time between two triggers
LATENCY_PS = 2  # end of busy to result visible; on a DMA ring last byte to consumer
WAIT_END = 3
SETUP_PS = 4  # LoadStationary; on a DMA ring the work: time with the whole core's DMA
TABLE_NEEDED = 5  # activation table, -1 if any will do; on a DMA ring the largest share
HBM_RATE = 6  # HBM traffic while the transfer has all of the core's DMA, bytes/ps << FRACTION
BEFORE_PS = 7  # DMA: trigger to first byte
THROTTLED = 7  # engines: whether power throttling applies
LABEL = 8  # number of the instruction in the scheduled program
ROW = 9  # size of the record

PLAIN, SPECIAL, TRANSFER, BACK_EDGE = 0, 1, 2, 3
LOOP = 1  # field of a back edge: pointer to its loop record

# A wait: until the instruction at POSITION of QUEUE has completed, plus DELAY.
WAIT_QUEUE = 0
POSITION = 1
STEP = 2  # change of POSITION from one iteration of the innermost loop to the next
DELAY = 3
WAIT = 4

# A loop as one queue sees it.
TRIP = 0
COUNT = 1  # iterations finished
BODY = 2  # pointer to the first row
BODY_END = 3  # pointer to the back edge
WAITS_FROM = 4
WAITS_TO = 5
SLOPES = 6  # slopes of POSITION over this loop, one for each wait of the body
PARENT = 7  # pointer to the enclosing loop's record of the same queue, -1 if none
NEST = 8  # pointer to the loop's nest record
ISSUES = 9  # instructions in one iteration
LOOP_RECORD = 10

# A loop as the program has it.
LEADER = 0  # pointer to the queue whose back edges are looked at
SEARCHING = 1  # whether queues pause at its back edges
SAVED = 2  # length of the saved state, 0 if none
SAVED_AT = 3  # pointer to the saved state
NEXT_SAVE = 4  # iteration of the leader at which to save next
MISSES = 5
PROJECTIONS = 6  # pointer to a pointer for each queue: its loop record, -1 if none
ROOM = 7  # of the saved state
NEST_RECORD = 8

# A skipped stretch of a queue's history: positions from FROM repeat those SPAN before them.
FROM = 0
TO = 1
SPAN = 2
PERIOD_PS = 3
SEGMENT_BASE = 4  # number of an event = SEGMENT_BASE + position, before FROM
PREVIOUS = 5  # pointer to the segment before, -1 if none
SEGMENT = 6

# The start of `m`: what is not of a queue, a row or a loop.
NOW = 0  # time up to which DMA transfers are advanced
HBM_SHARE = 1  # bytes/ps << FRACTION
TABLE_LOAD = 2  # time of an activation-table load
RAMP = 3  # throttle: 0 if there is none
FLOOR = 4  # throttle: rate after idling, of ONE
IDLE_WEIGHT = 5  # throttle: what idle time takes back, of ONE
DEPTH = 6  # transfers that a DMA ring holds
SKIPPED = 7  # instructions not executed
USED = 8  # integers used in `g`
LAST_REPEAT = 9  # pointer, -1 if none
STATE_SIZE = 10  # at most
QUEUES_FROM = 11  # pointers
RINGS_FROM = 12  # DMA rings are the last queues
QUEUES_TO = 13
QUEUE_COUNT = 14
LOOPS_TO = 15
STACK = 16  # room for one integer a queue
SCRATCH = 17  # room for a state
MOVING = 18  # transfers that move bytes
UNSHARED = 19  # whether their shares must be worked out anew
POOLS_FROM = 20  # pointers
POOLS_TO = 21
HEAD = 22

# The DMA engines of a core, while their work is shared out.
DMA_LEFT = 0  # what is not yet given away, of ONE
UNFED = 1  # transfers that have no share yet
EVEN = 2  # what each of them gets if none can do with less
POOL = 3  # size of the record

# A repeat: of the queue's history [START, STOP), COUNT copies in all, PERIOD_PS apart.
REPEAT_QUEUE = 0
REPEAT_START = 1
REPEAT_STOP = 2
REPEAT_PERIOD = 3
REPEAT_COUNT = 4
REPEAT_PREVIOUS = 5  # pointer to the repeat before, -1 if none
REPEAT = 6

# An event of the history.
EVENT_DONE = 0  # completion time; of a waiting transfer the time it may start
EVENT_ROW = 1  # pointer to the row
EVENT_START = 2
EVENT_END = 3
EVENT = 4

MOST_HISTORY = 200  # completion times of a queue in a state; a loop that needs more is not skipped
STATE_FIELDS = 24  # at most so many other integers a queue, without its transfers and inner loops

# States compared without a match after which a loop counts as irregular.
MOST_MISSES = 512

# Results of `simulate`.
DONE, GROW, STUCK, GROW_STATES = 0, 1, 2, 3

FRACTION = 20
ONE = 1 << FRACTION  # the whole of a core's DMA; fixed-point one
NEVER = 1 << 62


Ints = Any  # a list of ints, or an int64 array when compiled


class Tables(NamedTuple):
    """What the engine runs on."""

    m: Ints
    h: Ints
    g: Ints

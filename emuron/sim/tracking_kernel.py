"""Who last wrote and read each cell, as instructions go by: the inner loop of dependency tracking.

A read waits for the last write of its bytes, a write for the last write and the reads since. The
source runs on Python ints, and compiled. `p` holds the program: the records of sites and of their
accesses; `s` the state: a head, then columns for queues, cells and tensors; `e` the readers of
cells since their last writes, as linked records; `w` the waits found.
"""

from __future__ import annotations

from typing import Any

Ints = Any  # a list of ints, or an int64 array when compiled

# A site: its queue, and the pointer to its first access (up to that of the next site's).
QUEUE = 0
FIRST = 1
SITE = 2  # size of the record

# An access: the cells it covers, and what it does there.
CELL = 0
ROWS = 1
COLUMNS = 2
ACROSS = 3  # from one row of cells to the next
ROLE = 4
TENSOR = 5  # pointer to its tensor in the state; -1 if that has no rivals
ACCESS = 6  # size of the record

# Roles of an access.
READS, WRITES, UPDATES = 1, 2, 3

# The start of the state.
QUEUES = 0
IN_ORDER = 1  # the queue that needs not wait for its own results (matmuls accumulate), or -1
ISSUED = 2  # pointers: instructions issued by each queue
SEEN = 3  # latest position that each queue has waited for in each other, row by row
NEED = 4  # what the present instruction must wait for, by queue
WRITTEN = 5  # of each cell: queue (-1: none) and position of the last write
READERS = 6  # of each cell: pointer to its first reader, -1 if none
FREE = 7  # pointer to the first free reader
SPARE = 8  # number of free readers
CLOCK = 9  # instructions visited
TURNED = 10  # clock when an iteration of a loop last began
HEAD = 11

# A tensor with rivals in the state.
TOUCHED = 0  # clock at its last access
RIVALS = 1  # pointers to a list, in the program, of the pointers to its rivals
RIVALS_END = 2
LAST = 3  # the last access of each queue, then the clock at each queue's last look at the rivals

# A reader: the last read of a queue since a cell was written.
READER_QUEUE = 0
READER_POSITION = 1
NEXT = 2
READER = 3

# A wait found.
WAIT_QUEUE = 0
WAIT_POSITION = 1
WAIT = 2


def require(p: Ints, s: Ints, e: Ints, access: int, queue: int) -> None:
    """Add what an access finds on its cells to what its instruction needs."""
    role, need = p[access + ROLE], s[NEED]
    row = p[access + CELL]
    for _ in range(p[access + ROWS]):
        for cell in range(row, row + p[access + COLUMNS]):
            reader = s[s[READERS] + cell]
            other = s[s[WRITTEN] + 2 * cell]
            # Reads since the last write have waited for it.
            if other >= 0 and (role != WRITES or reader < 0):
                position = s[s[WRITTEN] + 2 * cell + 1]
                in_order = other == queue and (role == WRITES or queue == s[IN_ORDER])
                if not in_order and position > s[need + other]:
                    s[need + other] = position
            if role != READS:
                while reader >= 0:
                    other = e[reader + READER_QUEUE]
                    if other != queue and e[reader + READER_POSITION] > s[need + other]:
                        s[need + other] = e[reader + READER_POSITION]
                    reader = e[reader + NEXT]
        row += p[access + ACROSS]


def require_rivals(p: Ints, s: Ints, tensor: int, queue: int) -> None:
    """Add the last accesses of tensors that had the bytes of a written one before.

    Between two accesses of a tensor none touches its rivals, unless an iteration begins.
    """
    need, queues = s[NEED], s[QUEUES]
    looked = tensor + LAST + queues + queue
    since = s[looked]
    s[looked] = s[CLOCK]
    if since > s[TURNED]:
        return
    for entry in range(s[tensor + RIVALS], s[tensor + RIVALS_END]):
        rival = p[entry]
        if s[rival + TOUCHED] >= since:
            last = rival + LAST
            for other in range(queues):
                if other != queue and s[last + other] > s[need + other]:
                    s[need + other] = s[last + other]


def read(s: Ints, e: Ints, cell: int, queue: int, position: int) -> None:
    """Record a read of a cell."""
    reader = s[s[READERS] + cell]
    while reader >= 0:
        if e[reader + READER_QUEUE] == queue:
            e[reader + READER_POSITION] = position
            return
        reader = e[reader + NEXT]
    reader = s[FREE]
    s[FREE] = e[reader + NEXT]
    s[SPARE] -= 1
    e[reader + READER_QUEUE] = queue
    e[reader + READER_POSITION] = position
    e[reader + NEXT] = s[s[READERS] + cell]
    s[s[READERS] + cell] = reader


def write(s: Ints, e: Ints, cell: int, queue: int, position: int) -> None:
    """Record a write of a cell: it has no readers since."""
    s[s[WRITTEN] + 2 * cell] = queue
    s[s[WRITTEN] + 2 * cell + 1] = position
    reader = s[s[READERS] + cell]
    if reader >= 0:
        s[s[READERS] + cell] = -1
        last, count = reader, 1
        while e[last + NEXT] >= 0:
            last = e[last + NEXT]
            count += 1
        e[last + NEXT] = s[FREE]
        s[FREE] = reader
        s[SPARE] += count


def record(p: Ints, s: Ints, e: Ints, access: int, queue: int, position: int) -> None:
    """Record an access on its cells."""
    row = p[access + CELL]
    for _ in range(p[access + ROWS]):
        for cell in range(row, row + p[access + COLUMNS]):
            if p[access + ROLE] == READS:
                read(s, e, cell, queue, position)
            else:
                write(s, e, cell, queue, position)
        row += p[access + ACROSS]


def touch(s: Ints, tensor: int, queue: int, position: int) -> None:
    """Record an access of a tensor that has rivals."""
    s[tensor + TOUCHED] = s[CLOCK]
    s[tensor + LAST + queue] = max(position, s[tensor + LAST + queue])


def visit(p: Ints, s: Ints, e: Ints, site: int) -> None:
    """Take in one instruction; what it needs is in the state then."""
    queue = p[site + QUEUE]
    first, last = p[site + FIRST], p[site + SITE + FIRST]
    s[CLOCK] += 1
    for access in range(first, last, ACCESS):
        require(p, s, e, access, queue)
        if p[access + ROLE] != READS and p[access + TENSOR] >= 0:
            require_rivals(p, s, p[access + TENSOR], queue)
    position = s[s[ISSUED] + queue]
    s[s[ISSUED] + queue] = position + 1
    # Reads first: an instruction that reads and writes a cell leaves it written.
    for reads_now in (True, False):
        for access in range(first, last, ACCESS):
            if (p[access + ROLE] == READS) == reads_now:
                record(p, s, e, access, queue, position)
            if p[access + TENSOR] >= 0:
                touch(s, p[access + TENSOR], queue, position)


def readers_needed(p: Ints, site: int) -> int:
    """Return how many new readers an instruction adds at most."""
    count = 0
    for access in range(p[site + FIRST], p[site + SITE + FIRST], ACCESS):
        if p[access + ROLE] == READS:
            count += p[access + ROWS] * p[access + COLUMNS]
    return int(count)


def emit(s: Ints, w: Ints, queue: int, found: int) -> int:
    """Append the waits that no earlier wait of the queue implies; return their number so far."""
    queues, need = s[QUEUES], s[NEED]
    seen = s[SEEN] + queue * queues
    for other in range(queues):
        position = s[need + other]
        if position >= 0:
            s[need + other] = -1
            if position > s[seen + other]:
                s[seen + other] = position
                w[WAIT * found + WAIT_QUEUE] = other
                w[WAIT * found + WAIT_POSITION] = position
                found += 1
    return found


def track(p: Ints, s: Ints, e: Ints, w: Ints, ends: Ints, first: int, start: int) -> int:
    """Track sites from `start` on; return the one at which room for waits or readers ran out.

    `first` is the site that `ends` begins with: `ends[i + 1]` becomes the number of waits up to
    that of site `first` + i. With room for all, the site after the last is returned.
    """
    found = ends[start - first]
    last = first + len(ends) - 1
    for number in range(start, last):
        site = number * SITE
        if WAIT * (found + s[QUEUES]) > len(w) or s[SPARE] < readers_needed(p, site):
            return number
        visit(p, s, e, site)
        found = emit(s, w, p[site + QUEUE], found)
        ends[number - first + 1] = found
    return last

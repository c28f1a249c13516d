"""Who last wrote and read each cell of the tensors, as a program goes by."""

from __future__ import annotations

from itertools import chain, product

import numpy as np

from emuron.isa.affine import LoopIndex
from emuron.sim import tracking_kernel as at
from emuron.sim.compiled import compiled
from emuron.sim.footprints import Column
from emuron.sim.regularity import is_regular
from emuron.sim.sites import Run, SiteLoop, Sites
from emuron.sim.tracking_kernel import Ints

Seen = list[int]
Saved = tuple[Ints, Ints]
Dimension = tuple[LoopIndex, range, dict[int, int], int]  # its issues and sites per iteration

TRACKING = ("track", at)
"""The function that tracks a run of accesses, as `compiled` takes it."""

_FIRST_ROOM = 1 << 10  # readers, or waits


class Tracker:
    """The state of dependency tracking after the instructions visited so far."""

    def __init__(self, sites: Sites, *, numba: bool = False) -> None:
        self.counters: dict[LoopIndex, int] = {}
        self.sites = sites
        self._track = compiled(*TRACKING) if numba else at.track
        self._queues = len(sites.queue_names)
        self._make: type = np.ndarray if numba else list
        rivals = _rivals(sites)
        state = _state(sites)
        self._first_access = at.SITE * (len(sites) + 1)
        program, tensors = _program(sites, rivals, len(state))
        self._p = self._ints(program)
        self._s = self._ints(np.concatenate([state, tensors]))
        self._e = self._ints(np.zeros(0, np.int64))
        self._w = self._ints(np.zeros(at.WAIT * max(_FIRST_ROOM, self._queues), np.int64))
        self._more_readers(_FIRST_ROOM)

    def _ints(self, column: Column) -> Ints:
        return column if self._make is np.ndarray else column.tolist()

    def visit(self, run: Run) -> tuple[Ints, Ints]:
        """Track instructions; return the number of waits up to each one's last, and the waits.

        A wait is two integers, queue and position; those of an instruction are by queue.
        """
        self._place(run)
        count = run.last - run.first
        ends = self._ints(np.zeros(count + 1, np.int64))
        site = run.first
        while True:
            site = self._track(self._p, self._s, self._e, self._w, ends, run.first, site)
            if site == run.last:
                break
            missing = at.readers_needed(self._p, site * at.SITE) - self._s[at.SPARE]
            if missing > 0:
                self._more_readers(max(len(self._e) // at.READER, missing))
            else:
                self._w = _longer(self._w, len(self._w))
        waits = self._w[: at.WAIT * int(ends[count])]
        ends, waits = ends[1:], waits if isinstance(waits, list) else waits.copy()
        return self._with_partners(run, ends, waits) if self.sites.awaits else (ends, waits)

    def _with_partners(self, run: Run, ends: Ints, waits: Ints) -> tuple[Ints, Ints]:
        """Return the waits of a run with those for other cores, each after its site's own."""
        added: list[tuple[int, int]] = []
        places: list[int] = []
        longer = np.zeros(len(ends), np.int64)
        awaits = self.sites.awaits
        for site in awaits if len(awaits) < len(ends) else range(run.first, run.last):
            if run.first <= site < run.last:
                for queue, base, terms in awaits.get(site, ()):
                    shift = sum(self.counters[index] * slope for index, slope in terms)
                    added.append((queue, base + shift))
                    places.append(int(ends[site - run.first]))
                    longer[site - run.first] += 1
        found = np.asarray(waits, np.int64).reshape(-1, at.WAIT)
        together = np.insert(found, places, added, axis=0) if added else found
        return self._ints(np.asarray(ends) + np.cumsum(longer)), self._ints(together.ravel())

    def _place(self, run: Run) -> None:
        """Give the moving accesses of a run their cells at the present loop counters."""
        cells = self.sites.cells
        for access in run.moving:
            place = self.sites.shift(access, self.counters)
            record = self._first_access + at.ACCESS * access
            self._p[record + at.CELL] = int(cells.first[place])
            self._p[record + at.ROWS] = int(cells.rows[place])
            self._p[record + at.COLUMNS] = int(cells.columns[place])

    def _more_readers(self, count: int) -> None:
        """Make room for so many more readers."""
        size = len(self._e)
        self._e = _longer(self._e, at.READER * count)
        links = size + at.READER * np.arange(1, count + 1)
        self._e[size + at.NEXT :: at.READER] = self._ints(links)
        self._e[size + at.READER * (count - 1) + at.NEXT] = self._s[at.FREE]
        self._s[at.FREE] = size
        self._s[at.SPARE] += count

    def begin_iteration(self, index: LoopIndex, number: int) -> None:
        """Say that what is visited next is an iteration of a loop."""
        self.counters[index] = number
        self._s[at.TURNED] = self._s[at.CLOCK]

    def seen_copy(self) -> Seen:
        """Return a copy of the latest position that each queue has waited for in each other."""
        first = self._s[at.SEEN]
        return list(self._s[first : first + self._queues * self._queues])

    def save(self) -> Saved:
        """Return a copy of the state."""
        return self._s.copy(), self._e.copy()

    def restore(self, saved: Saved) -> None:
        """Return to a saved state."""
        self._s, self._e = saved

    def is_regular(self, loop: SiteLoop) -> bool:
        """Return whether the waits of a loop about to begin can be affine in its counter."""
        return is_regular(loop, self.sites, self.counters, self._found)

    def _found(self, site: int, access: int, cell: int) -> list[tuple[int, int]]:
        """Return what an access finds on a cell and its queue has not yet waited for."""
        s = self._s
        seen = s[at.SEEN] + int(self.sites.queue[site]) * self._queues
        written = s[at.WRITTEN] + 2 * cell
        found = [] if s[written] < 0 else [(s[written], s[written + 1])]
        if self.sites.writes[access]:
            found.extend(sorted(self._readers(cell)))
        return [(q, position) for q, position in found if position > s[seen + q]]

    def _readers(self, cell: int) -> list[tuple[int, int]]:
        found = []
        reader = self._s[self._s[at.READERS] + cell]
        while reader >= 0:
            queue, position, following = self._e[reader : reader + at.READER]
            found.append((queue, position))
            reader = following
        return found

    def advance(
        self, loop: SiteLoop, start: int, stop: int, seen: tuple[Seen, Seen], since: int
    ) -> None:
        """Track iterations `start` to `stop` - 1 of a loop at once.

        `seen` holds what had been waited for after the last two iterations tracked one by one,
        `since` the iterations between the last of them and `stop`.
        """
        s = self._s
        if stop > start:
            merged: dict[int, _Cell] = {}
            dimensions: list[Dimension] = [
                (loop.index, range(start, stop), loop.issues, loop.sites)
            ]
            origin = {q: s[s[at.ISSUED] + q] - start * n for q, n in loop.issues.items()}
            _Sweep(self, merged).body(loop.body, dimensions, origin, -start * loop.sites)
            for cell, entry in merged.items():
                self._merge(cell, entry)
            for queue, count in loop.issues.items():
                s[s[at.ISSUED] + queue] += count * (stop - start)
        first = s[at.SEEN]
        for pair, (before, after) in enumerate(zip(*seen, strict=True), start=first):
            step = after - before if before >= 0 else 0
            if after >= 0:
                s[pair] = max(s[pair], after + step * since)

    def _merge(self, cell: int, entry: _Cell) -> None:
        since = -1
        if entry.written is not None:
            since, queue, position = entry.written
            at.write(self._s, self._e, cell, queue, position)
        for queue, (order, position) in entry.read.items():
            if order > since:
                if self._s[at.SPARE] == 0:
                    self._more_readers(len(self._e) // at.READER)
                at.read(self._s, self._e, cell, queue, position)

    def note(self, access: int, queue: int, position: int) -> None:
        """Record the position of an access for its tensor's rivals."""
        tensor = self._p[self._first_access + at.ACCESS * access + at.TENSOR]
        if tensor >= 0:
            at.touch(self._s, tensor, queue, position)


def _longer(column: Ints, more: int) -> Ints:
    """Return a column with so many zeros at its end."""
    if isinstance(column, list):
        return [*column, *[0] * more]
    return np.concatenate([column, np.zeros(more, np.int64)])


def _state(sites: Sites) -> Column:
    """Return the state at the start of a program, without the tensors that have rivals."""
    queues, cells = len(sites.queue_names), sites.cell_count
    sizes = {at.ISSUED: queues, at.SEEN: queues * queues, at.NEED: queues}
    sizes |= {at.WRITTEN: 2 * cells, at.READERS: cells}
    state = np.full(at.HEAD + sum(sizes.values()), -1, np.int64)
    start = at.HEAD
    for pointer, size in sizes.items():
        state[pointer] = start
        start += size
    state[state[at.ISSUED] : state[at.ISSUED] + queues] = 0
    state[at.QUEUES], state[at.FREE], state[at.SPARE] = queues, -1, 0
    state[at.CLOCK], state[at.TURNED] = 0, 0
    names = sites.queue_names
    state[at.IN_ORDER] = names.index("tensor") if "tensor" in names else -1
    return state


def _program(sites: Sites, rivals: dict[int, list[int]], first: int) -> tuple[Column, Column]:
    """Return the records of sites and accesses, with lists of rivals, and of tensors with rivals.

    The tensors come into the state, at `first`.
    """
    queues, accesses = len(sites.queue_names), len(sites.tensor)
    heads, records = at.SITE * (len(sites) + 1), at.ACCESS * accesses
    lists = list(chain.from_iterable(rivals.values()))
    p = np.zeros(heads + records + len(lists), np.int64)
    site = p[:heads].reshape(-1, at.SITE)
    site[:-1, at.QUEUE] = sites.queue
    site[:, at.FIRST] = heads + at.ACCESS * sites.first
    access = p[heads : heads + records].reshape(-1, at.ACCESS)
    fields = (at.CELL, at.ROWS, at.COLUMNS, at.ACROSS)
    for name, column in zip(fields, sites.cells, strict=True):
        access[:, name] = column[sites.place]
    access[:, at.ROLE] = np.where(
        sites.writes, np.where(sites.reads, at.UPDATES, at.WRITES), at.READS
    )
    tensors = np.full((len(rivals), at.LAST + 2 * queues), -1, np.int64)
    tensors[:, at.LAST + queues :] = 0
    pointers = np.full(len(sites.program.tensors), -1, np.int64)
    pointers[list(rivals)] = first + np.arange(len(rivals)) * tensors.shape[1]
    access[:, at.TENSOR] = pointers[sites.tensor]
    p[heads + records :] = pointers[lists]
    ends = np.cumsum([len(others) for others in rivals.values()], dtype=np.int64)
    tensors[:, at.RIVALS_END] = heads + records + ends
    tensors[1:, at.RIVALS], tensors[:1, at.RIVALS] = tensors[:-1, at.RIVALS_END], heads + records
    return p, tensors.ravel()


def _rivals(sites: Sites) -> dict[int, list[int]]:
    """Return the accessed tensors that had or will have the bytes of each accessed tensor."""
    tensors = sites.program.tensors
    accessed = np.unique(sites.tensor).tolist()
    numbers = {tensors[number]: number for number in accessed}
    found = {}
    for tensor, number in numbers.items():
        others = [numbers[rival] for rival in tensor.rivals if rival in numbers]
        if others:
            found[number] = others
    return found


class _Cell:
    """The last accesses of a cell in a sweep: (order, queue, position); by queue for reads."""

    __slots__ = ("read", "written")

    def __init__(self) -> None:
        self.written: tuple[int, int, int] | None = None
        self.read: dict[int, tuple[int, int]] = {}


class _Sweep:
    """Visits the accesses of a range of iterations, only the last of those on equal bytes."""

    def __init__(self, tracker: Tracker, merged: dict[int, _Cell]) -> None:
        self._tracker = tracker
        self._sites = tracker.sites
        self._merged = merged

    def body(
        self,
        parts: list[Run | SiteLoop],
        dimensions: list[Dimension],
        origin: dict[int, int],
        order: int,
    ) -> None:
        origin = dict(origin)
        for part in parts:
            if isinstance(part, Run):
                for site in range(part.first, part.last):
                    queue = int(self._sites.queue[site])
                    self._site(site, dimensions, origin[queue], order)
                    origin[queue] += 1
                    order += 1
                continue
            trip = part.index.trip
            inner: Dimension = (part.index, range(trip), part.issues, part.sites)
            if trip:
                self.body(part.body, [*dimensions, inner], origin, order)
            for queue, count in part.issues.items():
                origin[queue] += count * trip
            order += part.sites * trip

    def _site(self, site: int, dimensions: list[Dimension], origin: int, order: int) -> None:
        sites, counters = self._sites, self._tracker.counters
        queue = int(sites.queue[site])
        for access in range(int(sites.first[site]), int(sites.first[site + 1])):
            strides = dict(sites.strides.get(access, ()))
            base = int(sites.place[access])
            for index, stride in strides.items():
                if all(index is not d[0] for d in dimensions):
                    base += stride * counters[index]
            values = [span if i in strides else span[-1:] for i, span, _, _ in dimensions]
            for point in product(*values):
                place, position, when = base, origin, order
                for value, (index, _, issues, count) in zip(point, dimensions, strict=True):
                    place += strides.get(index, 0) * value
                    position += issues.get(queue, 0) * value
                    when += count * value
                self._touch(access, place, (when, queue, position))

    def _touch(self, access: int, place: int, stamp: tuple[int, int, int]) -> None:
        when, queue, position = stamp
        self._tracker.note(access, queue, position)
        writes = self._sites.writes[access]
        for cell in self._sites.cells_at(place):
            entry = self._merged.get(cell)
            if entry is None:
                entry = self._merged[cell] = _Cell()
            if writes:
                if entry.written is None or when > entry.written[0]:
                    entry.written = stamp
            elif when > entry.read.get(queue, (-1 << 62, 0))[0]:
                entry.read[queue] = (when, position)

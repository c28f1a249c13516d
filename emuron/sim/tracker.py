"""Who last wrote and read each cell of the tensors, as a program goes by."""

from __future__ import annotations

from itertools import product

from emuron.isa.affine import LoopIndex
from emuron.isa.tensor import Tensor
from emuron.sim.regularity import is_regular
from emuron.sim.sites import Access, Site, SiteLoop, Sites

Seen = list[dict[int, int]]
Dimension = tuple[LoopIndex, range, dict[int, int], int]  # its issues and sites per iteration


class Tracker:
    """The state of dependency tracking after the instructions visited so far."""

    def __init__(self, sites: Sites) -> None:
        self.counters: dict[LoopIndex, int] = {}
        self._sites = sites
        queues = len(sites.queue_names)
        self._tensor_queue = (
            sites.queue_names.index("tensor") if "tensor" in sites.queue_names else -1
        )
        self._issued = [0] * queues
        self._seen: Seen = [{} for _ in range(queues)]
        self._writes: list[tuple[int, int] | None] = [None] * sites.cell_count
        self._reads: list[dict[int, int]] = [{} for _ in range(sites.cell_count)]
        self._rivals, self._overlapping = _conflicts(sites)
        self._last: dict[int, dict[int, int]] = {t: {} for t in self._rivals}

    def seen_copy(self) -> Seen:
        """Return a copy of the latest position that each queue has waited for in each other."""
        return [dict(entry) for entry in self._seen]

    def save(self) -> tuple[object, ...]:
        """Return a copy of the state."""
        last = {t: dict(q) for t, q in self._last.items()}
        reads = [dict(r) for r in self._reads]
        return [*self._issued], self.seen_copy(), [*self._writes], reads, last

    def restore(self, saved: tuple[object, ...]) -> None:
        """Return to a saved state."""
        self._issued, self._seen, self._writes, self._reads, self._last = saved  # type: ignore[assignment]

    def visit(self, site: Site) -> list[tuple[int, int]]:
        """Track one instruction and return its waits (queue, position), by queue."""
        queue = site.queue
        need: dict[int, int] = {}
        touched = []
        for access in site.accesses:
            if access.tensor in self._sites.cells:
                cells = self._cells(access)
                touched.append((access, cells))
                self._require(access, cells, queue, need)
        position = self._issued[queue]
        self._issued[queue] = position + 1
        self._record(touched, queue, position)
        seen = self._seen[queue]
        waits = [(q, p) for q, p in sorted(need.items()) if p > seen.get(q, -1)]
        seen.update(waits)
        return waits

    def is_regular(self, loop: SiteLoop) -> bool:
        """Return whether the waits of a loop about to begin can be affine in its counter."""
        return is_regular(loop, self._sites.cells, self.counters, self._found)

    def _found(self, site: Site, access: Access, cell: int) -> list[tuple[int, int]]:
        """Return what an access finds on a cell and its queue has not yet waited for."""
        seen = self._seen[site.queue]
        written = self._writes[cell]
        found = [] if written is None else [written]
        if access.writes:
            found.extend(sorted(self._reads[cell].items()))
        return [(q, position) for q, position in found if position > seen.get(q, -1)]

    def _cells(self, access: Access) -> tuple[int, ...]:
        return self._sites.cells[access.tensor].of(access.rectangle(self.counters))

    def _require(
        self, access: Access, cells: tuple[int, ...], queue: int, need: dict[int, int]
    ) -> None:
        """Add what an access must wait for to `need`."""
        for cell in cells:
            written = self._writes[cell]
            readers = self._reads[cell]
            if written is not None and (access.reads or not readers):
                other, position = written
                in_order = other == queue and (not access.reads or queue == self._tensor_queue)
                if not in_order and position > need.get(other, -1):
                    need[other] = position
            if access.writes:
                for other, position in readers.items():
                    if other != queue and position > need.get(other, -1):
                        need[other] = position
        if access.tensor in self._rivals and (access.writes or access.tensor in self._overlapping):
            self._require_rivals(access.tensor, queue, need)

    def _require_rivals(self, tensor: int, queue: int, need: dict[int, int]) -> None:
        for rival in self._rivals[tensor]:
            for other, position in self._last[rival].items():
                if other != queue and position > need.get(other, -1):
                    need[other] = position

    def _record(
        self, touched: list[tuple[Access, tuple[int, ...]]], queue: int, position: int
    ) -> None:
        for access, cells in touched:
            if access.tensor in self._last:
                self._last[access.tensor][queue] = position
            if not access.writes:
                for cell in cells:
                    self._reads[cell][queue] = position
        for access, cells in touched:
            if access.writes:
                for cell in cells:
                    self._writes[cell] = (queue, position)
                    if self._reads[cell]:
                        self._reads[cell] = {}

    def advance(
        self, loop: SiteLoop, start: int, stop: int, seen: tuple[Seen, Seen], since: int
    ) -> None:
        """Track iterations `start` to `stop` - 1 of a loop at once.

        `seen` holds what had been waited for after the last two iterations tracked one by one,
        `since` the iterations between the last of them and `stop`.
        """
        if stop > start:
            merged: dict[int, _Cell] = {}
            dimensions: list[Dimension] = [
                (loop.index, range(start, stop), loop.issues, loop.sites)
            ]
            origin = {q: self._issued[q] - start * n for q, n in loop.issues.items()}
            _Sweep(self, merged).body(loop.body, dimensions, origin, -start * loop.sites)
            for cell, entry in merged.items():
                self._merge(cell, entry)
            for queue, count in loop.issues.items():
                self._issued[queue] += count * (stop - start)
        before, after = seen
        for queue, latest in enumerate(after):
            for other, position in latest.items():
                step = position - before[queue].get(other, position)
                ahead = position + step * since
                if ahead > self._seen[queue].get(other, -1):
                    self._seen[queue][other] = ahead

    def _merge(self, cell: int, entry: _Cell) -> None:
        if entry.written is None:
            for queue, (_, position) in entry.read.items():
                self._reads[cell][queue] = position
            return
        order, queue, position = entry.written
        self._writes[cell] = (queue, position)
        self._reads[cell] = {q: p for q, (o, p) in entry.read.items() if o > order}

    def note(self, tensor: int, queue: int, position: int) -> None:
        """Record the position of an access for the tensor's rivals."""
        if tensor in self._last:
            last = self._last[tensor]
            last[queue] = max(position, last.get(queue, -1))

    def cells_at(self, access: Access, offset: int) -> tuple[int, ...]:
        """Return the cells of an access whose offset is known."""
        return self._sites.cells[access.tensor].of(access.shape.at(offset))

    def is_tracked(self, access: Access) -> bool:
        """Return whether an access needs order."""
        return access.tensor in self._sites.cells


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
        self._merged = merged

    def body(
        self,
        parts: list[Site | SiteLoop],
        dimensions: list[Dimension],
        origin: dict[int, int],
        order: int,
    ) -> None:
        origin = dict(origin)
        for part in parts:
            if isinstance(part, Site):
                self._site(part, dimensions, origin[part.queue], order)
                origin[part.queue] += 1
                order += 1
                continue
            trip = part.index.trip
            inner: Dimension = (part.index, range(trip), part.issues, part.sites)
            if trip:
                self.body(part.body, [*dimensions, inner], origin, order)
            for queue, count in part.issues.items():
                origin[queue] += count * trip
            order += part.sites * trip

    def _site(self, site: Site, dimensions: list[Dimension], origin: int, order: int) -> None:
        for access in site.accesses:
            if not self._tracker.is_tracked(access):
                continue
            terms = dict(access.terms)
            base = access.offset
            for index, coefficient in access.terms:
                if all(index is not d[0] for d in dimensions):
                    base += coefficient * self._tracker.counters[index]
            values = [span if i in terms else span[-1:] for i, span, _, _ in dimensions]
            for point in product(*values):
                offset, position, when = base, origin, order
                for value, (index, _, issues, sites) in zip(point, dimensions, strict=True):
                    offset += terms.get(index, 0) * value
                    position += issues.get(site.queue, 0) * value
                    when += sites * value
                self._touch(access, offset, (when, site.queue, position))

    def _touch(self, access: Access, offset: int, stamp: tuple[int, int, int]) -> None:
        when, queue, position = stamp
        self._tracker.note(access.tensor, queue, position)
        for cell in self._tracker.cells_at(access, offset):
            entry = self._merged.get(cell)
            if entry is None:
                entry = self._merged[cell] = _Cell()
            if access.writes:
                if entry.written is None or when > entry.written[0]:
                    entry.written = stamp
            elif when > entry.read.get(queue, (-1 << 62, 0))[0]:
                entry.read[queue] = (when, position)


def _conflicts(sites: Sites) -> tuple[dict[int, list[int]], set[int]]:
    """Return the tensors that share bytes with each tensor, and those that do so while in use."""
    tensors = sites.program.tensors
    numbers = {tensor: number for number, tensor in enumerate(tensors)}
    found: dict[int, set[int]] = {}
    for number, tensor in enumerate(tensors):
        for rival in tensor.rivals:
            if rival in numbers and number in sites.cells and numbers[rival] in sites.cells:
                found.setdefault(number, set()).add(numbers[rival])
                found.setdefault(numbers[rival], set()).add(number)
    aliased = [n for n in sites.cells if tensors[n].aliases]
    overlapping: set[int] = set()
    for i, a in enumerate(aliased):
        for b in aliased[i + 1 :]:
            if _overlap(tensors[a], tensors[b]):
                overlapping.update((a, b))
                found.setdefault(a, set()).add(b)
                found.setdefault(b, set()).add(a)
    return {n: sorted(others) for n, others in found.items()}, overlapping


def _overlap(a: Tensor, b: Tensor) -> bool:
    if a.buffer is not b.buffer or a.address is None or b.address is None:
        return False
    if isinstance(a.address, int) or isinstance(b.address, int):
        first, second = sorted(((_byte(a), a), (_byte(b), b)), key=lambda pair: pair[0])
        return first[0] + first[1].nbytes > second[0]
    rows = a.address[0] < b.address[0] + b.shape[0] and b.address[0] < a.address[0] + a.shape[0]
    return (
        rows
        and a.address[1] < b.address[1] + b.partition_bytes
        and b.address[1] < a.address[1] + a.partition_bytes
    )


def _byte(tensor: Tensor) -> int:
    return tensor.address if isinstance(tensor.address, int) else 0

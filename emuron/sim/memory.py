"""Placement: where in SBUF and PSUM the tensors of a recorded program lie."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from emuron.errors import CapacityError
from emuron.hardware.chip import NeuronCore
from emuron.isa.program import Program
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.sim.liveness import Life, lives

_NEVER = -1  # when bytes were freed that nobody used yet
_LISTED = 5  # tensors named in an error


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """What a program holds on chip: bytes of each partition, over the rows of its text.

    `usage` has a sample (row, SBUF bytes, PSUM bytes) wherever a tensor's life begins or ends.
    """

    sbuf_peak_bytes: int
    psum_peak_bytes: int
    usage: tuple[tuple[int, int, int], ...]


def place(program: Program) -> Placement:
    """Give each on-chip tensor without an address its address; set the `rivals` of all.

    Bytes that were freed the longest time ago are reused first, so that what overlaps in time may
    go on doing so; where that leaves no gap large enough, the lowest gap is taken instead. PSUM is
    given out in whole banks. Raises CapacityError if the tensors do not fit.
    """
    core = program.core
    found = lives(program)
    pairs: set[tuple[int, int]] = set()
    for region, capacity in (
        (MemoryRegion.sbuf, core.sbuf_usable_bytes_per_partition),
        (MemoryRegion.psum, core.psum_bytes_per_partition),
    ):
        local = [life for life in found if life.tensor.buffer is region]
        if local:
            _place_region(program, region, capacity, local)
            pairs |= _rivals(local, core)
    _set_rivals([life.tensor for life in found], pairs)
    return _usage(found, core)


def _place_region(program: Program, region: MemoryRegion, capacity: int, local: list[Life]) -> None:
    unit = program.core.psum_bank_bytes
    if region is MemoryRegion.sbuf:
        unit = max(life.tensor.dtype.itemsize for life in local)
    fixed = [life for life in local if life.tensor.address is not None]
    free = [life for life in local if life.tensor.address is None]
    for oldest_first in (True, False):
        arena = _Arena(capacity, unit, oldest_first)
        addresses = _allocate(free, fixed, arena)
        if addresses is not None:
            break
    if addresses is None:
        raise _too_large(program, region, capacity, local, unit)
    for life, byte in zip(free, addresses, strict=True):
        life.tensor.address = (0, byte)


def _allocate(free: list[Life], fixed: list[Life], arena: _Arena) -> list[int] | None:
    """Return a byte for each life, in order; None if one does not fit."""
    held: list[tuple[Life, int]] = []
    addresses = []
    for life in free:
        for old in [entry for entry in held if entry[0].last < life.first]:
            held.remove(old)
            arena.release(old[1], old[0].tensor.partition_bytes, old[0].last)
        taken = [_bytes(f.tensor) for f in fixed if f.first <= life.last and life.first <= f.last]
        byte = arena.take(life.tensor.partition_bytes, taken)
        if byte is None:
            return None
        held.append((life, byte))
        addresses.append(byte)
    return addresses


class _Arena:
    """Bytes of a partition as stretches: free since a row of the program, or taken."""

    def __init__(self, capacity: int, unit: int, oldest_first: bool) -> None:
        self._unit = unit
        self._oldest_first = oldest_first
        # [first byte, end, row at which it was freed; None while taken], by address
        self._stretches: list[tuple[int, int, int | None]] = [(0, capacity // unit * unit, _NEVER)]

    def take(self, size: int, forbidden: Iterable[tuple[int, int]]) -> int | None:
        """Take `size` bytes outside the forbidden stretches; return the first, None if none."""
        size = self._rounded(size)
        blocked = sorted(forbidden)
        candidates = self._candidates(size) if not blocked else self._beside(size, blocked)
        best = min(candidates, default=None)
        if best is None:
            return None
        self._mark(best[1], best[1] + size, None)
        return best[1]

    def _candidates(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield (row at which the last of its bytes was freed, first byte) of every gap's starts.

        One sweep with a window over the stretches; `latest` holds the window's possible maxima.
        """
        stretches, right = self._stretches, 0
        rows = [_NEVER if freed is None else freed for _, _, freed in stretches]
        latest: deque[int] = deque()  # positions of free stretches, by falling row
        for left, (start, _, freed) in enumerate(stretches):
            if latest and latest[0] < left:
                latest.popleft()
            if freed is None:
                right = max(right, left + 1)
                continue
            right = max(right, left)
            while right < len(stretches) and stretches[right][0] < start + size:
                row = stretches[right][2]
                if row is None:
                    break
                while latest and rows[latest[-1]] <= row:
                    latest.pop()
                latest.append(right)
                right += 1
            if right and stretches[right - 1][1] >= start + size:
                yield (rows[latest[0]] if self._oldest_first else 0), start

    def _beside(self, size: int, forbidden: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield what `_candidates` does, outside of forbidden stretches."""
        for start in self._starts(forbidden):
            freed = self._freed(start, start + size)
            if freed is None or any(a < start + size and start < b for a, b in forbidden):
                continue
            yield (freed if self._oldest_first else 0), start

    def release(self, start: int, size: int, row: int) -> None:
        """Give bytes back after a row."""
        self._mark(start, start + self._rounded(size), row)

    def _rounded(self, size: int) -> int:
        return -(-max(1, size) // self._unit) * self._unit

    def _starts(self, forbidden: list[tuple[int, int]]) -> list[int]:
        ends = [self._rounded(end) for _, end in forbidden]
        return sorted({start for start, _, freed in self._stretches if freed is not None} | {*ends})

    def _freed(self, start: int, end: int) -> int | None:
        """Return when the last of these bytes was freed, None if one is taken or beyond."""
        latest, reached = _NEVER, start
        for first, last, freed in self._stretches:
            if last <= start or first >= end:
                continue
            if freed is None:
                return None
            latest, reached = max(latest, freed), last
        return latest if reached >= end else None

    def _mark(self, start: int, end: int, freed: int | None) -> None:
        kept: list[tuple[int, int, int | None]] = []
        for first, last, old in self._stretches:
            if first < start:
                kept.append((first, min(last, start), old))
            if last > end:
                kept.append((max(first, end), last, old))
        kept = [stretch for stretch in kept if stretch[0] < stretch[1]]
        self._stretches = sorted([*kept, (start, end, freed)], key=lambda stretch: stretch[0])


def _bytes(tensor: Tensor) -> tuple[int, int]:
    """Return the bytes of a partition that a placed tensor takes."""
    assert isinstance(tensor.address, tuple)
    return tensor.address[1], tensor.address[1] + tensor.partition_bytes


def _rivals(local: list[Life], core: NeuronCore) -> set[tuple[int, int]]:
    """Return the pairs (ids) of tensors that follow each other on the same bytes.

    That is each tensor with the one before it on a byte, the last with the first (for programs run
    again and again), and within a loop all that share bytes.
    """
    pairs: set[tuple[int, int]] = set()
    owners: list[tuple[int, int, Life, Life]] = []  # bytes from, to, last and first owner
    for life in local:
        start, end = _extent(life.tensor, core)
        kept: list[tuple[int, int, Life, Life]] = []
        gaps = [(start, end)]
        for first, last, owner, original in owners:
            if last <= start or first >= end:
                kept.append((first, last, owner, original))
                continue
            pairs.add((id(owner.tensor), id(life.tensor)))
            if first < start:
                kept.append((first, start, owner, original))
            if last > end:
                kept.append((end, last, owner, original))
            kept.append((max(first, start), min(last, end), life, original))
            gaps = _without(gaps, first, last)
        owners = kept + [(first, last, life, life) for first, last in gaps]
    pairs |= {(id(owner.tensor), id(first.tensor)) for _, _, owner, first in owners}
    return pairs | _rivals_in_loops(local, core)


def _rivals_in_loops(local: list[Life], core: NeuronCore) -> set[tuple[int, int]]:
    by_loop: dict[tuple[int, int], list[Life]] = {}
    for life in local:
        if life.outer_loop is not None:
            by_loop.setdefault(life.outer_loop, []).append(life)
    pairs: set[tuple[int, int]] = set()
    for together in by_loop.values():
        extents = [(_extent(life.tensor, core), id(life.tensor)) for life in together]
        for i, ((start, end), own) in enumerate(extents):
            for (first, last), other in extents[i + 1 :]:
                if first < end and start < last:
                    pairs.add((own, other))
    return pairs


def _extent(tensor: Tensor, core: NeuronCore) -> tuple[int, int]:
    start, end = _bytes(tensor)
    if tensor.buffer is MemoryRegion.psum:
        bank = core.psum_bank_bytes
        return start // bank * bank, -(-end // bank) * bank
    return start, end


def _without(gaps: list[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    parts = [part for a, b in gaps for part in ((a, min(b, first)), (max(a, last), b))]
    return [(a, b) for a, b in parts if a < b]


def _set_rivals(tensors: list[Tensor], pairs: set[tuple[int, int]]) -> None:
    by_id = {id(tensor): tensor for tensor in tensors}
    rivals: dict[int, dict[int, None]] = {}
    for a, b in sorted(pairs):
        # Tensors that the user put on the same bytes share their contents: no rivals.
        if a != b and not (by_id[a].aliases and by_id[b].aliases):
            rivals.setdefault(a, {})[b] = None
            rivals.setdefault(b, {})[a] = None
    order = {id(tensor): number for number, tensor in enumerate(tensors)}
    for tensor in tensors:
        others = sorted(rivals.get(id(tensor), ()), key=order.__getitem__)
        tensor.rivals = tuple(by_id[other] for other in others)


def _usage(found: list[Life], core: NeuronCore) -> Placement:
    changes: dict[int, list[int]] = {}
    for life in found:
        start, end = _extent(life.tensor, core)
        memory = 0 if life.tensor.buffer is MemoryRegion.sbuf else 1
        for row, sign in ((life.first, 1), (life.last + 1, -1)):
            changes.setdefault(row, [0, 0])[memory] += sign * (end - start)
    usage = []
    sbuf = psum = 0
    for row in sorted(changes):
        sbuf += changes[row][0]
        psum += changes[row][1]
        usage.append((row, sbuf, psum))
    peaks = [max((sample[i] for sample in usage), default=0) for i in (1, 2)]
    return Placement(peaks[0], peaks[1], tuple(usage))


def _too_large(
    program: Program, region: MemoryRegion, capacity: int, local: list[Life], unit: int
) -> CapacityError:
    def need(row: int) -> int:
        alive = [life for life in local if life.first <= row <= life.last]
        return sum(-(-life.tensor.partition_bytes // unit) * unit for life in alive)

    worst = max((life.first for life in local), key=need)
    alive = [life for life in local if life.first <= worst <= life.last]
    alive.sort(key=lambda life: -life.tensor.partition_bytes)
    names = ", ".join(
        f"{life.tensor.name} {list(life.tensor.shape)} {life.tensor.dtype} "
        f"({life.tensor.partition_bytes} bytes)"
        for life in alive[:_LISTED]
    )
    latest = max(alive, key=lambda life: life.first)
    where = f" ({latest.group})" if latest.group else ""
    problem = (
        f"needs {need(worst)} bytes of {region.value.upper()} in each partition at row {worst}"
        f"{where}; NeuronCore-{program.core.version} has {capacity}"
    )
    if need(worst) <= capacity:
        problem += ", but no gap between the tensors is large enough"
    return CapacityError(
        f"program {program.name} {problem}. The largest tensors alive there: {names}. "
        "Use smaller tiles or fewer buffers, or keep less on chip at a time."
    )

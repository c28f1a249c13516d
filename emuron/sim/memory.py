"""Placement: where in SBUF and PSUM the tensors of a recorded program lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from emuron.errors import CapacityError
from emuron.isa.program import Program
from emuron.isa.tensor import MemoryRegion, Tensor
from emuron.sim.arena import Arena
from emuron.sim.collection import paused_collection
from emuron.sim.footprints import Column
from emuron.sim.liveness import Life, lives
from emuron.sim.rivals import Placed, set_rivals
from emuron.sim.tenancies import tenancies

_LISTED = 5  # tensors named in an error


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """What a program holds on chip: bytes of each partition, over the rows of its text.

    `usage` has a sample (row, SBUF bytes, PSUM bytes) wherever a tensor's life begins or ends.
    Bytes that several tensors share count once.
    """

    sbuf_peak_bytes: int
    psum_peak_bytes: int
    usage: tuple[tuple[int, int, int], ...]


@paused_collection()
def place(program: Program) -> Placement:
    """Give each on-chip tensor without an address its address; set the `rivals` of all.

    Bytes that were freed the longest time ago are reused first, so that what overlaps in time may
    go on doing so; where that leaves no gap large enough, the lowest gap is taken instead. PSUM is
    given out in whole banks. Raises CapacityError if the tensors do not fit.
    """
    core = program.core
    found = lives(program)
    regions: list[Placed] = []
    for region, capacity in (
        (MemoryRegion.sbuf, core.sbuf_usable_bytes_per_partition),
        (MemoryRegion.psum, core.psum_bytes_per_partition),
    ):
        local = [life for life in found if life.tensor.buffer is region]
        if local:
            _place_region(program, region, capacity, local)
        regions.append(_placed(local, core.psum_bank_bytes if region is MemoryRegion.psum else 1))
    set_rivals(regions)
    return _usage(regions)


def place_cores(programs: Sequence[Program]) -> list[Placement]:
    """Place the tensors of the programs of several cores, as `place` does for each.

    Programs that are alike get the same places.
    """
    models = [next(p for p in programs if p is own or p.is_like(own)) for own in programs]
    placed = {id(model): place(model) for model in {id(m): m for m in models}.values()}
    for program, model in zip(programs, models, strict=True):
        if program is not model:
            of_model = dict(zip(model.tensors, program.tensors, strict=True))
            for theirs, own in of_model.items():
                own.address = theirs.address
                own.rivals = tuple(of_model[rival] for rival in theirs.rivals)
    return [placed[id(model)] for model in models]


def _place_region(program: Program, region: MemoryRegion, capacity: int, local: list[Life]) -> None:
    unit = program.core.psum_bank_bytes
    if region is MemoryRegion.sbuf:
        unit = max(life.tensor.dtype.itemsize for life in local)
    fixed = [life for life in local if life.tensor.address is not None]
    free = [life for life in local if life.tensor.address is None]
    for oldest_first in (True, False):
        arena = Arena(capacity, unit, oldest_first)
        addresses = _allocate(free, fixed, arena)
        if addresses is not None:
            break
    if addresses is None:
        raise _too_large(program, region, capacity, local, unit)
    for life, byte in zip(free, addresses, strict=True):
        life.tensor.address = (0, byte)


def _allocate(free: list[Life], fixed: list[Life], arena: Arena) -> list[int] | None:
    """Return a byte for each life, in order; None if one does not fit."""
    held: list[tuple[int, int, int]] = []  # last row, byte, size
    addresses = []
    first = np.array([life.first for life in fixed], np.int64)
    last = np.array([life.last for life in fixed], np.int64)
    stretches = [_bytes(life.tensor) for life in fixed]
    taken: set[tuple[int, int]] = set()
    for life in free:
        while held and held[0][0] < life.first:
            row, byte, size = heappop(held)
            arena.release(byte, size, row)
        if fixed:
            meet = np.flatnonzero((first <= life.last) & (last >= life.first))
            taken = {stretches[number] for number in meet}
        size = life.tensor.partition_bytes
        start = arena.take(size, taken)
        if start is None:
            return None
        heappush(held, (life.last, start, size))
        addresses.append(start)
    return addresses


def _bytes(tensor: Tensor) -> tuple[int, int]:
    """Return the bytes of a partition that a placed tensor takes."""
    assert isinstance(tensor.address, tuple)
    return tensor.address[1], tensor.address[1] + tensor.partition_bytes


def _placed(local: list[Life], unit: int) -> Placed:
    """Return the lives of a memory with the whole units of bytes that they take."""
    taken = np.array([_bytes(life.tensor) for life in local], np.int64).reshape(-1, 2)
    return Placed(local, taken[:, 0] // unit * unit, -(-taken[:, 1] // unit) * unit)


def _usage(regions: list[Placed]) -> Placement:
    """Return the use of the memories, SBUF and PSUM."""
    changes = [_changes(local) for local in regions]
    rows = np.unique(np.concatenate([rows for rows, _ in changes]))
    held = np.zeros((len(rows), len(regions)), np.int64)
    for region, (at, change) in enumerate(changes):
        np.add.at(held[:, region], np.searchsorted(rows, at), change)
    np.cumsum(held, axis=0, out=held)
    sbuf, psum = held.max(axis=0, initial=0).tolist()
    usage = zip(rows.tolist(), *held.T.tolist(), strict=True)
    return Placement(sbuf, psum, tuple(usage))


def _changes(local: Placed) -> tuple[Column, Column]:
    """Return the rows at which lives begin or have ended, and by how many bytes the use changes."""
    first = np.array([life.first for life in local.lives], np.int64)
    last = np.array([life.last for life in local.lives], np.int64)
    rows, change = [first, last + 1], [np.zeros(2 * len(first), np.int64)]
    for part in tenancies(local.start, local.end):
        # The tenants of a cell come by their first rows. Those of one time count once: a stay is
        # from the first to the last of tenants none of which comes after all before it have gone.
        opens = part.opens
        rank = np.repeat(np.arange(len(opens)), np.diff(opens, append=len(part.cell)))
        latest = _latest(rank, last[part.tenant])
        begins = np.ones(len(rank), np.bool_)
        follows = part.follows
        begins[follows] = first[part.tenant[follows]] > latest[follows - 1]
        begins_next = np.append(begins[1:], True)
        rows += [first[part.tenant[begins]], latest[begins_next] + 1]
        change += [part.size[begins], -part.size[begins_next]]
    return np.concatenate(rows), np.concatenate(change)


def _latest(rank: Column, last: Column) -> Column:
    """Return of each entry the highest value of its rank so far; ranks ascend."""
    span = int(last.max(initial=0)) + 1
    return np.asarray(np.maximum.accumulate(rank * span + last) - rank * span)


def _needs(local: list[Life], unit: int) -> Column:
    """Return the bytes that the tensors alive at the first row of each life need together."""
    sizes = np.array([-(-life.tensor.partition_bytes // unit) * unit for life in local], np.int64)
    firsts = np.array([life.first for life in local], np.int64)
    lasts = np.array([life.last for life in local], np.int64)
    ended = np.argsort(lasts, kind="stable")
    begun = np.searchsorted(np.sort(firsts), firsts, side="right")
    gone = np.searchsorted(lasts[ended], firsts, side="left")
    in_order = np.concatenate([[0], np.cumsum(sizes[np.argsort(firsts, kind="stable")])])
    freed = np.concatenate([[0], np.cumsum(sizes[ended])])
    return np.asarray(in_order[begun] - freed[gone])


def _too_large(
    program: Program, region: MemoryRegion, capacity: int, local: list[Life], unit: int
) -> CapacityError:
    needs = _needs(local, unit)
    at = int(np.argmax(needs))
    worst, need = local[at].first, int(needs[at])
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
        f"needs {need} bytes of {region.value.upper()} in each partition at row {worst}"
        f"{where}; NeuronCore-{program.core.version} has {capacity}"
    )
    if need <= capacity:
        problem += ", but no gap between the tensors is large enough"
    return CapacityError(
        f"program {program.name} {problem}. The largest tensors alive there: {names}. "
        "Use smaller tiles or fewer buffers, or keep less on chip at a time."
    )

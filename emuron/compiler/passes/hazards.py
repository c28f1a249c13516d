"""Which instructions of a straight run must keep their order: those that touch the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from emuron.isa.instruction import READ_KINDS, WRITE_KINDS, Form
from emuron.isa.program import Block, Program
from emuron.isa.tensor import AccessPattern, Tensor

_STATEFUL = ("rand", "rng", "register", "dropout", "seed", "branch")
"""Parts of the names of instructions that share a state which no operand shows."""


class Box(NamedTuple):
    """Partitions [low, high) and bytes [start, end) in each; in HBM there is one partition."""

    low: int
    high: int
    start: int
    end: int

    def meets(self, other: Box) -> bool:
        """Tell whether two boxes share a byte."""
        return (
            self.low < other.high
            and other.low < self.high
            and self.start < other.end
            and other.start < self.end
        )

    def covers(self, other: Box) -> bool:
        """Tell whether a box holds all bytes of another one."""
        return (
            self.low <= other.low
            and self.high >= other.high
            and self.start <= other.start
            and self.end >= other.end
        )


class Use(NamedTuple):
    """What an instruction does with bytes of a tensor."""

    tensor: int
    box: Box
    reads: bool
    writes: bool


@dataclass(slots=True)
class _Past:
    """The uses of a tensor so far that a later one may have to wait for."""

    writes: list[tuple[int, Box]] = field(default_factory=list)
    reads: list[tuple[int, Box]] = field(default_factory=list)


def uses(program: Program, block: Block, row: int) -> Iterator[Use]:
    """Yield what an instruction does with each of its operands; boxes may be too large."""
    form = program.forms[block.form[row]]
    first = block.first[row]
    for place, (name, kind) in enumerate(form.operand_fields, start=first):
        moves = place in block.slopes
        number = block.tensor[place]
        box = _box(program.tensors[number], form, name, 0 if moves else block.offset[place], moves)
        reads = kind in READ_KINDS or kind == "InOut"
        yield Use(number, box, reads, kind in WRITE_KINDS)


def hazards(program: Program, block: Block) -> list[set[int]]:
    """Return for each instruction of a block the earlier ones that it must come after."""
    past: dict[int, _Past] = {}
    after: list[set[int]] = []
    last_stateful = -1
    shared = _shared_accumulators(program, block)
    last_reduced: dict[str, int] = {}
    for row in range(len(block)):
        needed: set[int] = set()
        mnemonic = program.forms[block.form[row]].mnemonic
        if any(word in mnemonic for word in _STATEFUL):
            needed |= {last_stateful} - {-1}
            last_stateful = row
        accumulator = _accumulator(program, block, row)
        if accumulator in shared:
            needed |= {last_reduced[accumulator]} if accumulator in last_reduced else set()
            last_reduced[accumulator] = row
        found = list(uses(program, block, row))
        for use in found:
            _look_back(past.setdefault(use.tensor, _Past()), use, needed)
        for use in found:
            _record(past[use.tensor], use, row)
        needed.discard(row)
        after.append(needed)
    return after


def _accumulator(program: Program, block: Block, row: int) -> str:
    """Return the engine whose accumulator registers an instruction works on, or nothing."""
    return getattr(program.forms[block.form[row]].example, "accumulator", None) or ""


def _shared_accumulators(program: Program, block: Block) -> set[str]:
    """Return the engines whose accumulators hand a sum from one instruction to another."""
    found = set()
    for row in range(len(block)):
        command = getattr(program.forms[block.form[row]].example, "reduce_cmd", "idle")
        if command not in ("idle", "reset_reduce"):
            found.add(_accumulator(program, block, row))
    return found - {""}


def _look_back(past: _Past, use: Use, needed: set[int]) -> None:
    needed.update(row for row, box in past.writes if box.meets(use.box))
    if use.writes:
        needed.update(row for row, box in past.reads if box.meets(use.box))


def _record(past: _Past, use: Use, row: int) -> None:
    if use.writes:
        # Whoever comes after this write comes after all that it has waited for.
        past.writes = [(r, b) for r, b in past.writes if not use.box.covers(b)]
        past.reads = [(r, b) for r, b in past.reads if not use.box.covers(b)]
        past.writes.append((row, use.box))
    else:
        past.reads.append((row, use.box))


def _box(tensor: Tensor, form: Form, name: str, offset: int, moves: bool) -> Box:
    """Return the bytes of an operand; those of the whole tensor where its place is not fixed."""
    owner, _, part = name.partition(".")
    pattern: AccessPattern = getattr(form.example, owner)
    on_chip = tensor.buffer.is_on_chip
    if part and pattern.indirection is not None:
        pattern = pattern.indirection.index
    elif pattern.indirection is not None or moves:
        return Box(0, 1 << 30, 0, 1 << 60)
    size = pattern.dtype.itemsize
    dims = list(zip(pattern.shape, pattern.strides, strict=True))
    if not on_chip:
        first, last = _reach(dims)
        return Box(0, 1, (offset + first) * size, (offset + last + 1) * size)
    row = max(1, tensor.partition_bytes // size)
    partition, start = divmod(offset, row)
    first, last = _reach(dims[1:])
    return Box(partition, partition + dims[0][0], (start + first) * size, (start + last + 1) * size)


def _reach(dims: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the lowest and the highest element of a pattern, counted from its offset."""
    steps = [(count - 1) * stride for count, stride in dims]
    return sum(s for s in steps if s < 0), sum(s for s in steps if s > 0)

"""From which to which row of a program's text each on-chip tensor holds data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from emuron.isa.affine import LoopIndex
from emuron.isa.instruction import READ_KINDS, Form
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import MemoryRegion, Tensor

Span = tuple[int, int]

_NEVER = np.iinfo(np.int64).max


@dataclass(slots=True, eq=False)
class Life:
    """The rows (inclusive) over which a tensor must keep its bytes, and who asks first."""

    tensor: Tensor
    first: int
    last: int
    group: str
    loops: tuple[Span, ...]  # around all accesses, the outermost first


@dataclass(slots=True, eq=False)
class _Accesses:
    """The accesses to a tensor inside of loops: the rows by loop path."""

    spans: dict[tuple[LoopIndex, ...], Span] = field(default_factory=dict)
    moves_with: set[LoopIndex] = field(default_factory=set)


def lives(program: Program) -> list[Life]:
    """Return the life of each on-chip tensor that is accessed, by first row.

    A tensor lives from its first to its last access. Where only some accesses are in a loop, it
    lives for the whole loop; so it does if its content goes from one iteration to the next (it is
    read before it is written, or each iteration accesses another part).
    """
    walk = _Walk(program)
    walk.body(program.body, ())
    return sorted(walk.lives(), key=lambda life: (life.first, life.last))


class _Walk:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._row = 0
        self._loops: dict[LoopIndex, Span] = {}
        self._operands = np.array([len(f.operand_fields) for f in program.forms], np.int64)
        starts = np.cumsum(self._operands) - self._operands
        reads = [_reads(form, *field) for form in program.forms for field in form.operand_fields]
        self._slots, self._reads = starts, np.array(reads, np.bool_)
        self._on_chip = np.array([t.buffer.is_on_chip for t in program.tensors], np.bool_)
        # Of each tensor: the group of its first access and whether that reads, the first and last
        # row outside of loops, and what there is inside.
        count = len(self._on_chip)
        self._group = np.full(count, -1, np.int64)
        self._read_first = np.zeros(count, np.bool_)
        self._first = np.full(count, _NEVER, np.int64)
        self._last = np.full(count, -1, np.int64)
        self._in_loops: dict[int, _Accesses] = {}

    def body(self, parts: list[Block | Loop], path: tuple[LoopIndex, ...]) -> None:
        for part in parts:
            if isinstance(part, Loop):
                first = self._row
                self.body(part.body, (*path, part.index))
                self._loops[part.index] = (first, self._row - 1)
            else:
                self._block(part, path)
                self._row += len(part)

    def _block(self, block: Block, path: tuple[LoopIndex, ...]) -> None:
        form = np.asarray(block.form).astype(np.int64)
        counts = self._operands[form]
        row = np.repeat(np.arange(len(form)), counts)
        operand = np.asarray(block.first).astype(np.int64)[row]
        within = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
        tensor = np.asarray(block.tensor).astype(np.int64)[operand + within]
        reads = self._reads[self._slots[form][row] + within]
        own = self._on_chip[tensor]
        row, tensor, reads = row[own], tensor[own], reads[own]
        numbers = np.unique(tensor)
        first, last = np.zeros((2, len(self._on_chip)), np.int64)
        first[tensor[::-1]], last[tensor] = row[::-1], row
        read_first = np.zeros(len(self._on_chip), np.bool_)
        read_first[tensor[reads & (row == first[tensor])]] = True
        new = numbers[self._group[numbers] < 0]
        self._group[new] = np.asarray(block.group)[first[new]]
        self._read_first[new] = read_first[new]
        first, last = first[numbers] + self._row, last[numbers] + self._row
        if not path:
            self._first[numbers] = np.minimum(self._first[numbers], first)
            self._last[numbers] = last
            return
        for number, begin, end in np.stack([numbers, first, last], axis=1).tolist():
            spans = self._in_loops.setdefault(number, _Accesses()).spans
            spans[path] = (spans.get(path, (begin, 0))[0], end)
        for k, terms in block.slopes.items():
            number = block.tensor[k]
            if self._on_chip[number]:
                self._in_loops[number].moves_with.update(index for index, _ in terms)

    def lives(self) -> Iterator[Life]:
        """Yield the life of each tensor that is accessed."""
        tensors, groups = self._program.tensors, self._program.groups
        numbers = np.flatnonzero(self._group >= 0)
        columns = (numbers, self._group[numbers], self._first[numbers], self._last[numbers])
        for number, group, first, last in zip(*(c.tolist() for c in columns), strict=True):
            name = groups[group] if groups else ""
            accesses = self._in_loops.get(number)
            if accesses is None:
                yield Life(tensors[number], first, last, name, ())
                continue
            if last >= 0:
                accesses.spans[()] = (first, last)
            yield self._life(number, accesses, name)

    def _life(self, number: int, accesses: _Accesses, group: str) -> Life:
        """Return the life of a tensor that is accessed in loops, too, from all accesses."""
        common = _common(list(accesses.spans))
        spans = [
            span if len(path) == len(common) else self._loops[path[len(common)]]
            for path, span in accesses.spans.items()
        ]
        spans.extend(
            self._loops[loop]
            for loop in common
            if self._read_first[number] or loop in accesses.moves_with
        )
        return Life(
            self._program.tensors[number],
            min(first for first, _ in spans),
            max(last for _, last in spans),
            group,
            tuple(self._loops[loop] for loop in common),
        )


def _reads(form: Form, name: str, kind: str) -> bool:
    """Return whether an operand field needs what its tensor held before."""
    if kind == "InOut":
        # The first matmul into PSUM overwrites what is there.
        in_psum = getattr(form.example, name).buffer is MemoryRegion.psum
        return not in_psum and name not in form.example.unread
    return kind in READ_KINDS


def _common(paths: list[tuple[LoopIndex, ...]]) -> tuple[LoopIndex, ...]:
    """Return the loops that all paths begin with."""
    common = paths[0]
    for path in paths[1:]:
        size = 0
        while size < min(len(common), len(path)) and common[size] is path[size]:
            size += 1
        common = common[:size]
    return common

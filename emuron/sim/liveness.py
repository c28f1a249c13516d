"""From which to which row of a program's text each on-chip tensor holds data."""

from __future__ import annotations

from dataclasses import dataclass, field

from emuron.isa.affine import LoopIndex
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import MemoryRegion, Tensor

Span = tuple[int, int]


@dataclass(slots=True, eq=False)
class Life:
    """The rows (inclusive) over which a tensor must keep its bytes, and who asks first."""

    tensor: Tensor
    first: int
    last: int
    group: str
    outer_loop: Span | None  # the outermost loop around all accesses


@dataclass(slots=True, eq=False)
class _Accesses:
    """All accesses to a tensor: the rows by loop path, and what is known of the first."""

    group: int
    read_first: bool
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
    found = [walk.life(number, accesses) for number, accesses in walk.accesses.items()]
    return sorted(found, key=lambda life: (life.first, life.last))


class _Walk:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._row = 0
        self._loops: dict[LoopIndex, Span] = {}
        self.accesses: dict[int, _Accesses] = {}

    def body(self, parts: list[Block | Loop], path: tuple[LoopIndex, ...]) -> None:
        for part in parts:
            if isinstance(part, Loop):
                first = self._row
                self.body(part.body, (*path, part.index))
                self._loops[part.index] = (first, self._row - 1)
                continue
            for row in range(len(part)):
                self._visit(part, row, path)
                self._row += 1

    def _visit(self, block: Block, row: int, path: tuple[LoopIndex, ...]) -> None:
        form = self._program.forms[block.form[row]]
        reads: dict[int, bool] = {}
        for k, (name, kind) in enumerate(form.operand_fields, start=block.first[row]):
            number = block.tensor[k]
            tensor = self._program.tensors[number]
            if not tensor.buffer.is_on_chip:
                continue
            # The first matmul into PSUM overwrites what is there.
            keeps = kind == "InOut" and tensor.buffer is not MemoryRegion.psum
            read = (keeps and name not in form.example.unread) or kind in ("In", "OptIn", "Scalar")
            reads[number] = reads.get(number, False) or read
            entry = self.accesses.get(number)
            if entry is None:
                entry = self.accesses[number] = _Accesses(block.group[row], False)
            entry.moves_with.update(index for index, _ in block.slopes.get(k, ()))
            first, _ = entry.spans.get(path, (self._row, self._row))
            entry.spans[path] = (first, self._row)
        for number, read in reads.items():
            entry = self.accesses[number]
            if min(first for first, _ in entry.spans.values()) == self._row:
                entry.read_first = read

    def life(self, number: int, accesses: _Accesses) -> Life:
        """Return the life of a tensor from all its accesses."""
        common = _common(list(accesses.spans))
        spans = [
            span if len(path) == len(common) else self._loops[path[len(common)]]
            for path, span in accesses.spans.items()
        ]
        spans.extend(
            self._loops[loop]
            for loop in common
            if accesses.read_first or loop in accesses.moves_with
        )
        groups = self._program.groups
        return Life(
            self._program.tensors[number],
            min(first for first, _ in spans),
            max(last for _, last in spans),
            groups[accesses.group] if groups else "",
            self._loops[common[0]] if common else None,
        )


def _common(paths: list[tuple[LoopIndex, ...]]) -> tuple[LoopIndex, ...]:
    """Return the loops that all paths begin with."""
    common = paths[0]
    for path in paths[1:]:
        size = 0
        while size < min(len(common), len(path)) and common[size] is path[size]:
            size += 1
        common = common[:size]
    return common

"""Random loop nests for the tests of dependencies and timing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from emuron.isa.affine import Affine, Index, LoopIndex
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import AccessPattern, Tensor
from tests.sim.programs import ProgramWriter

TILE = 64
SLOTS = 6  # tiles at which an access may begin
TILES = 20  # tiles of each tensor; loops move over them
TENSORS = 3

# An operand: tensor number, first tile, and the loop depth (or None) whose index moves it.
Operand = tuple[int, int, int | None]


@dataclass(frozen=True)
class Line:
    kind: str
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Nest:
    trip: int
    body: tuple[Any, ...]


KINDS = {
    "load": 2,
    "store": 2,
    "copy": 2,
    "add": 3,
    "matmul": 3,
    "read_psum": 2,
    "exp": 2,
    "tanh": 2,
}


def operands(depth: int) -> st.SearchStrategy[Operand]:
    moving = st.sampled_from([None, None, None, *range(depth)])  # most tiles stay in place
    return st.tuples(st.integers(0, TENSORS - 1), st.integers(0, SLOTS - 1), moving)


def lines(depth: int) -> st.SearchStrategy[Line]:
    return st.sampled_from(sorted(KINDS)).flatmap(
        lambda kind: st.tuples(*[operands(depth)] * KINDS[kind]).map(lambda ops: Line(kind, ops))
    )


def bodies(depth: int, deepest: int) -> st.SearchStrategy[tuple[Any, ...]]:
    parts = lines(depth)
    if depth < deepest:
        inner = bodies(depth + 1, deepest)
        nests = st.builds(Nest, st.integers(1, 14), inner)
        parts = st.one_of(lines(depth), nests, lines(depth))
    return st.lists(parts, min_size=1, max_size=4).map(tuple)


class Renderer:
    """Writes a random nest as loops, or with its loops written out."""

    def __init__(self, *, unroll: bool, chip: str = "trn2", rings: int = 1) -> None:
        self.writer = ProgramWriter(chip)
        core = self.writer.core
        self.writer.core = replace(core, dma=replace(core.dma, queues_per_engine=4 * rings))
        program = Program("nest", self.writer.core)
        self.writer._program, self.writer.body = program, program.body
        self._unroll = unroll
        width = TILE * TILES
        self._tiles = [self.writer.sbuf(f"t{i}", width) for i in range(TENSORS)]
        self._psum = [self.writer.psum(f"p{i}", TILE) for i in range(TENSORS)]
        self._hbm = [self.writer.hbm(f"h{i}", (128, width)) for i in range(TENSORS)]

    def program(self, body: tuple[Any, ...]) -> Program:
        self._body(body, self.writer.body, [])
        return self.writer.program()

    def _body(self, parts: tuple[Any, ...], into: list[Block | Loop], indices: list[Index]) -> None:
        block = Block()
        into.append(block)
        for part in parts:
            if isinstance(part, Line):
                self._line(part, block, indices)
                continue
            if self._unroll:
                for i in range(part.trip):
                    self._body(part.body, into, [*indices, i])
            else:
                index = LoopIndex(f"i{len(indices)}", part.trip)
                loop = Loop(index)
                into.append(loop)
                self._body(part.body, loop.body, [*indices, Affine.of(index)])
            block = Block()
            into.append(block)

    def _line(self, line: Line, block: Block, indices: list[Index]) -> None:
        views = [self._view(self._tiles, operand, indices) for operand in line.operands]
        number = line.operands[0][0]
        issue = self.writer.issue
        psum = AccessPattern(self._psum[number])
        if line.kind == "load":
            issue(block, "dma_copy", views[0], self._view(self._hbm, line.operands[1], indices))
        elif line.kind == "store":
            issue(block, "dma_copy", self._view(self._hbm, line.operands[0], indices), views[1])
        elif line.kind == "copy":
            issue(block, "tensor_copy", views[0], views[1])
        elif line.kind == "add":
            issue(block, "tensor_tensor", *views, attributes=("add",))
        elif line.kind == "matmul":
            square = AccessPattern(self._psum[number], (TILE, TILE), (TILE, 1))
            issue(block, "nc_matmul", square, views[1], views[2])
        elif line.kind == "read_psum":
            issue(block, "tensor_copy", views[1], psum)
        else:
            self.writer.activation(views[0], views[1], line.kind, block)

    @staticmethod
    def _view(tensors: list[Tensor], operand: Operand, indices: list[Index]) -> AccessPattern:
        number, slot, moving = operand
        offset: Index = slot * TILE
        if moving is not None:
            offset = indices[moving] * TILE + offset
        return AccessPattern(tensors[number], (128, TILE), (TILE * TILES, 1), offset)

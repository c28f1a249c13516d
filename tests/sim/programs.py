"""Small programs for the tests of placement, dependencies and timing."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from emuron.hardware.catalog import chip
from emuron.hardware.chip import Chip
from emuron.isa import dma, scalar_engine, tensor_engine, vector_copies, vector_engine
from emuron.isa.affine import Index
from emuron.isa.instruction import flat_operands, instruction_class
from emuron.isa.program import Block, Program
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.numerics.dtypes import dtype

REGISTERED = (dma, scalar_engine, tensor_engine, vector_copies, vector_engine)


class ProgramWriter:
    """Writes a Program instruction by instruction, without checks beyond the instructions' own."""

    def __init__(self, name: str = "trn2", *, sbuf_bytes: int | None = None) -> None:
        self.chip: Chip = chip(name)
        self.core = self.chip.core
        if sbuf_bytes is not None:
            self.core = replace(self.core, sbuf_usable_bytes_per_partition=sbuf_bytes)
        self._program = Program("test", self.core)
        self.body = self._program.body
        self._block = Block()

    def program(self) -> Program:
        return self._program

    def sbuf(self, name: str, elements: int, kind: str = "bfloat16") -> Tensor:
        return Tensor(name, (128, elements), dtype(kind), MemoryRegion.sbuf)

    def psum(self, name: str, elements: int) -> Tensor:
        return Tensor(name, (128, elements), dtype("float32"), MemoryRegion.psum)

    def hbm(self, name: str, shape: tuple[int, ...], role: str = "temporary") -> Tensor:
        return Tensor(name, shape, dtype("bfloat16"), MemoryRegion.shared_hbm, role=role)

    def issue(
        self,
        block: Block | None,
        nki: str,
        *operands: AccessPattern | float | None,
        attributes: Any = (),
    ) -> None:
        if block is None:
            block = self._block
            if not self.body or self.body[-1] is not block:
                block = self._block = Block()
                self.body.append(block)
        form = self._program.table.form(instruction_class(nki), operands, attributes)
        group = self._program.group_number("layer")
        number = self._program.tensor_number
        block.append(
            form.id, group, [(number(o.tensor), o.offset) for o in flat_operands(operands)]
        )

    def copy(self, target: Tensor, source: Tensor, block: Block | None = None) -> None:
        self.issue(block, "tensor_copy", AccessPattern(target), AccessPattern(source))

    def memset(self, target: Tensor, block: Block | None = None) -> None:
        self.issue(block, "memset", AccessPattern(target), attributes=(0.0,))

    def add(self, target: Tensor, a: Tensor, b: Tensor, block: Block | None = None) -> None:
        operands = (AccessPattern(target), AccessPattern(a), AccessPattern(b))
        self.issue(block, "tensor_tensor", *operands, attributes=("add",))

    def transfer(
        self, target: AccessPattern, source: AccessPattern, block: Block | None = None
    ) -> None:
        self.issue(block, "dma_copy", target, source)

    def load(
        self, target: Tensor, source: Tensor, offset: Index = 0, block: Block | None = None
    ) -> None:
        row = source.shape[-1]
        columns = prod(target.shape[1:])
        view = AccessPattern(source, (128, columns), (row, 1), offset)
        self.transfer(AccessPattern(target), view, block)

    def store(
        self, target: Tensor, source: Tensor, offset: Index = 0, block: Block | None = None
    ) -> None:
        row = target.shape[-1]
        columns = prod(source.shape[1:])
        view = AccessPattern(target, (128, columns), (row, 1), offset)
        self.transfer(view, AccessPattern(source), block)

    def matmul(
        self, target: Tensor, stationary: Tensor, moving: Tensor, block: Block | None = None
    ) -> None:
        operands = (AccessPattern(target), AccessPattern(stationary), AccessPattern(moving))
        self.issue(block, "nc_matmul", *operands)

    def activation(
        self, target: AccessPattern, data: AccessPattern, op: str, block: Block | None = None
    ) -> None:
        self.issue(block, "activation", target, data, None, 1.0, None, attributes=(op,))

    def activation_of(self, target: Tensor, data: Tensor, op: str) -> None:
        self.activation(AccessPattern(target), AccessPattern(data), op)

    def matmul_view(
        self, target: Tensor, stationary: Tensor, moving: Tensor, columns: int, block: Block
    ) -> None:
        """Multiply with the first columns of a wider moving tensor."""
        view = AccessPattern(moving, (128, columns), (moving.shape[1], 1))
        self.issue(block, "nc_matmul", AccessPattern(target), AccessPattern(stationary), view)

    def load_part(
        self, target: Tensor, source: Tensor, columns: int, offset: Index, block: Block
    ) -> None:
        """Load some columns of a tensor from the same columns of another."""
        views = [
            AccessPattern(t, (128, columns), (t.shape[1], 1), offset) for t in (target, source)
        ]
        self.transfer(views[0], views[1], block)

"""A bench for single instructions: tensors with data on one core, instructions by name."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emuron.hardware.chip import NeuronCore
from emuron.isa.instruction import Form, FormTable, flat_operands, instruction_class
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.numerics.dtypes import DType, dtype
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine
from tests.isa.generations import Layout

AROUND = 3


class Bench:
    """Issues instructions to a functional simulator and reads results as float64."""

    def __init__(self, core: NeuronCore, backend: str = "numpy") -> None:
        self.core = core
        self.machine = Machine(core, backend)
        self.simulator = FunctionalSimulator(self.machine)
        self.table = FormTable(core)
        self._names = count()

    def empty(
        self,
        shape: tuple[int, ...],
        kind: DType | str = "float32",
        where: str = "sbuf",
        **more: Any,
    ) -> AccessPattern:
        name = f"t{next(self._names)}"
        return AccessPattern(Tensor(name, shape, dtype(kind), MemoryRegion(where), **more))

    def tile(
        self,
        values: Any,
        kind: DType | str = "float32",
        where: str = "sbuf",
        bits: bool = False,
        **more: Any,
    ) -> AccessPattern:
        """A tensor of these values; with `bits` they are stored bits."""
        values = np.asarray(values)
        pattern = self.empty(values.shape, kind, where, **more)
        stored = dtype(kind).np
        if bits:
            stored = np.dtype(f"uint{8 * stored.itemsize}")
        self.machine.write(pattern.tensor, values.astype(stored))
        return pattern

    def lay(
        self, values: Any, layout: Layout, kind: DType | str = "float32", where: str = "sbuf"
    ) -> AccessPattern:
        """A tile [P, N] of these values in a larger tensor that holds `AROUND` elsewhere."""
        values = np.asarray(values)
        rows, count = values.shape
        width = layout.offset + (count - 1) * layout.step + 1 + layout.extra
        whole = np.full((layout.start + rows, width), AROUND, values.dtype)
        whole[layout.start :, layout.offset : width - layout.extra : layout.step] = values
        tensor = self.tile(whole, kind, where).tensor
        shape, strides = (rows, count), (width, layout.step)
        if layout.split and count % 2 == 0:
            shape, strides = (rows, 2, count // 2), (width, count // 2 * layout.step, layout.step)
        return AccessPattern(tensor, shape, strides, layout.start * width + layout.offset)

    def room(
        self,
        shape: tuple[int, int],
        layout: Layout,
        kind: DType | str = "float32",
        where: str = "sbuf",
    ) -> AccessPattern:
        """A tile [P, N] to be written, in a larger tensor that holds `AROUND`."""
        return self.lay(np.full(shape, AROUND), layout, kind, where)

    def seen(self, tile: AccessPattern) -> NDArray[Any]:
        """What a tile of `lay` or `room` holds, [P, N] as stored; nothing around it has changed."""
        whole = self.read(tile)
        row = tile.row_elements
        assert isinstance(tile.offset, int)
        first, offset = divmod(tile.offset, row)
        inside = whole[first:, offset : offset + (tile.free_size - 1) * tile.strides[-1] + 1]
        inside = inside[:, :: tile.strides[-1]]
        found = inside.copy()
        inside[...] = AROUND
        assert (whole.astype(np.float64) == AROUND).all(), "bytes around the tile have changed"
        return found

    def form(self, nki: str, **named: Any) -> Form:
        return self._form(nki, named)[0]

    def run(self, nki: str, **named: Any) -> Form:
        """Run an instruction twice from the same state: the second time as it was prepared."""
        form, operands = self._form(nki, named)
        patterns = list(flat_operands(operands))
        with self.simulator.guard():
            self.simulator._plan(form)  # a generator has a state from then on
            before = self._state(patterns)
            self.simulator.execute(form, patterns)
            after = self._state(patterns)
            self._restore(patterns, before)
            self.simulator.execute(form, patterns)
        for found, expected in zip(self._state(patterns)[0], after[0], strict=True):
            np.testing.assert_array_equal(found, expected, f"{nki}: a later run differs")
        return form

    def _state(self, patterns: list[AccessPattern]) -> tuple[Any, ...]:
        """Everything that an instruction with these operands can read or change."""
        machine = self.machine
        storages = [machine.storage(p.tensor) for p in patterns]
        memories = [s.memory.buffer.copy() for s in storages]
        sums = [(deepcopy(s.matmul), s.all_matmul) for s in storages]
        engines = deepcopy(machine._registers), deepcopy(machine.generators), machine._counter
        return memories, sums, *engines

    def _restore(self, patterns: list[AccessPattern], state: tuple[Any, ...]) -> None:
        machine = self.machine
        memories, sums, registers, generators, machine._counter = state
        for pattern, buffer, (matmul, all_matmul) in zip(patterns, memories, sums, strict=True):
            storage = machine.storage(pattern.tensor)
            storage.matmul, storage.all_matmul = deepcopy(matmul), all_matmul
            if storage.memory.writable:
                storage.memory.buffer[:] = buffer
        machine._registers.clear()
        machine._registers.update(deepcopy(registers))
        machine.generators.update(deepcopy(generators))

    def _form(self, nki: str, named: dict[str, Any]) -> tuple[Form, tuple[Any, ...]]:
        cls = instruction_class(nki)
        given = {field.name: field.default for field in fields(cls)} | named
        assert len(given) == len(fields(cls)), f"{nki} has no {sorted(given)}"
        operands = tuple(given[name] for name, _ in cls.operands)
        return self.table.form(cls, operands, tuple(given[a] for a in cls.attributes)), operands

    def read(self, pattern: AccessPattern | Tensor) -> NDArray[Any]:
        """The whole tensor of a pattern, as stored."""
        return self.machine.read(pattern if isinstance(pattern, Tensor) else pattern.tensor)

    def values(self, pattern: AccessPattern) -> NDArray[np.float64]:
        return self.read(pattern).astype(np.float64)


def small(shape: tuple[int, ...], kind: str, seed: int = 0) -> NDArray[Any]:
    """Small integers that a type holds."""
    return integers(shape, seed, 0 if kind.startswith("u") else -8)


def integers(shape: tuple[int, ...], seed: int = 0, low: int = -8, high: int = 9) -> NDArray[Any]:
    """Small integers: exact in every float type and in every sum here."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float32)


def normals(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)

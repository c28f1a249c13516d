"""The recorder: where kernels and the compiler write instructions into a Program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from emuron.errors import UsageError
from emuron.isa.affine import Affine, Index, LoopIndex
from emuron.isa.instruction import Form, Instruction, flat_operands
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.numerics.dtypes import dtype as to_dtype

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

_PACKAGE = str(Path(__file__).parents[1])
_current: ContextVar[Recorder] = ContextVar("recorder")


class Executor(Protocol):
    """What runs an instruction at once, with data (the functional simulator)."""

    def execute(self, form: Form, patterns: list[AccessPattern]) -> None:
        """Run one instruction."""


class Recorder:
    """Writes one core's Program; the state behind every `nki` call.

    With an `executor`, each instruction also runs at once and loops are plain Python loops (a
    kernel by hand). Without one, nothing is computed and `loop` records its body once (the
    compiler, and timing without data). `group` names what instructions belong to: a fixed name, or
    None for the line of the caller's source.
    """

    def __init__(
        self, core: NeuronCore, name: str = "kernel", executor: Executor | None = None
    ) -> None:
        self.program = Program(name, core)
        self.core = core
        self.executor = executor
        self._bodies: list[list[Block | Loop]] = [self.program.body]
        self._block: Block | None = None
        self._group: int | None = None
        self._lines: dict[tuple[object, int], int] = {}
        self._serial = 0

    @contextmanager
    def active(self) -> Iterator[Recorder]:
        """Make this the recorder that instruction calls write to."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def issue(
        self,
        cls: type[Instruction],
        operands: tuple[AccessPattern | float | None, ...],
        attributes: tuple[object, ...] = (),
    ) -> None:
        """Check, record and (with an executor) run one instruction.

        `operands` follow `cls.operands`, `attributes` follow `cls.attributes`.
        """
        program = self.program
        form = program.table.form(cls, operands, attributes)
        patterns = list(flat_operands(operands))
        block = self._block
        if block is None:
            block = self._block = Block()
            self._bodies[-1].append(block)
        group = self._group if self._group is not None else self._line()
        number = program.tensor_number
        block.append(form.id, group, [(number(p.tensor), p.offset) for p in patterns])
        if self.executor is not None:
            self.executor.execute(form, patterns)

    def loop(self, trip: int, *, unroll: int = 1, name: str = "i") -> Iterator[Index]:
        """Yield the counters of a loop of `trip` iterations.

        Without an executor the body is recorded once per `unroll` (so that buffers taken in turn
        can be named), and the counters are affine; a remainder is recorded straight after.
        """
        whole = trip // unroll
        if self.executor is not None or whole < 2:
            yield from range(trip)
            return
        index = LoopIndex(f"{name}{self._next()}", whole)
        recorded = Loop(index)
        self._bodies[-1].append(recorded)
        self._bodies.append(recorded.body)
        self._block = None
        for copy in range(unroll):
            yield Affine.of(index) * unroll + copy
        self._bodies.pop()
        self._block = None
        yield from range(whole * unroll, trip)

    @contextmanager
    def group(self, name: str) -> Iterator[None]:
        """Attribute the instructions issued inside to the named group."""
        before = self._group
        self._group = self.program.group_number(name)
        try:
            yield
        finally:
            self._group = before

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: object,
        buffer: MemoryRegion,
        *,
        name: str = "",
        address: tuple[int, int] | int | None = None,
        role: str = "temporary",
    ) -> Tensor:
        """Allocate a tensor; on chip it is placed after recording unless `address` is given."""
        if buffer.is_on_chip and shape[0] > self.core.partitions:
            raise UsageError(
                f"Tensor {name or 'ndarray'} of shape {list(shape)} has {shape[0]} rows in its "
                f"first dimension, but {buffer.value} has {self.core.partitions} partitions. "
                f"Split dimension 0 into tiles of at most {self.core.partitions} rows."
            )
        return Tensor(
            name or f"{buffer.value}_{self._next()}",
            tuple(shape),
            to_dtype(dtype),
            buffer,
            address,
            aliases=address is not None,
            role=role,
        )

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _line(self) -> int:
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back
        key = (frame.f_code, frame.f_lineno)
        group = self._lines.get(key)
        if group is None:
            name = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            group = self._lines[key] = self.program.group_number(name)
        return group


def recorder() -> Recorder:
    """Return the active recorder; raise UsageError outside of a kernel."""
    try:
        return _current.get()
    except LookupError:
        raise UsageError(
            "This nki call was made outside of a kernel. Call it from a function decorated with "
            "@nki.jit, and run that function with nki.simulate(kernel)(…)."
        ) from None


def recording(core: NeuronCore, name: str, write: Callable[[], object]) -> Program:
    """Return the Program that `write` records, without running it."""
    made = Recorder(core, name)
    with made.active():
        write()
    return made.program.freeze()

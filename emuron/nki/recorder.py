"""The recorder: where kernels and the compiler write instructions into a Program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from emuron.errors import UsageError
from emuron.isa.affine import Affine, Index, LoopIndex
from emuron.isa.instruction import Form, Instruction, flat_operands
from emuron.isa.meetings import CoreId, Meeting, Operands
from emuron.isa.program import Block, Loop, Program
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.nki.allocation import check_size
from emuron.nki.versions import held_version, refuse_later
from emuron.numerics.dtypes import DType
from emuron.numerics.dtypes import dtype as to_dtype

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

PACKAGE = str(Path(__file__).parents[1])
"""The folder of this package: frames of its files are not a kernel's own."""

current: ContextVar[Recorder] = ContextVar("recorder")
"""The active recorder."""


class Executor(Protocol):
    """What runs an instruction at once, with data (the functional simulator)."""

    def guard(self) -> AbstractContextManager[object]:
        """Return the context to execute in."""

    def execute(self, form: Form, patterns: Sequence[AccessPattern]) -> None:
        """Run one instruction."""

    def look(self, view: AccessPattern) -> NDArray[Any]:
        """Return a copy of what a view holds."""

    @property
    def machine(self) -> Memories:
        """The memories that instructions work on."""


class Memories(Protocol):
    """What holds the contents of tensors while an executor runs (the machine)."""

    def bind(self, tensor: Tensor, array: NDArray[Any]) -> None:
        """Let an array be a tensor's contents."""

    def read(self, tensor: Tensor) -> NDArray[Any]:
        """Return a copy of a tensor's contents."""

    def release(self, tensor: Tensor) -> None:
        """Forget the contents of a tensor that nothing will read again."""


class Lease:
    """A tile's claim on memory while its contents are simulated, shared by all views of it.

    When the last view is gone, so are the contents: no instruction can name them any more.
    """

    __slots__ = ("_memories", "_tensor")

    def __init__(self, memories: Memories, tensor: Tensor) -> None:
        self._memories = memories
        self._tensor = tensor

    def __del__(self) -> None:
        self._memories.release(self._tensor)


class Seat(Protocol):
    """One core's place among the cores that run a kernel together."""

    id: CoreId
    cores: int
    ranks: int
    name: str

    def meet(self, instruction: Meeting, operands: Operands | None) -> None:
        """Wait until all that take part have come to the instruction; move data, if there are."""

    def shared(self, tensor: Tensor, name: str) -> Tensor:
        """Return the rank's tensor in shared_hbm that stands for this core's (`name` is given)."""


class Recorder:
    """Writes one core's Program; the state behind every `nki` call.

    With an `executor`, each instruction also runs at once and loops are plain Python loops (a
    kernel by hand). Without one, nothing is computed and `loop` records its body once (the
    compiler, and timing without data). `group` names what instructions belong to: a fixed name, or
    None for the line of the caller's source. `grid` is the number of programs that a kernel was
    launched with, None for a launch without a grid; `seat` is the core's place among them, None
    for a core on its own. `constants` holds the contents of tensors that come with the program,
    `version` the version of NKI that the kernel is held to, `told` the warnings that were given.
    """

    def __init__(
        self,
        core: NeuronCore,
        name: str = "kernel",
        executor: Executor | None = None,
        grid: int | None = None,
        seat: Seat | None = None,
    ) -> None:
        self.program = Program(name, core)
        self.core = core
        self.executor = executor
        self.grid = grid
        self.seat = seat
        self.constants: dict[Tensor, NDArray[Any]] = {}
        self.given: dict[Tensor, Any] = {}  # the arguments' arrays, where nothing is executed
        self.evidence: object = None  # what `deduction` knows of the program
        self._bodies: list[list[Block | Loop]] = [self.program.body]
        self._block: Block | None = None
        self._group: int | None = None
        self._codes: dict[int, tuple[bool, dict[int, int], CodeType]] = {}
        """Of the code that an id means: is it a kernel's own, and the groups of its places."""
        self._possible: set[tuple[tuple[int, ...], DType, MemoryRegion]] = set()
        self.calls: dict[tuple[object, ...], Form] = {}
        """By class, layouts of tensors and other arguments, as they were given."""
        self.tiles: dict[tuple[object, ...], AccessPattern] = {}
        """A tile on chip of each shape, dtype and memory, as they were given; others are alike."""
        self._serial = 0
        self.prepared: object = None  # a collective in two halves, of which the first is issued
        self.rows = 0  # of the program's text
        self.version = held_version()
        self.told: set[str] = set()
        if self.version is not None:
            self.program.table.admit = partial(refuse_later, self.version)

    @contextmanager
    def active(self) -> Iterator[Recorder]:
        """Make this the recorder that instruction calls write to."""
        token = current.set(self)
        try:
            with self.executor.guard() if self.executor is not None else nullcontext():
                yield self
        finally:
            current.reset(token)

    def issue(
        self,
        cls: type[Instruction],
        operands: tuple[AccessPattern | float | None, ...],
        attributes: tuple[object, ...] = (),
    ) -> int:
        """Check, record and (with an executor) run one instruction; return its row in the text.

        `operands` follow `cls.operands`, `attributes` follow `cls.attributes`.
        """
        return self.put(self.program.table.form(cls, operands, attributes), operands)

    def put(self, form: Form, operands: tuple[AccessPattern | float | None, ...]) -> int:
        """Record and (with an executor) run an instruction whose form is known; return its row."""
        program = self.program
        block = self._block
        if block is None:
            block = self._block = Block()
            self._bodies[-1].append(block)
        group = self._group
        if group is None:
            group = self._line(3)
        patterns: Any = operands if form.only_views else tuple(flat_operands(operands))
        block.append_views(form.id, group, patterns, program.tensor_numbers)
        if self.executor is not None:
            self.executor.execute(form, patterns)
        row = self.rows
        self.rows = row + 1
        return row

    def meet(
        self,
        cls: type[Meeting],
        operands: tuple[AccessPattern | float | None, ...],
        attributes: tuple[object, ...] = (),
    ) -> int:
        """Issue an instruction that cores carry out together; wait for them, with data or not."""
        if self.seat is None:
            raise UsageError(
                f"{cls.mnemonic} needs other cores. Run the kernel with nki.simulate(kernel[2])."
            )
        row = self.issue(cls, operands, attributes)
        if self.executor is None:
            assert self._block is not None
            self.seat.meet(self.program.forms[self._block.form[-1]].example, None)  # type: ignore[arg-type]
        return row

    def finish(self) -> None:
        """Refuse a kernel that ends with half a collective; UsageError."""
        if self.prepared is not None:
            raise UsageError(
                "The kernel ends with a prepared collective that was never triggered. Call its "
                "trigger, all_to_all_v_trigger or all_gather_v_trigger."
            )

    def place(self) -> str:
        """Return what the latest instruction belongs to: for a kernel its source line."""
        return self.program.groups[self._block.group[-1]] if self._block else "the start"

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
        made = to_dtype(dtype)
        kind = (shape, made, buffer)
        if kind not in self._possible:
            if buffer.is_on_chip:
                check_size(self.core, name or "ndarray", shape, made, buffer)
            self._possible.add(kind)
        tensor = Tensor(
            name or buffer + f"_{self._next()}",
            shape,
            made,
            buffer,
            address,
            aliases=address is not None,
            role=role,
        )
        if self.seat is None or buffer is not MemoryRegion.shared_hbm or role != "temporary":
            return tensor
        return self.seat.shared(tensor, name)

    def another(self, tensor: Tensor, name: str) -> Tensor:
        """Allocate a tensor like one on chip that this recorder made."""
        if not name:
            self._serial = serial = self._serial + 1
            name = f"{tensor.buffer._value_}_{serial}"
        return tensor.another(name)

    def lease(self, tensor: Tensor) -> Lease | None:
        """Return the lease of a new tile; None for others, and where nothing is executed."""
        if self.executor is None or tensor.aliases or not tensor.buffer.is_on_chip:
            return None
        return Lease(self.executor.machine, tensor)

    def constant(self, tensor: Tensor, array: NDArray[Any]) -> None:
        """Give a tensor contents that come with the program."""
        self.constants[tensor] = array
        if self.executor is not None:
            self.executor.machine.bind(tensor, array)

    def contents(self, view: AccessPattern) -> NDArray[Any] | None:
        """Return a copy of what a view of a tensor holds; None if nothing is executed."""
        if self.executor is None:
            return None
        if view.indirection is not None:
            raise UsageError(f"{view.tensor.name} is addressed at run time; copy it to read it.")
        return self.executor.look(view)

    def here(self) -> str:
        """Return the kernel's line that is being run, as "file.py:line"."""
        return self.program.groups[self._line()]

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _line(self, depth: int = 2) -> int:
        """Return the group of the source line outside of this package that is being run.

        `depth` is the number of innermost frames that are surely of this package.
        """
        frame = sys._getframe(depth)
        while True:
            code = frame.f_code
            seen = self._codes.get(id(code))
            if seen is None:
                outside = not code.co_filename.startswith(PACKAGE)
                seen = self._codes[id(code)] = (outside, {}, code)
            if seen[0] or frame.f_back is None:
                break
            frame = frame.f_back
        lines = seen[1]
        group = lines.get(frame.f_lasti)
        if group is None:
            name = f"{self.program.file_name(code.co_filename)}:{frame.f_lineno}"
            group = lines[frame.f_lasti] = self.program.group_number(name)
        return group


def recorder() -> Recorder:
    """Return the active recorder; raise UsageError outside of a kernel."""
    try:
        return current.get()
    except LookupError:
        raise UsageError(
            "This nki call was made outside of a kernel. Call it from a function decorated with "
            "@nki.jit, and run that function with nki.simulate(kernel)(…)."
        ) from None


def active_recorder() -> Recorder | None:
    """Return the active recorder, None outside of a kernel."""
    return current.get(None)


def recording(core: NeuronCore, name: str, write: Callable[[], object]) -> Program:
    """Return the Program that `write` records, without running it."""
    made = Recorder(core, name)
    with made.active():
        write()
    return made.program.freeze()

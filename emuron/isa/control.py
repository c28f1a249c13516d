"""Registers of the sequencers and the branches of dynamic loops.

A register is a tensor of one 32-bit element in `MemoryRegion.register`. Loads, stores and moves are
shown on the sync engine; a branch runs on each engine, since each has its own sequencer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.instruction import Cost, In, Instruction, OptIn, Out, Scalar, instruction
from emuron.isa.tensor import AccessPattern, MemoryRegion

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

REGISTER = (MemoryRegion.register,)


def _in_cycles(core: NeuronCore, engine: str, ns: float) -> Cost:
    return Cost(cycles=ns * core.engine(engine).clock_ghz)


def _check_one(instruction: Instruction, name: str, operand: AccessPattern) -> None:
    if operand.size != 1:
        raise instruction.refuse(
            f"{name} '{operand.tensor.name}' has shape {list(operand.shape)}",
            "A register holds one element: give a [1, 1] view.",
        )


@instruction(
    engine="sync", nki="register_load", exposed=False, source="ISA32 register_load; cost assumed"
)
class RegisterLoad(Instruction):
    """dst (a register) = the one element of src, in SBUF or HBM."""

    dst: Out
    src: In

    @property
    def raw(self) -> bool:
        """32-bit elements are loaded bit by bit, narrower ones widened."""
        return self.dst.dtype == self.src.dtype

    def check(self, core: NeuronCore) -> None:
        """Refuse anything but one element of at most 32 bits outside PSUM."""
        limits.check_buffer(self, core, "dst", REGISTER)
        limits.check_buffer(self, core, "src", limits.SBUF_OR_HBM)
        _check_one(self, "src", self.src)

    def compute(self, ops: Any, src: Any) -> Any:
        """Return the element."""
        return src

    def cost(self, core: NeuronCore) -> Cost:
        """Return the time of a read from memory."""
        return _in_cycles(core, "sync", core.timing.register_load_ns)


@instruction(
    engine="sync", nki="register_store", exposed=False, source="ISA32 register_store; cost assumed"
)
class RegisterStore(Instruction):
    """The one element of dst, in SBUF or HBM, = src (a register)."""

    dst: Out
    src: In

    @property
    def raw(self) -> bool:
        """32-bit elements are stored bit by bit, narrower ones converted."""
        return self.dst.dtype == self.src.dtype

    def check(self, core: NeuronCore) -> None:
        """Refuse anything but one element outside PSUM."""
        limits.check_buffer(self, core, "dst", limits.SBUF_OR_HBM)
        limits.check_buffer(self, core, "src", REGISTER)
        _check_one(self, "dst", self.dst)

    def compute(self, ops: Any, src: Any) -> Any:
        """Return the register's content."""
        return src

    def cost(self, core: NeuronCore) -> Cost:
        """Return the time of an access to memory, as for a load."""
        return _in_cycles(core, "sync", core.timing.register_load_ns)


@instruction(
    engine="sync", nki="register_move", exposed=False, source="ISA32 register_move; cost assumed"
)
class RegisterMove(Instruction):
    """dst = src: a register, or a number."""

    dst: Out
    src: Scalar

    @property
    def raw(self) -> bool:
        """Integers keep all 32 bits."""
        return self.dst.dtype.is_integer

    def check(self, core: NeuronCore) -> None:
        """Refuse operands that are no registers."""
        limits.check_buffer(self, core, "dst", REGISTER)
        limits.check_buffer(self, core, "src", REGISTER)

    def compute(self, ops: Any, src: Any) -> Any:
        """Return the source."""
        return src

    def cost(self, core: NeuronCore) -> Cost:
        """Return the time of an instruction that moves no data."""
        return _in_cycles(core, "sync", core.timing.semaphore_instruction_ns)


@instruction(
    engine="sync", nki="loop_branch", exposed=False, source="cost assumed: nothing is published"
)
class LoopBranch(Instruction):
    """A branch on one engine: at the start of an iteration, on the value that decides about it.

    It also advances the engine's own copy of the loop's counter.
    """

    condition: OptIn = None
    engine: str = "sync"

    @property
    def engine_name(self) -> str:
        """The engine that branches."""
        return self.engine

    def compute(self, ops: Any, condition: Any) -> tuple[()]:
        """Write nothing."""
        return ()

    def cost(self, core: NeuronCore) -> Cost:
        """Return the cycles of a branch."""
        return Cost(cycles=core.timing.branch_cycles)

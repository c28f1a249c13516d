"""Instructions of the vector engine that select by a predicate or a range, with a row maximum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from emuron.isa import limits
from emuron.isa.alu import alu_operator
from emuron.isa.instruction import Cost, In, Instruction, OptOut, Out, Scalar, instruction
from emuron.isa.reductions import REDUCE_COMMANDS, accumulate, read_out_cycles
from emuron.numerics.dtypes import float32

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

COMPARISONS = ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")
FLOATS = (
    "float32",
    "tfloat32",
    "bfloat16",
    "float16",
    "float8_e4m3",
    "float8_e5m2",
    "float8_e4m3fn",
)


@instruction(engine="vector", nki="range_select", since=3, source="ISA32 range_select; cost ISA26")
class RangeSelect(Instruction):
    """dst[p, i] = on_true_tile[p, i] where both comparisons of the index hold, else FP32_MIN.

    The index is range_start + i in fp32; `bound0` and `bound1` are fp32 [P, 1]. The accumulator
    registers keep the row maximum; `reduce_res` [P, 1] receives them.
    """

    dst: Out
    on_true_tile: In
    comp_op0: str
    comp_op1: str
    bound0: In
    bound1: In
    reduce_cmd: str = "reset_reduce"
    reduce_res: OptOut = None
    reduce_op: str = "maximum"
    range_start: int = 0
    on_false_value: float = float32.min

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        used = self.reduce_cmd != "idle" or self.reduce_res is not None
        return "vector" if used else None

    def check(self, core: NeuronCore) -> None:
        """Refuse earlier generations, integer data and indices that fp32 cannot hold."""
        for name in ("dst", "on_true_tile", "bound0", "bound1", "reduce_res"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "on_true_tile")
        for name in ("bound0", "bound1", "reduce_res"):
            limits.check_columns(self, name, self.dst.partitions)
        limits.check_dtype(self, "on_true_tile", FLOATS)
        for name in ("bound0", "bound1"):
            limits.check_dtype(self, name, ("float32",))
        for name in ("comp_op0", "comp_op1"):
            limits.check_operator(self, name, COMPARISONS)
        limits.check_operator(self, "reduce_op", ("maximum",))
        limits.check_operator(self, "reduce_cmd", REDUCE_COMMANDS[:-1])
        last, limit = self.range_start + self.dst.free_size, core.limits.range_select_max_index
        if last > limit:
            raise self.refuse(
                f"indices reach {last - 1}; the limit is {limit - 1}", "Lower range_start."
            )
        if np.float32(self.on_false_value) != float32.min:
            raise self.refuse(
                f"on_false_value={self.on_false_value}",
                f"Only the lowest float32, {float32.min}, is possible.",
            )

    def compute(
        self, ops: Any, on_true_tile: Any, bound0: Any, bound1: Any, register: Any = None
    ) -> Any:
        """Return dst, reduce_res and, where the accumulator takes part, its new content."""
        count = self.dst.free_size
        index = ops.asarray(np.arange(count, dtype=np.float32)[None, :] + np.float32(0))
        index = ops.add(index, float(self.range_start))
        inside = ops.multiply(
            alu_operator(self.comp_op0).compute(ops, index, bound0),
            alu_operator(self.comp_op1).compute(ops, index, bound1),
        )
        return _selected(self, ops, inside, on_true_tile, float32.min, register)

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N) (ISA v2.26), plus the read-out of the accumulator."""
        return Cost(
            cycles=limits.stream_cycles(core, self.dst.free_size)
            + read_out_cycles(core, self.reduce_res)
        )


@instruction(
    engine="vector",
    nki="select_reduce",
    source="ISA32 select_reduce; cost inferred from tensor_copy_predicated",
)
class SelectReduce(Instruction):
    """dst[P, N] = on_true where predicate is not 0 (or is 0, reversed), else on_false.

    `on_false` is a number or [P, 1]; the row maximum goes to the accumulator and to `reduce_res`.
    """

    dst: Out
    predicate: In
    on_true: In
    on_false: Scalar
    reduce_res: OptOut = None
    reduce_cmd: str = "idle"
    reduce_op: str = "maximum"
    reverse_pred: bool = False

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        used = self.reduce_cmd != "idle" or self.reduce_res is not None
        return "vector" if used else None

    def check(self, core: NeuronCore) -> None:
        """Refuse wrong dtypes, unequal sizes and two inputs in PSUM."""
        for name in ("dst", "predicate", "on_true", "on_false", "reduce_res"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "predicate", "on_true")
        for name in ("on_false", "reduce_res"):
            limits.check_columns(self, name, self.dst.partitions)
        limits.check_dtype(self, "predicate", ("int8", "uint8", "int16", "uint16", "bool_"))
        if self.on_true.dtype in ("tfloat32", "int32", "uint32"):
            raise self.refuse(f"on_true is {self.on_true.dtype}", "Cast it to float32 first.")
        limits.check_not_both_in_psum(self, "predicate", "on_true")
        limits.check_operator(self, "reduce_op", ("maximum",))
        limits.check_operator(self, "reduce_cmd", REDUCE_COMMANDS[:-1])

    def compute(
        self, ops: Any, predicate: Any, on_true: Any, on_false: Any, register: Any = None
    ) -> Any:
        """Return dst, reduce_res and, where the accumulator takes part, its new content."""
        chosen = ops.compare("eq" if self.reverse_pred else "ne", predicate, 0.0)
        return _selected(self, ops, chosen, on_true, on_false, register)

    def cost(self, core: NeuronCore) -> Cost:
        """Return N with one input in PSUM, else the rate of two SBUF inputs, inferred."""
        split = limits.in_psum(self.on_true) or limits.in_psum(self.predicate)
        elements = self.dst.free_size * (1.0 if split else core.vector.predicated_cycles)
        return Cost(
            cycles=limits.stream_cycles(core, elements) + read_out_cycles(core, self.reduce_res)
        )


def _selected(
    select: RangeSelect | SelectReduce,
    ops: Any,
    chosen: Any,
    on_true: Any,
    on_false: Any,
    register: Any,
) -> Any:
    value = ops.where(chosen, on_true, on_false)
    if select.accumulator is None:
        return value, None
    register = accumulate(ops, select.reduce_cmd, "maximum", value, register)
    return value, register, register

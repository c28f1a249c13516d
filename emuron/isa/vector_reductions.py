"""Instructions of the vector engine that reduce or scan along the free dimensions."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.alu import alu_operator
from emuron.isa.instruction import Cost, In, Instruction, OptOut, Out, Scalar, instruction
from emuron.isa.reductions import (
    BITWISE,
    LOGICAL,
    REDUCE_COMMANDS,
    REDUCTIONS,
    accumulate,
    check_initial,
    read_out_cycles,
    reduce_rows,
)
from emuron.isa.vector_engine import apply

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore


@instruction(engine="vector", nki="tensor_reduce", source="ISA32 tensor_reduce; cost ISA26")
class TensorReduce(Instruction):
    """dst = op over the trailing free axes `axis` of data, times −1 if `negate`.

    `axis` counts data's dimensions, ends at the last one and never holds 0 (the partitions).
    """

    dst: Out
    op: str
    data: In
    axis: int | tuple[int, ...]
    negate: bool = False
    keepdims: bool = False

    @property
    def raw(self) -> bool:
        """Bit-vector operators work on stored integers."""
        return alu_operator(self.op).is_bit_vector

    @property
    def axes(self) -> tuple[int, ...]:
        """The reduced axes as non-negative numbers, ascending."""
        given = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        rank = len(self.data.shape)
        return tuple(sorted(axis + rank if axis < 0 else axis for axis in given))

    @property
    def reduced(self) -> int:
        """Elements that become one."""
        return prod(self.data.shape[axis] for axis in self.axes)

    def check(self, core: NeuronCore) -> None:
        """Refuse axes that are not the trailing free ones, and operators that cannot reduce."""
        for name in ("dst", "data"):
            limits.check_tile(self, core, name)
        limits.check_operator(self, "op", (*REDUCTIONS, *LOGICAL, *BITWISE))
        rank, axes = len(self.data.shape), self.axes
        if not axes or axes != tuple(range(rank - len(axes), rank)) or axes[0] < 1:
            raise self.refuse(
                f"axis={self.axis} of data {list(self.data.shape)}",
                "Reduce the last free axes only; across partitions use tensor_partition_reduce, "
                "nc_transpose or a matmul with ones.",
            )
        expected = (self.data.partitions, self.data.free_size // self.reduced)
        if (self.dst.partitions, self.dst.free_size) != expected:
            raise self.refuse(
                f"dst is {list(self.dst.shape)}", f"The reduction leaves {list(expected)}."
            )
        if self.raw:
            limits.check_bit_vector_types(self, alu_operator(self.op), "dst", "data")
            if self.negate:
                raise self.refuse(f"negate with op={self.op}", "Negate arithmetic reductions only.")

    def compute(self, ops: Any, data: Any) -> Any:
        """Return the reduction as [P, kept elements]."""
        rows = self.data.partitions
        kept = self.data.free_size // self.reduced
        result = reduce_rows(ops, self.op, ops.reshape(data, (rows, kept, self.reduced)), 2)
        return ops.negative(result) if self.negate else result

    def cost(self, core: NeuronCore) -> Cost:
        """Return N/2 for add and max of bfloat16, else N (ISA v2.26)."""
        fast = self.data.dtype == self.dst.dtype == "bfloat16" and self.op in ("add", "maximum")
        elements = self.data.free_size / (core.vector.reduce_bf16_speedup if fast else 1)
        return Cost(cycles=limits.stream_cycles(core, elements), flops=self.data.size)


@instruction(
    engine="vector", nki="tensor_scalar_reduce", source="ISA32 tensor_scalar_reduce; cost ISA26"
)
class TensorScalarReduce(Instruction):
    """dst[P, N] = data op0 operand0, with a reduction of each row in the accumulator registers.

    `reduce_res[P, 1]` receives the registers (negated if `reduce_res_negate`); `reduce_cmd` says
    what they start from.
    """

    dst: Out
    data: In
    op0: str
    operand0: Scalar
    reduce_op: str
    reduce_res: OptOut = None
    reverse0: bool = False
    reduce_cmd: str = "reset_reduce"
    reduce_init: Scalar = None
    reduce_res_negate: bool = False

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        used = self.reduce_cmd != "idle" or self.reduce_res is not None
        return "vector" if used else None

    def check(self, core: NeuronCore) -> None:
        """Refuse unequal sizes and operators that are not arithmetic."""
        for name in ("dst", "data", "operand0", "reduce_res", "reduce_init"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "data")
        for name in ("operand0", "reduce_res", "reduce_init"):
            limits.check_columns(self, name, self.data.partitions)
        limits.check_arithmetic(self, "op0")
        limits.check_operator(self, "reduce_op", REDUCTIONS)
        limits.check_operator(self, "reduce_cmd", REDUCE_COMMANDS)
        if self.reverse0:
            raise self.refuse(
                "reverse0=True is not supported", "Swap the operands with tensor_scalar first."
            )
        check_initial(self, "reduce_init")

    def compute(
        self, ops: Any, data: Any, operand0: Any, reduce_init: Any, register: Any = None
    ) -> Any:
        """Return dst, reduce_res and, where the accumulator takes part, its new content."""
        value = apply(ops, alu_operator(self.op0), data, operand0, self.reverse0)
        if self.accumulator is None:
            return value, None
        register = accumulate(ops, self.reduce_cmd, self.reduce_op, value, register, reduce_init)
        result = register
        if self.reduce_res_negate and self.reduce_res is not None:
            result = ops.multiply(register, -1.0)
        return value, result, register

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N), plus the read-out of the accumulator (ISA v2.26)."""
        cycles = limits.stream_cycles(core, self.data.free_size)
        cycles += read_out_cycles(core, self.reduce_res)
        return Cost(cycles=cycles, flops=2 * self.data.size)


@instruction(
    engine="vector", nki="tensor_tensor_scan", source="ISA32 tensor_tensor_scan; cost ISA26"
)
class TensorTensorScan(Instruction):
    """dst[:, i] = (data0[:, i] op0 dst[:, i−1]) op1 data1[:, i]; dst[:, −1] stands for `initial`.

    The state stays in fp32 from column to column.
    """

    dst: Out
    data0: In
    data1: In
    initial: Scalar
    op0: str
    op1: str
    reverse0: bool = False
    reverse1: bool = False

    def check(self, core: NeuronCore) -> None:
        """Refuse unequal sizes, two inputs in PSUM and bit-vector operators."""
        for name in ("dst", "data0", "data1", "initial"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "data0", "data1")
        limits.check_columns(self, "initial", self.dst.partitions)
        limits.check_not_both_in_psum(self, "data0", "data1")
        limits.check_arithmetic(self, "op0", "op1")

    def compute(self, ops: Any, data0: Any, data1: Any, initial: Any) -> Any:
        """Return the states of all columns."""
        op0, op1 = alu_operator(self.op0), alu_operator(self.op1)
        columns0 = ops.transpose(data0, (1, 0))
        columns1 = ops.transpose(data1, (1, 0))
        state = initial
        if not isinstance(initial, (int, float)):
            state = ops.reshape(initial, (self.dst.partitions,))
        states = []
        for left, right in zip(columns0, columns1, strict=True):
            state = apply(ops, op0, left, state, self.reverse0)
            state = apply(ops, op1, state, right, self.reverse1)
            states.append(ops.reshape(state, (1, self.dst.partitions)))
        return ops.transpose(ops.concatenate(states, 0), (1, 0))

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, 2N) (ISA v2.26)."""
        cycles = self.dst.free_size * core.vector.scan_cycles
        return Cost(cycles=limits.stream_cycles(core, cycles), flops=2 * self.dst.size)


@instruction(
    engine="vector",
    nki="tensor_scalar_cumulative",
    source="ISA32 tensor_scalar_cumulative; cost inferred from tensor_scalar_reduce",
)
class TensorScalarCumulative(Instruction):
    """dst[:, i] = (src[:, i] op0 imm0) op1 register, which the register then holds.

    `reduce_cmd`: reset_reduce starts from op1's identity, load_reduce from imm1, reduce goes on.
    """

    dst: Out
    src: In
    op0: str
    op1: str
    imm0: Scalar
    imm1: Scalar = None
    reduce_cmd: str = "reset_reduce"

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        return "vector"

    def check(self, core: NeuronCore) -> None:
        """Refuse unequal sizes, 32-bit integers and operators that cannot accumulate."""
        for name in ("dst", "src", "imm0", "imm1"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "src")
        for name in ("imm0", "imm1"):
            limits.check_columns(self, name, self.src.partitions)
        limits.check_arithmetic(self, "op0")
        limits.check_operator(self, "op1", (*REDUCTIONS, "subtract"))
        limits.check_operator(self, "reduce_cmd", ("reset_reduce", "reduce", "load_reduce"))
        for name in ("dst", "src"):
            if getattr(self, name).dtype in ("int32", "uint32"):
                raise self.refuse(f"{name} is a 32-bit integer", "Cast it to float32 first.")
        check_initial(self, "imm1")

    def compute(self, ops: Any, src: Any, imm0: Any, imm1: Any, register: Any) -> Any:
        """Return dst and the accumulator's new content."""
        op1 = alu_operator(self.op1)
        start = {"reset_reduce": op1.identity, "load_reduce": imm1}
        state = start.get(self.reduce_cmd, register)
        values = apply(ops, alu_operator(self.op0), src, imm0, False)
        states = []
        for column in range(self.src.free_size):
            state = op1.compute(ops, values[:, column : column + 1], state)
            states.append(state)
        return ops.concatenate(states, 1), state

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N), inferred: as tensor_scalar_reduce."""
        elements = self.src.free_size
        return Cost(cycles=limits.stream_cycles(core, elements), flops=2 * self.src.size)


@instruction(engine="vector", nki="exponential", since=4, source="ISA32 exponential; cost A4")
class Exponential(Instruction):
    """dst[P, N] = exp(src[P, N] - max_value), with an optional running row sum.

    `max_value` and `reduce_init` are numbers or [P, 1]; `reduce_cmd` works on the engine's
    accumulator registers, which `reduce_res` [P, 1] receives.
    """

    dst: Out
    src: In
    max_value: Scalar = 0.0
    reduce_res: OptOut = None
    reduce_cmd: str = "idle"
    reduce_init: Scalar = 0.0

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        used = self.reduce_cmd != "idle" or self.reduce_res is not None
        return "vector" if used else None

    def check(self, core: NeuronCore) -> None:
        """Refuse earlier generations and unequal sizes."""
        for name in ("dst", "src", "max_value", "reduce_res", "reduce_init"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "src")
        for name in ("max_value", "reduce_res", "reduce_init"):
            limits.check_columns(self, name, self.src.partitions)
        commands = ("idle", "reset_reduce", "reduce", "load_reduce")
        limits.check_operator(self, "reduce_cmd", commands)
        check_initial(self, "reduce_init")

    def compute(
        self, ops: Any, src: Any, max_value: Any, reduce_init: Any, register: Any = None
    ) -> Any:
        """Return dst, reduce_res and, where the accumulator takes part, its new content."""
        value = ops.exp(ops.subtract(src, max_value))
        if self.accumulator is None:
            return value, None
        register = accumulate(ops, self.reduce_cmd, "add", value, register, reduce_init)
        return value, register, register

    def cost(self, core: NeuronCore) -> Cost:
        """Return N/4 (A4), plus the read-out of the accumulator."""
        elements = self.src.free_size / core.vector.exponential_speedup
        cycles = limits.stream_cycles(core, elements) + read_out_cycles(core, self.reduce_res)
        return Cost(cycles=cycles, flops=2 * self.src.size)

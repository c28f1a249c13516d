"""Instructions of the scalar engine: activation functions with scale, bias and accumulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.alu import activation_function, alu_operator
from emuron.isa.instruction import Cost, In, Instruction, OptOut, Out, Scalar, instruction
from emuron.isa.reductions import REDUCE_COMMANDS, accumulate, read_out_cycles
from emuron.isa.tensor import AccessPattern

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

PRELU = "prelu"
BYPASS = "bypass"
STAGES = (  # op0 and op1 of activate2
    ("multiply", "add"),
    ("multiply", "subtract"),
    ("multiply", BYPASS),
    ("add", BYPASS),
    ("subtract", BYPASS),
    (BYPASS, BYPASS),
)
ROW_REDUCTIONS = ("add", "maximum", "minimum", "abs_max", "abs_min")


def scaled_and_biased(ops: Any, data: Any, scale: Any, bias: Any) -> Any:
    """Return data·scale + bias in fp32: one rounding for each; 1.0 and None or 0.0 do nothing."""
    if not (isinstance(scale, (int, float)) and scale == 1.0):
        data = ops.multiply(data, scale)
    if bias is None or (isinstance(bias, (int, float)) and bias == 0.0):
        return data
    return ops.add(data, bias)


@instruction(
    engine=("scalar", "gpsimd"),
    nki="activation",
    source="ISA32 activation; SH functions; A2 accumulator; cost ISA26",
)
class Activation(Instruction):
    """dst[P, N] = op(data[P, N]·scale + bias), with an optional running row sum.

    `scale` is a number or [P, 1] fp32; `bias` is None, a number (v3 and later) or [P, 1].
    `reduce_cmd` works on the engine's accumulator registers, fp32 [P, 1]; `reduce_res` receives
    them after this instruction. The sum is over the values before they are rounded to dst.
    """

    dst: Out
    op: str
    data: In
    bias: Scalar = None
    scale: Scalar = 1.0
    reduce_op: str | None = None
    reduce_res: OptOut = None
    reduce_cmd: str = "idle"
    engine: str = "scalar"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else scalar."""
        return "scalar" if self.engine == "unknown" else self.engine

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        used = self.reduce_cmd != "idle" or self.reduce_res is not None
        return self.engine_name if used else None

    def check(self, core: NeuronCore) -> None:
        """Refuse unknown functions, operands of unequal size and reductions other than add."""
        limits.check_engine(self, core, "dst", "data", "bias", "scale", "reduce_res")
        if self.engine_name == "gpsimd":
            limits.check_since(self, core, 4)
        _check_activation(self, core)
        limits.check_operator(self, "reduce_op", (None, "add"))
        limits.check_operator(self, "reduce_cmd", REDUCE_COMMANDS[:-1])

    def compute(self, ops: Any, data: Any, bias: Any, scale: Any, register: Any = None) -> Any:
        """Return dst, reduce_res and, where the accumulator takes part, its new content."""
        value = activation_function(self.op).compute(ops, scaled_and_biased(ops, data, scale, bias))
        if self.accumulator is None:
            return value, None
        register = accumulate(ops, self.reduce_cmd, "add", value, register)
        return value, register, register

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N), plus the read-out of the accumulator."""
        return _activation_cost(self, core)


@instruction(engine="scalar", nki="activation_reduce", source="ISA32 activation_reduce; cost ISA26")
class ActivationReduce(Instruction):
    """dst[P, N] = op(data·scale + bias) and reduce_res[P, 1] = its row sum, in fp32."""

    dst: Out
    op: str
    data: In
    reduce_op: str
    reduce_res: Out
    bias: Scalar = None
    scale: Scalar = 1.0

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        return "scalar"

    def check(self, core: NeuronCore) -> None:
        """Refuse unknown functions, operands of unequal size and reductions other than add."""
        _check_activation(self, core)
        limits.check_operator(self, "reduce_op", ("add",))

    def compute(self, ops: Any, data: Any, bias: Any, scale: Any, register: Any) -> Any:
        """Return dst, reduce_res and the accumulator's new content."""
        value = activation_function(self.op).compute(ops, scaled_and_biased(ops, data, scale, bias))
        total = accumulate(ops, "reset_reduce", "add", value, register)
        return value, total, total

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N) + MIN_II."""
        return _activation_cost(self, core)


@instruction(
    engine="scalar",
    nki="activate2",
    since=4,
    source="ISA32 activate2; A4 scalar engine; cost inferred from activation",
)
class Activate2(Instruction):
    """dst[P, N] = op((data op0 imm0) op1 imm1), with an optional running reduction of each row.

    `imm0`, `imm1` and `relu_param` are numbers or [P, 1]; `bypass` leaves a stage out and the
    reverse flags swap its sides. `relu_param` is the slope of prelu below zero.
    """

    dst: Out
    op: str
    data: In
    imm0: Scalar
    imm1: Scalar
    op0: str
    op1: str
    relu_param: Scalar = 0.0
    reverse0: bool = False
    reverse1: bool = False
    reduce_op: str | None = None
    reduce_res: OptOut = None
    reduce_cmd: str = "idle"

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        used = self.reduce_cmd != "idle" or self.reduce_res is not None
        return "scalar" if used else None

    def check(self, core: NeuronCore) -> None:
        """Refuse earlier generations, other pairs of operators and operands of unequal size."""
        if self.op != PRELU:
            limits.check_activation(self, "op")
        _check_tiles(self, core, "imm0", "imm1", "relu_param")
        if (self.op0, self.op1) not in STAGES:
            pairs = ", ".join(f"{first}/{second}" for first, second in STAGES)
            raise self.refuse(f"op0={self.op0} with op1={self.op1}", f"The pairs are {pairs}.")
        for op, name in ((self.op0, "imm0"), (self.op1, "imm1")):
            if op != BYPASS and getattr(self, name) is None:
                raise self.refuse(f"{name} is missing", f"{op} needs a number or a [P, 1] tile.")
        limits.check_operator(self, "reduce_op", (None, *ROW_REDUCTIONS))
        limits.check_operator(self, "reduce_cmd", REDUCE_COMMANDS[:-1])
        if self.reduce_cmd != "idle" and self.reduce_op is None:
            raise self.refuse(f"reduce_cmd={self.reduce_cmd} without reduce_op", "Give reduce_op.")

    def compute(
        self, ops: Any, data: Any, imm0: Any, imm1: Any, relu_param: Any, register: Any = None
    ) -> Any:
        """Return dst, reduce_res and, where the accumulator takes part, its new content."""
        value = _stage(ops, self.op0, data, imm0, self.reverse0)
        value = _stage(ops, self.op1, value, imm1, self.reverse1)
        if self.op == PRELU:
            below = ops.compare("lt", value, 0.0)
            value = ops.where(below, ops.multiply(value, relu_param), value)
        else:
            value = activation_function(self.op).compute(ops, value)
        if self.accumulator is None:
            return value, None
        register = accumulate(ops, self.reduce_cmd, self.reduce_op or "add", value, register)
        return value, register, register

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N), plus the read-out of the accumulator, inferred: as activation."""
        return _activation_cost(self, core)


def _stage(ops: Any, op: str, data: Any, operand: Any, reverse: bool) -> Any:
    if op == BYPASS:
        return data
    operator = alu_operator(op)
    return operator.compute(ops, operand, data) if reverse else operator.compute(ops, data, operand)


def _check_activation(activation: Activation | ActivationReduce, core: NeuronCore) -> None:
    limits.check_activation(activation, "op")
    _check_tiles(activation, core, "bias", "scale")
    _check_bias(activation, core)


def _check_tiles(
    activation: Activation | ActivationReduce | Activate2, core: NeuronCore, *columns: str
) -> None:
    """Refuse operands of unequal size."""
    for name in ("dst", "data", "reduce_res", *columns):
        limits.check_tile(activation, core, name)
    limits.check_same_elements(activation, "dst", "data")
    for name in ("reduce_res", *columns):
        limits.check_columns(activation, name, activation.data.partitions)


def _check_bias(activation: Activation | ActivationReduce, core: NeuronCore) -> None:
    bias = activation.bias
    if isinstance(bias, AccessPattern):
        if bias.dtype == "tfloat32":
            raise activation.refuse("bias is tfloat32", "Use float32 or a 16-bit float.")
    elif bias and (core.nc_version or 0) < 3:
        raise activation.refuse(
            f"bias is the number {bias}; NeuronCore-{core.version} takes it as a [P, 1] tile only",
            "Fill a tile with memset and pass that.",
        )
    if activation.op == "reciprocal" and bias is not None and (core.nc_version or 0) < 3:
        raise activation.refuse(
            f"op=reciprocal has no bias on NeuronCore-{core.version}", "Add it beforehand."
        )


def _activation_cost(
    activation: Activation | ActivationReduce | Activate2, core: NeuronCore
) -> Cost:
    # ISA v2.26: max(MIN_II, N); activation_reduce + MIN_II for reading the registers out.
    elements = activation.data.free_size
    if activation.engine_name == "gpsimd":
        return Cost(
            cycles=core.timing.gpsimd_start_cycles + elements, flops=2 * activation.data.size
        )
    cycles = limits.stream_cycles(core, elements)
    cycles += read_out_cycles(core, activation.reduce_res)
    table = core.activation_table(activation.op)
    return Cost(
        cycles=cycles,
        table=None if table is None else f"table {table}",
        flops=2 * activation.data.size,
    )

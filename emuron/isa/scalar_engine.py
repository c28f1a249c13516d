"""Instructions of the scalar engine: activation functions with scale, bias and accumulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.alu import activation_function, alu_operator
from emuron.isa.instruction import Cost, In, Instruction, OptOut, Out, Scalar, instruction
from emuron.isa.tensor import AccessPattern

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

REDUCE_COMMANDS = ("idle", "reset", "reduce", "reset_reduce", "load_reduce")


def scaled_and_biased(ops: Any, data: Any, scale: Any, bias: Any) -> Any:
    """Return data·scale + bias in fp32: one rounding for each; 1.0 and None or 0.0 do nothing."""
    if not (isinstance(scale, (int, float)) and scale == 1.0):
        data = ops.multiply(data, scale)
    if bias is None or (isinstance(bias, (int, float)) and bias == 0.0):
        return data
    return ops.add(data, bias)


def accumulate(
    ops: Any, command: str, reduction: str, values: Any, register: Any, initial: float | None = None
) -> Any:
    """Return an accumulator register [P, 1] after a reduce command; None is undefined.

    `values` is [P, N]; `register` is the content before; `initial` is what load_reduce starts from.
    """
    if command == "idle":
        return register
    operator = alu_operator(reduction)
    if command == "reset":
        return operator.identity
    row = getattr(ops, str(operator.reduction))(values, 1, True)
    if command == "reset_reduce":
        return row
    return operator.compute(ops, initial if command == "load_reduce" else register, row)


@instruction(engine="scalar", nki="activation")
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

    @property
    def accumulator(self) -> str | None:
        """The engine whose accumulator registers take part."""
        used = self.reduce_cmd != "idle" or self.reduce_res is not None
        return "scalar" if used else None

    def check(self, core: NeuronCore) -> None:
        """Refuse unknown functions, operands of unequal size and reductions other than add."""
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


@instruction(engine="scalar", nki="activation_reduce")
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


def _check_activation(activation: Activation | ActivationReduce, core: NeuronCore) -> None:
    limits.check_activation(activation, "op")
    for name in ("dst", "data", "bias", "scale", "reduce_res"):
        limits.check_tile(activation, core, name)
    limits.check_same_elements(activation, "dst", "data")
    rows, free = activation.data.partitions, activation.data.free_size
    for name in ("bias", "scale", "reduce_res"):
        limits.check_columns(activation, name, rows)
    limit = core.limits.scalar_max_free_elements
    if free > limit:
        raise activation.refuse(
            f"data has {free} elements a partition; the limit is {limit}",
            "Tile the free dimension.",
        )
    _check_bias(activation, core)


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
    if activation.op == "reciprocal" and bias and (core.nc_version or 0) < 3:
        raise activation.refuse(
            f"op=reciprocal has no bias on NeuronCore-{core.version}", "Add it beforehand."
        )


def _activation_cost(activation: Activation | ActivationReduce, core: NeuronCore) -> Cost:
    # ISA v2.26: max(MIN_II, N); activation_reduce + MIN_II for reading the registers out.
    cycles = limits.stream_cycles(core, activation.data.free_size)
    if activation.reduce_res is not None:
        cycles += core.timing.accumulator_read_cycles
    table = core.activation_table(activation.op)
    return Cost(
        cycles=cycles,
        table=None if table is None else f"table {table}",
        flops=2 * activation.data.size,
    )

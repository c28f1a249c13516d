"""Element-wise instructions of the vector engine (some also of the scalar and gpsimd engines)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emuron.isa import limits
from emuron.isa.alu import UNARY, AluOperator, alu_operator
from emuron.isa.instruction import Cost, In, Instruction, Out, Scalar, instruction
from emuron.isa.tensor import AccessPattern

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

INTEGERS_32 = ("int32", "uint32")
EXACT_INTEGER_OPS = ("add", "subtract", "multiply")  # GpSimd computes these in 32-bit integers
SCALAR_ENGINE_PAIRS = (("multiply", "add"), ("multiply", None), ("add", None))  # ISA, v3 and later


def copy_speedup(core: NeuronCore, dst: AccessPattern, src: AccessPattern) -> int:
    """Return the performance mode of tensor_copy and tensor_scalar (A3, table of DVE modes)."""
    rates = core.vector
    if dst.dtype not in rates.perf_dtypes or src.dtype not in rates.perf_dtypes:
        return 1
    contiguous = dst.inner_contiguous and src.inner_contiguous
    if not (limits.in_psum(dst) or limits.in_psum(src)):
        return rates.copy_contiguous_speedup if contiguous else rates.copy_strided_speedup
    both = limits.in_psum(dst) and limits.in_psum(src)
    return rates.copy_psum_speedup if contiguous and not both else 1


def elementwise_cycles(
    core: NeuronCore, engine: str, dst: AccessPattern, src: AccessPattern
) -> float:
    """Return the busy cycles of a one-input stream on the vector, scalar or gpsimd engine."""
    elements = dst.free_size
    if engine == "gpsimd":
        return core.timing.gpsimd_start_cycles + elements
    if engine == "scalar":
        narrow = dst.dtype.itemsize <= 2 and src.dtype.itemsize <= 2
        speedup = core.vector.scalar_copy_16bit_speedup if narrow else 1
        return limits.stream_cycles(core, elements / speedup)
    return limits.stream_cycles(core, elements / copy_speedup(core, dst, src))


def apply(ops: Any, operator: AluOperator, left: Any, right: Any, reverse: bool) -> Any:
    """Return `left op right`, or `right op left` if reversed."""
    return operator.compute(ops, right, left) if reverse else operator.compute(ops, left, right)


@instruction(
    engine=("vector", "gpsimd"),
    nki="tensor_tensor",
    source="ISA32 tensor_tensor; SH operators; cost ISA26, A3",
)
class TensorTensor(Instruction):
    """dst[P, N] = data1[P, N] op data2[P, N].

    An unknown `engine` is gpsimd for `power` and for 32-bit integers outside PSUM (exact integer
    arithmetic), else vector (fp32).
    """

    dst: Out
    data1: In
    data2: In
    op: str
    engine: str = "unknown"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else the default rule."""
        if self.engine != "unknown":
            return self.engine
        return "gpsimd" if self.op == "power" or self._integers else "vector"

    @property
    def _integers(self) -> bool:
        operands = (self.dst, self.data1, self.data2)
        return self.op in EXACT_INTEGER_OPS and all(
            o.dtype == self.dst.dtype and o.dtype in INTEGERS_32 and not limits.in_psum(o)
            for o in operands
        )

    @property
    def raw(self) -> bool:
        """Bit-vector operators and GpSimd's integer arithmetic work on stored integers."""
        if alu_operator(self.op).is_bit_vector:
            return True
        return self.engine_name == "gpsimd" and self._integers

    def check(self, core: NeuronCore) -> None:
        """Refuse unequal sizes, two inputs in PSUM and operators that the engine lacks."""
        operator = alu_operator(self.op)
        limits.check_engine(self, core, "dst", "data1", "data2")
        for name in ("dst", "data1", "data2"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "data1", "data2")
        limits.check_not_both_in_psum(self, "data1", "data2")
        if operator.kind == UNARY:
            raise self.refuse(f"op={self.op} takes one operand", "Use tensor_scalar or activation.")
        if self.op == "power" and self.engine_name != "gpsimd":
            raise self.refuse(
                f"op=power does not exist on the {self.engine_name} engine", "Use engine=gpsimd."
            )
        if operator.is_bit_vector:
            limits.check_bit_vector_types(self, operator, "dst", "data1", "data2")
            _only_on_vector(self, self.op)

    def compute(self, ops: Any, data1: Any, data2: Any) -> Any:
        """Return the result of the operator."""
        return alu_operator(self.op).compute(ops, data1, data2)

    def cost(self, core: NeuronCore) -> Cost:
        """Return the cycles of two streamed inputs."""
        elements = self.dst.free_size
        if self.engine_name == "gpsimd":
            cycles = float(core.timing.gpsimd_start_cycles + elements)
        else:
            cycles = limits.stream_cycles(core, elements * self._cycles_per_element(core))
        return Cost(cycles=cycles, flops=self.dst.size)

    def _cycles_per_element(self, core: NeuronCore) -> float:
        # ISA v2.26: N with one input in PSUM, or in the fast case; else 2N. A3 for v3.
        rates = core.vector
        operands = (self.dst, self.data1, self.data2)
        if limits.in_psum(self.data1) or limits.in_psum(self.data2):
            return rates.two_operand_psum_cycles
        fast = all(
            o.dtype in rates.two_operand_fast_dtypes and o.inner_contiguous for o in operands
        )
        if fast and (not rates.two_operand_fast_ops or self.op in rates.two_operand_fast_ops):
            return rates.two_operand_fast_cycles
        return rates.two_operand_cycles


def _only_on_vector(operation: Instruction, op: str) -> None:
    if operation.engine_name != "vector":
        raise operation.refuse(
            f"the bit-vector operator {op} does not exist on the {operation.engine_name} engine",
            "Use engine=vector.",
        )


@instruction(
    engine=("vector", "scalar", "gpsimd"),
    nki="tensor_scalar",
    source="ISA32 tensor_scalar; SH operators; cost ISA26, A3",
)
class TensorScalar(Instruction):
    """dst[P, N] = (data op0 operand0) op1 operand1; operands are numbers or [P, 1] tiles.

    The reverse flags swap the sides of a stage; unary operators ignore their operand. An unknown
    `engine` is gpsimd for rsqrt and power, else vector.
    """

    dst: Out
    data: In
    op0: str
    operand0: Scalar = None
    reverse0: bool = False
    op1: str | None = None
    operand1: Scalar = None
    reverse1: bool = False
    engine: str = "unknown"

    @property
    def engine_name(self) -> str:
        """The engine asked for, else the default rule."""
        if self.engine != "unknown":
            return self.engine
        return "gpsimd" if {"rsqrt", "power"} & {self.op0, self.op1} else "vector"

    @property
    def raw(self) -> bool:
        """Bit-vector operators work on stored integers."""
        return alu_operator(self.op0).is_bit_vector

    def check(self, core: NeuronCore) -> None:
        """Refuse mixed operator classes, missing operands and operators that the engine lacks."""
        limits.check_engine(self, core, "dst", "data")
        for name in ("dst", "data", "operand0", "operand1"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "data")
        for name in ("operand0", "operand1"):
            limits.check_columns(self, name, self.data.partitions)
        _check_stage(self, self.op0, "operand0", self.operand0)
        if self.op1 is not None:
            _check_stage(self, self.op1, "operand1", self.operand1)
            _check_one_class(self, self.op0, self.op1)
        self._check_engine_operators(core)

    def _check_engine_operators(self, core: NeuronCore) -> None:
        operator = alu_operator(self.op0)
        if self.engine_name == "scalar":
            limits.check_since(self, core, 3)
        if {"square", "relu"} & {self.op0, self.op1}:
            limits.check_since(self, core, 4)
            if self.op0 not in ("square", "relu") or self.op1 in ("square", "relu"):
                raise self.refuse(
                    f"op0={self.op0}, op1={self.op1}", "square and relu stand in the first stage."
                )
        if operator.is_bit_vector:
            names = ("dst", "data", "operand0", "operand1")
            limits.check_bit_vector_types(self, operator, *names)
            _only_on_vector(self, self.op0)
        pair = (self.op0, self.op1)
        if self.engine_name == "scalar" and pair not in SCALAR_ENGINE_PAIRS:
            raise self.refuse(
                f"the scalar engine cannot run op0={self.op0}, op1={self.op1}",
                "It has multiply and add, multiply, or add; use engine=vector.",
            )
        if {"rsqrt", "power"} & set(pair) and self.engine_name != "gpsimd":
            raise self.refuse(
                f"{self.op0} does not exist on the {self.engine_name} engine", "Use engine=gpsimd."
            )

    def compute(self, ops: Any, data: Any, operand0: Any, operand1: Any) -> Any:
        """Return the result of one or two stages."""
        value = apply(ops, alu_operator(self.op0), data, operand0, self.reverse0)
        if self.op1 is None:
            return value
        return apply(ops, alu_operator(self.op1), value, operand1, self.reverse1)

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, N), divided by the performance mode; one or two stages alike."""
        cycles = elementwise_cycles(core, self.engine_name, self.dst, self.data)
        return Cost(cycles=cycles, flops=self.dst.size * (1 if self.op1 is None else 2))


def _check_stage(operation: Instruction, op: str, name: str, operand: Any) -> None:
    unary = alu_operator(op).kind == UNARY or op == "invert"
    if operand is None and not unary:
        raise operation.refuse(f"{name} is missing", f"{op} needs a number or a [P, 1] tile.")


def _check_one_class(operation: Instruction, op0: str, op1: str) -> None:
    if alu_operator(op0).is_bit_vector != alu_operator(op1).is_bit_vector:
        raise operation.refuse(
            f"op0={op0} and op1={op1} mix bit-vector and arithmetic operators",
            "Use two instructions.",
        )


@instruction(
    engine="vector",
    nki="scalar_tensor_tensor",
    source="ISA32 scalar_tensor_tensor; cost ISA26, inferred on v3",
)
class ScalarTensorTensor(Instruction):
    """dst[P, N] = (data op0 operand0) op1 operand1; operand0 number or [P, 1], operand1 [P, N]."""

    dst: Out
    data: In
    op0: str
    operand0: Scalar
    op1: str
    operand1: In
    reverse0: bool = False
    reverse1: bool = False

    def check(self, core: NeuronCore) -> None:
        """Refuse bit-vector operators, unequal sizes and two inputs in PSUM."""
        for name in ("dst", "data", "operand0", "operand1"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "data", "operand1")
        limits.check_columns(self, "operand0", self.data.partitions)
        limits.check_not_both_in_psum(self, "data", "operand1")
        limits.check_arithmetic(self, "op0", "op1")
        _check_stage(self, self.op0, "operand0", self.operand0)

    def compute(self, ops: Any, data: Any, operand0: Any, operand1: Any) -> Any:
        """Return the result of both stages."""
        value = apply(ops, alu_operator(self.op0), data, operand0, self.reverse0)
        return apply(ops, alu_operator(self.op1), value, operand1, self.reverse1)

    def cost(self, core: NeuronCore) -> Cost:
        """Return N in the fast case, else the rate of the generation."""
        rates = core.vector
        # ISA v2.26: data and operand1 bf16, op0=subtract, op1=multiply, N even.
        fast = (
            self.data.dtype == self.operand1.dtype == "bfloat16"
            and (self.op0, self.op1) == ("subtract", "multiply")
            and self.dst.free_size % 2 == 0
        )
        rate = rates.scalar_tensor_tensor_fast_cycles if fast else rates.scalar_tensor_tensor_cycles
        return Cost(
            cycles=limits.stream_cycles(core, self.dst.free_size * rate), flops=2 * self.dst.size
        )


@instruction(engine="vector", nki="reciprocal", source="ISA32 reciprocal; cost ISA26")
class Reciprocal(Instruction):
    """dst[P, N] = 1 / data[P, N] in fp32; 1/0 is inf."""

    dst: Out
    data: In

    def check(self, core: NeuronCore) -> None:
        """Refuse unequal sizes."""
        for name in ("dst", "data"):
            limits.check_tile(self, core, name)
        limits.check_same_elements(self, "dst", "data")

    def compute(self, ops: Any, data: Any) -> Any:
        """Return the reciprocal."""
        return ops.reciprocal(data)

    def cost(self, core: NeuronCore) -> Cost:
        """Return max(MIN_II, 8N) (ISA v2.26)."""
        cycles = self.data.free_size * core.vector.reciprocal_cycles
        return Cost(cycles=limits.stream_cycles(core, cycles), flops=self.data.size)

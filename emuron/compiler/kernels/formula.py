"""Element-wise formulas: written once, evaluated on arrays and written as instructions.

A formula is float32 throughout; its value is rounded once, at the write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.elementwise import tiles
from emuron.isa.alu import activation_function, alu_operator
from emuron.nki.tensor import NkiTensor
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import DType, float32, int32, uint8
from emuron.numerics.rounding import NumericsPolicy

_TRUTHS = frozenset({"equal", "not_equal", "greater", "greater_equal", "less", "less_equal"})
_COLUMN_STEPS = 8192  # columns of a tile times steps: what a formula keeps on chip
_MOST_COLUMNS = 4096

Number: TypeAlias = "Term | float"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One instruction: `kind` is alu, call, reciprocal, whole, where or operand."""

    kind: str
    name: str
    inputs: tuple[Number, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A number of a formula; operators append steps."""

    steps: list[Step]
    index: int

    def then(self, kind: str, name: str, *inputs: Number) -> Term:
        """Append a step and return its result."""
        self.steps.append(Step(kind, name, inputs))
        return Term(self.steps, len(self.steps) - 1)

    def alu(self, op: str, other: Number) -> Term:
        """Return `self op other` by an ALU operator of the Vector engine."""
        return self.then("alu", op, self, other)

    def call(self, function: str) -> Term:
        """Return an activation function of the Scalar engine."""
        return self.then("call", function, self)

    def reciprocal(self) -> Term:
        """Return 1 / self."""
        return self.then("reciprocal", "", self)

    def whole(self) -> Term:
        """Return the nearest integer, halves to even, saturated to int32's range."""
        return self.then("whole", "", self)

    def equals(self, other: Number) -> Term:
        """Return 1 where self == other, else 0."""
        return self.alu("equal", other)

    def differs(self, other: Number) -> Term:
        """Return 1 where self != other (so where it is NaN), else 0."""
        return self.alu("not_equal", other)

    def __add__(self, other: Number) -> Term:
        return self.alu("add", other)

    def __radd__(self, other: float) -> Term:
        return self.then("alu", "add", other, self)

    def __sub__(self, other: Number) -> Term:
        return self.alu("subtract", other)

    def __rsub__(self, other: float) -> Term:
        return self.then("alu", "subtract", other, self)

    def __mul__(self, other: Number) -> Term:
        return self.alu("multiply", other)

    def __rmul__(self, other: float) -> Term:
        return self.then("alu", "multiply", other, self)

    def __lt__(self, other: Number) -> Term:
        return self.alu("less", other)

    def __le__(self, other: Number) -> Term:
        return self.alu("less_equal", other)

    def __gt__(self, other: Number) -> Term:
        return self.alu("greater", other)

    def __ge__(self, other: Number) -> Term:
        return self.alu("greater_equal", other)


def where(condition: Term, x: Number, y: Number) -> Term:
    """Return x where the condition, a comparison, holds, else y."""
    return condition.then("where", "", condition, x, y)


def written(formula: Callable[..., Term], operands: int) -> list[Step]:
    """Return the steps of a formula of so many operands, the operands first."""
    steps = [Step("operand", "", ()) for _ in range(operands)]
    result = formula(*(Term(steps, i) for i in range(operands)))
    return steps[: result.index + 1]


def evaluate(
    formula: Callable[..., Term], backend: Backend, policy: NumericsPolicy, arrays: tuple[Any, ...]
) -> Any:
    """Return the value of a formula on float32 arrays."""
    found = list(arrays)
    for step in written(formula, len(arrays))[len(arrays) :]:
        inputs = [found[i.index] if isinstance(i, Term) else i for i in step.inputs]
        found.append(_value(step, backend, policy, inputs))
    return found[-1]


def _value(step: Step, b: Backend, policy: NumericsPolicy, inputs: list[Any]) -> Any:
    if step.kind == "alu":
        return alu_operator(step.name).compute(b, *inputs)
    if step.kind == "call":
        return activation_function(step.name).compute(b, inputs[0])
    if step.kind == "reciprocal":
        return b.reciprocal(inputs[0])
    if step.kind == "whole":
        return b.widen(b.round_to(inputs[0], int32, policy), int32)
    numbers = [b.full((), i, float32) if isinstance(i, (int, float)) else i for i in inputs]
    return b.where(*numbers)


def lower(
    k: KernelContext, formula: Callable[..., Term], inputs: tuple[Placed, ...], out: Placed
) -> None:
    """Write a formula tile by tile; what lies between its steps stays in SBUF."""
    steps = written(formula, len(inputs))
    width = min(_MOST_COLUMNS, max(128, _COLUMN_STEPS // len(steps) // 128 * 128))
    columns = out.view.matrix().shape[1]
    values = [k.reachable(k.materialize(v), columns) for v in inputs]
    for rows, part in tiles(k, out, *values, width=width):
        target = k.target(out, rows, part)
        shape = (rows[1], part[1])
        found = [k.read(v, rows, part).reshape(shape) for v in values]
        for step in steps[len(inputs) : -1]:
            found.append(_written(k, step, found, k.sbuf(shape, _between(step)), shape))
        last = _written(k, steps[-1], found, target.reshape(shape), shape)
        if last.tensor is not target.tensor:
            nisa.tensor_copy(target, last, engine="vector")
        k.finish(target, out, rows, part)


def _between(step: Step) -> DType:
    """Return the dtype in which a step's result lies in SBUF."""
    if step.kind == "whole":
        return int32
    return uint8 if step.name in _TRUTHS else float32


def _written(
    k: KernelContext, step: Step, found: list[NkiTensor], dst: NkiTensor, shape: tuple[int, int]
) -> NkiTensor:
    """Write one step and return the tile that holds its result, `dst` where possible."""
    inputs: list[Any] = [found[i.index] if isinstance(i, Term) else i for i in step.inputs]
    if step.kind == "alu":
        _alu(dst, step.name, *inputs)
    elif step.kind == "call":
        nisa.activation(dst, step.name, inputs[0])
    elif step.kind == "reciprocal":
        nisa.reciprocal(dst, inputs[0])
    else:
        if dst.dtype != _between(step):
            dst = k.sbuf(shape, _between(step))
        _copied(k, step.kind, dst, inputs)
    return dst


def _alu(dst: NkiTensor, op: str, left: Any, right: Any) -> None:
    if not isinstance(right, NkiTensor):
        nisa.tensor_scalar(dst, left, op, float(right))
    elif not isinstance(left, NkiTensor):
        nisa.tensor_scalar(dst, right, op, float(left), True)
    else:
        nisa.tensor_tensor(dst, left, right, op)


def _copied(k: KernelContext, kind: str, dst: NkiTensor, inputs: list[Any]) -> None:
    if kind == "whole":
        nisa.tensor_copy(dst, inputs[0], engine="vector")
        return
    condition, chosen, other = inputs
    if isinstance(other, NkiTensor):
        nisa.tensor_copy(dst, other, engine="vector")
    else:
        nisa.memset(dst, float(other))
    if isinstance(chosen, NkiTensor) and chosen.dtype != dst.dtype:
        wide = k.sbuf(tuple(dst.shape), dst.dtype)
        nisa.tensor_copy(wide, chosen, engine="vector")
        chosen = wide
    nisa.tensor_copy_predicated(dst, chosen, condition)

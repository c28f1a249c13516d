"""Elementwise operators of two operands of one shape, and select."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import elementwise
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.isa.vector_engine import INTEGERS_32
from emuron.numerics.backend import Comparison
from emuron.numerics.dtypes import bfloat16, bool_, float32, int32


def _require_same(x: TensorType, y: TensorType, names: tuple[str, str] = ("x", "y")) -> None:
    require(
        x == y,
        f"{names[0]} and {names[1]} must have one type, found {x} and {y}; "
        "insert a cast or a broadcast",
    )


@dataclass(frozen=True, slots=True)
class Binary(Op):
    """z = f(x, y) in float32 (integers too, as the Vector engine does), rounded once to x's dtype.

    Integers beyond 2**24 in magnitude lose their low bits, but in sums, differences and products.
    `alu` is the engines' operator.
    """

    alu: ClassVar[str | None] = None

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write one tensor_tensor, or tensor_scalar where an operand is one number."""
        if self.alu is None:
            Op.lower(self, k, inputs, outputs)
        else:
            elementwise.binary(k, inputs[0], inputs[1], self.alu, outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the common type of x and y."""
        require_operands(types, "x", "y")
        _require_same(types[0], types[1])
        return (types[0],)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return one float32 and one bfloat16 example."""
        types = (
            TensorType((3, 37), float32),
            TensorType((2, 5, 16), bfloat16),
        )
        return tuple(Example(cls(), (t, t), ((-2.0, 2.0), cls.second_range())) for t in types)

    @classmethod
    def second_range(cls) -> tuple[float, float]:
        """Return the range of the second operand in the examples."""
        return (-2.0, 2.0)


@dataclass(frozen=True, slots=True)
class Arithmetic(Binary):
    """An operator that GpSimd also has for int32 and uint32: exact, modulo 2**32."""

    alu: ClassVar[str] = ""

    def takes_storage(self, types: tuple[TensorType, ...]) -> bool:
        """Whether the operands are integers of 32 bits, which float32 would not hold."""
        return types[0].dtype in INTEGERS_32

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one operation of the back end, or of the host's integers."""
        b = ev.backend
        if not self.takes_storage(ev.types):
            return (getattr(b, self.alu)(*arrays),)
        exact = getattr(np, self.alu)(*(np.asarray(b.numpy(a)) for a in arrays))
        return (b.asarray(exact),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return real numbers, and integers beyond 24 bits."""
        whole = TensorType((5, 16), int32)
        large = Example(cls(), (whole, whole), ((-(2**30), 2**30), (-(2**30), 2**30)))
        return (*Binary.examples.__func__(cls), large)  # type: ignore[attr-defined]


@op("add")
@dataclass(frozen=True, slots=True)
class Add(Arithmetic):
    """z = x + y."""

    alu: ClassVar[str] = "add"


@op("sub")
@dataclass(frozen=True, slots=True)
class Sub(Arithmetic):
    """z = x - y."""

    alu: ClassVar[str] = "subtract"


@op("mul")
@dataclass(frozen=True, slots=True)
class Mul(Arithmetic):
    """z = x * y."""

    alu: ClassVar[str] = "multiply"


@op("max")
@dataclass(frozen=True, slots=True)
class Max(Binary):
    """z = the larger of x and y (NaN if either is)."""

    alu: ClassVar[str | None] = "maximum"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `maximum`."""
        return (ev.backend.maximum(*arrays),)


@op("min")
@dataclass(frozen=True, slots=True)
class Min(Binary):
    """z = the smaller of x and y (NaN if either is)."""

    alu: ClassVar[str | None] = "minimum"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `minimum`."""
        return (ev.backend.minimum(*arrays),)


@op("pow")
@dataclass(frozen=True, slots=True)
class Pow(Binary):
    """z = x to the power y; NaN for a negative x unless y is whole."""

    alu: ClassVar[str | None] = "power"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `power`."""
        return (ev.backend.power(*arrays),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return positive numbers to real powers."""
        t = TensorType((3, 37), float32)
        return (Example(cls(), (t, t), ((0.1, 3.0), (-2.0, 2.0))),)


@dataclass(frozen=True, slots=True)
class Relation(Op):
    """z = 1 where x and y compare so, else 0; NaN compares as in IEEE 754.

    Integers beyond 2**24 in magnitude are compared as the nearest float32.
    """

    alu: ClassVar[str] = ""

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write one comparison."""
        elementwise.binary(k, inputs[0], inputs[1], self.alu, outputs[0])

    relation: ClassVar[Comparison]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return bool_ of the common shape."""
        require_operands(types, "x", "y")
        _require_same(types[0], types[1])
        return (types[0].with_dtype(bool_),)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the back end's comparison as 0 and 1."""
        return (ev.backend.compare(self.relation, *arrays),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return floating-point numbers and small integers (which tie)."""
        floats, integers = TensorType((3, 37), float32), TensorType((5, 16), int32)
        return (
            Example(cls(), (floats, floats)),
            Example(cls(), (integers, integers), ((-2, 2), (-2, 2))),
        )


@op("eq")
@dataclass(frozen=True, slots=True)
class Equal(Relation):
    """z = x == y."""

    alu: ClassVar[str] = "equal"

    relation = "eq"


@op("ne")
@dataclass(frozen=True, slots=True)
class NotEqual(Relation):
    """z = x != y."""

    alu: ClassVar[str] = "not_equal"

    relation = "ne"


@op("lt")
@dataclass(frozen=True, slots=True)
class Less(Relation):
    """z = x < y."""

    alu: ClassVar[str] = "less"

    relation = "lt"


@op("le")
@dataclass(frozen=True, slots=True)
class LessEqual(Relation):
    """z = x <= y."""

    alu: ClassVar[str] = "less_equal"

    relation = "le"


@op("gt")
@dataclass(frozen=True, slots=True)
class Greater(Relation):
    """z = x > y."""

    alu: ClassVar[str] = "greater"

    relation = "gt"


@op("ge")
@dataclass(frozen=True, slots=True)
class GreaterEqual(Relation):
    """z = x >= y."""

    alu: ClassVar[str] = "greater_equal"

    relation = "ge"


@op("select")
@dataclass(frozen=True, slots=True)
class Select(Op):
    """z = x where condition holds, else y, unchanged; condition is bool_ of the same shape."""

    moves_storage: ClassVar[bool] = True

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write a copy of y and a predicated copy of x over it."""
        condition, x, y = inputs
        elementwise.select(k, condition, x, y, outputs[0])

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the common type of x and y."""
        require_operands(types, "condition", "x", "y")
        condition, x, y = types
        _require_same(x, y)
        require(condition == x.with_dtype(bool_), f"condition must be {x.with_dtype(bool_)}")
        return (x,)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `where`."""
        return (ev.backend.where(*arrays),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a float32 and a bfloat16 example."""
        types = TensorType((3, 37), float32), TensorType((2, 5, 16), bfloat16)
        return tuple(Example(cls(), (t.with_dtype(bool_), t, t)) for t in types)

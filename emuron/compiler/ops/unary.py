"""Elementwise operators of one operand, computed in float32 and rounded once at the write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import elementwise
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require_float, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import bfloat16, float32, int32


@dataclass(frozen=True, slots=True)
class Unary(Op):
    """y has the type of x; `activation` names the Scalar engine's function that computes it.

    Where `integers` is set, x may be an integer, exact up to 2**24 in magnitude.
    """

    activation: ClassVar[str | None] = None
    integers: ClassVar[bool] = False

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write one activation."""
        if self.activation is None:
            Op.lower(self, k, inputs, outputs)
        else:
            elementwise.activation(k, inputs[0], outputs[0], self.activation)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the type of x, which must be floating point, or also an integer."""
        require_operands(types, "x")
        if not (self.integers and types[0].dtype.is_integer):
            require_float(types[0], "x")
        return (types[0],)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return one float32 and one bfloat16 example of values in -2..2."""
        types = [TensorType((3, 37), float32), TensorType((2, 5, 16), bfloat16)]
        if cls.integers:
            types.append(TensorType((5, 16), int32))
        return tuple(Example(cls(), (t,), (cls.example_range(),)) for t in types)

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return the range of values in which the function is tested."""
        return (-2.0, 2.0)


@dataclass(frozen=True, slots=True)
class PositiveUnary(Unary):
    """A function tested on positive numbers alone."""

    @classmethod
    def example_range(cls) -> tuple[float, float]:
        """Return the range of values in which the function is tested."""
        return (0.05, 4.0)


@op("exp")
@dataclass(frozen=True, slots=True)
class Exp(Unary):
    """y = e to the power x."""

    activation: ClassVar[str | None] = "exp"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `exp`."""
        return (ev.backend.exp(arrays[0]),)


@op("erf")
@dataclass(frozen=True, slots=True)
class Erf(Unary):
    """y = the error function of x."""

    activation: ClassVar[str | None] = "erf"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `erf`."""
        return (ev.backend.erf(arrays[0]),)


@op("tanh")
@dataclass(frozen=True, slots=True)
class Tanh(Unary):
    """y = the hyperbolic tangent of x."""

    activation: ClassVar[str | None] = "tanh"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `tanh`."""
        return (ev.backend.tanh(arrays[0]),)


@op("sigmoid")
@dataclass(frozen=True, slots=True)
class Sigmoid(Unary):
    """y = 1 / (1 + exp(-x))."""

    activation: ClassVar[str | None] = "sigmoid"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `sigmoid`."""
        return (ev.backend.sigmoid(arrays[0]),)


@op("sqrt")
@dataclass(frozen=True, slots=True)
class Sqrt(PositiveUnary):
    """y = the square root of x."""

    activation: ClassVar[str | None] = "sqrt"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `sqrt`."""
        return (ev.backend.sqrt(arrays[0]),)


@op("rsqrt")
@dataclass(frozen=True, slots=True)
class Rsqrt(PositiveUnary):
    """y = 1 / sqrt(x)."""

    activation: ClassVar[str | None] = "rsqrt"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `rsqrt`."""
        return (ev.backend.rsqrt(arrays[0]),)


@op("log")
@dataclass(frozen=True, slots=True)
class Log(PositiveUnary):
    """y = the natural logarithm of x."""

    activation: ClassVar[str | None] = "log"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `log`."""
        return (ev.backend.log(arrays[0]),)


@op("abs")
@dataclass(frozen=True, slots=True)
class Abs(Unary):
    """y = the magnitude of x."""

    activation: ClassVar[str | None] = "abs"
    integers: ClassVar[bool] = True

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `abs`."""
        return (ev.backend.abs(arrays[0]),)


@op("sign")
@dataclass(frozen=True, slots=True)
class Sign(Unary):
    """y = -1, 0 or 1, the sign of x; NaN for NaN."""

    activation: ClassVar[str | None] = "sign"
    integers: ClassVar[bool] = True

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `sign`."""
        return (ev.backend.sign(arrays[0]),)


@op("reciprocal")
@dataclass(frozen=True, slots=True)
class Reciprocal(PositiveUnary):
    """y = 1 / x."""

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write the Vector engine's reciprocal, the more accurate one."""
        elementwise.reciprocal(k, inputs[0], outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `reciprocal`."""
        return (ev.backend.reciprocal(arrays[0]),)


@op("neg")
@dataclass(frozen=True, slots=True)
class Neg(Unary):
    """y = -x."""

    integers: ClassVar[bool] = True

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Multiply by -1, which is exact."""
        elementwise.scalar(k, inputs[0], "multiply", -1.0, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `negative`."""
        return (ev.backend.negative(arrays[0]),)


@op("relu")
@dataclass(frozen=True, slots=True)
class Relu(Unary):
    """y = max(x, 0)."""

    activation: ClassVar[str | None] = "relu"
    integers: ClassVar[bool] = True

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `maximum`."""
        return (ev.backend.maximum(arrays[0], 0.0),)


@op("silu")
@dataclass(frozen=True, slots=True)
class Silu(Unary):
    """y = x * sigmoid(x), in this order, float32 throughout."""

    activation: ClassVar[str | None] = "silu"

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return x * sigmoid(x)."""
        return (ev.backend.multiply(arrays[0], ev.backend.sigmoid(arrays[0])),)

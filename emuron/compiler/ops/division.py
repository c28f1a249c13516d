"""Division of real numbers and integers, and its remainders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emuron.compiler.graph import Array, TensorType
from emuron.compiler.kernels import elementwise
from emuron.compiler.kernels import formula as formulas
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.formula import Term, where
from emuron.compiler.ops.binary import Binary
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bfloat16, float32, int32

_REALS = TensorType((3, 37), float32), TensorType((2, 5, 16), bfloat16)


def _remainder(x: Term, y: Term) -> Term:
    """Return the remainder of integers with the sign of x: the quotient may be off by one."""
    a, b = x.call("abs"), y.call("abs")
    left = a - (a * b.reciprocal()).whole() * b
    left = where(left < 0.0, left + b, left)
    left = where(left < b, left, left - b)
    return where(y.equals(0.0), x, left * x.call("sign"))


def _modulus(x: Term, y: Term) -> Term:
    """Return the remainder of integers with the sign of y."""
    left = _remainder(x, y)
    return where(left * y < 0.0, left + y, left)


def _quotient(x: Term, y: Term) -> Term:
    """Return the quotient of integers without its fraction, by the remainder, exactly."""
    return (x - _remainder(x, y)).alu("divide", y)


def _c_remainder(ev: EvalContext, x: Array, y: Array) -> Array:
    b = ev.backend
    left = b.fmod(x, y)
    if ev.types[0].dtype.is_integer:
        left = b.where(b.compare("eq", y, 0.0), x, left)
    return left


@op("div")
@dataclass(frozen=True, slots=True)
class Division(Binary):
    """z = x / y: of real numbers x * (1 / y), which is cheaper, or with `exact` the
    nearest float32.

    Of integers the quotient without its fraction, exact up to 2**24; divided by 0 it gives 0.
    """

    exact: bool = False

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write a reciprocal and a product, one division, or the quotient of integers."""
        if outputs[0].dtype.is_integer:
            formulas.lower(k, _quotient, inputs, outputs[0])
        elif self.exact:
            elementwise.binary(k, inputs[0], inputs[1], "divide", outputs[0])
        else:
            elementwise.divide(k, inputs[0], inputs[1], outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the product with the back end's `reciprocal`, or the quotient of integers."""
        b = ev.backend
        x, y = arrays
        if ev.types[0].dtype.is_integer:
            return (b.divide(b.subtract(x, _c_remainder(ev, x, y)), y),)
        return (b.divide(x, y) if self.exact else b.multiply(x, b.reciprocal(y)),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return real numbers and integers of both signs."""
        whole = TensorType((5, 16), int32)
        return (
            *(Example(cls(), (t, t), ((-2.0, 2.0), (0.5, 2.0))) for t in _REALS),
            *(Example(cls(exact=True), (t, t), ((-2.0, 2.0), (0.5, 2.0))) for t in _REALS),
            Example(cls(), (whole, whole), ((-50, 50), (1, 7))),
        )


@dataclass(frozen=True, slots=True)
class _Rounded(Binary):
    """An operator on a quotient rounded to an integer; the kernel takes integers alone."""

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write the quotient, corrected by its remainder."""
        if not outputs[0].dtype.is_integer:
            raise UnsupportedOpError(f"{self.name} has a kernel for integers only")
        formulas.lower(k, self.integer_formula(), inputs, outputs[0])

    def integer_formula(self) -> Callable[..., Term]:
        """Return the formula for integers below 2**22 in magnitude."""
        raise NotImplementedError(f"{type(self).__name__}.integer_formula")

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return integers of both signs and real numbers."""
        whole, real = TensorType((5, 16), int32), TensorType((3, 37), float32)
        return (
            Example(cls(), (whole, whole), ((-50, 50), (1, 7))),
            Example(cls(), (whole, whole), ((-50, 50), (-7, -1))),
            Example(cls(), (real, real), ((-9.0, 9.0), (0.5, 2.0))),
        )


@op("rem")
@dataclass(frozen=True, slots=True)
class Remainder(_Rounded):
    """z = x - y * trunc(x / y), exact; it has the sign of x.

    An integer's remainder by 0 is the integer, a real one's NaN. Integers up to 2**24.
    """

    def integer_formula(self) -> Callable[..., Term]:
        """Return the remainder with the sign of x."""
        return _remainder

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `fmod`."""
        return (_c_remainder(ev, *arrays),)


@op("mod")
@dataclass(frozen=True, slots=True)
class Modulus(_Rounded):
    """z = x - y * floor(x / y); it has the sign of y, as Python's % does.

    An integer modulo 0 is the integer, a real one NaN. Integers up to 2**24.
    """

    def integer_formula(self) -> Callable[..., Term]:
        """Return the remainder with the sign of y."""
        return _modulus

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return `fmod`, moved to the sign of y."""
        return (floor_modulus(ev, *arrays),)


def floor_modulus(ev: EvalContext, x: Array, y: Array) -> Array:
    """Return the remainder with the sign of y."""
    b = ev.backend
    left = _c_remainder(ev, x, y)
    apart = b.compare("lt", b.multiply(b.sign(left), b.sign(y)), 0.0)
    return b.where(apart, b.add(left, y), left)


@op("floordiv")
@dataclass(frozen=True, slots=True)
class FloorDivision(_Rounded):
    """z = floor(x / y), by the exact remainder, as Python's // does.

    An integer divided by 0 gives 0, a real one NaN. Integers up to 2**24.
    """

    def integer_formula(self) -> Callable[..., Term]:
        """Return (x - x mod y) / y, which is exact."""
        return lambda x, y: (x - _modulus(x, y)).alu("divide", y)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the rounded quotient of what remains of x without its remainder."""
        b = ev.backend
        x, y = arrays
        quotient = b.divide(b.subtract(x, floor_modulus(ev, x, y)), y)
        if ev.types[0].dtype.is_integer:
            return (quotient,)
        return (b.floor(b.add(quotient, 0.5)),)

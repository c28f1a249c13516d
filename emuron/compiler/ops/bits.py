"""Operators on the bits of integers and truths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import bits
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_integer, require_operands
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import DType, bool_, dtype, int32, uint8


def _as_bits(of: DType, unsigned: bool = False) -> DType:
    """Return the integer type in which the bits of a type are worked on."""
    if of == bool_:
        return uint8
    return dtype(f"uint{8 * of.itemsize}") if unsigned else of


@dataclass(frozen=True, slots=True)
class _Bitwise(Op):
    """z = x op y, bit by bit; of bool_ the logical operator."""

    moves_storage: ClassVar[bool] = True
    alu: ClassVar[str] = ""

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the common type, integer or bool_."""
        require_operands(types, "x", "y")
        x, y = types
        require(x == y, f"x and y must have one type, found {x} and {y}")
        require(x.dtype.is_integer or x.dtype == bool_, f"takes integers or bool_, found {x}")
        return (x,)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write one bit-vector instruction."""
        bits.bitwise(k, self.alu, _as_bits(outputs[0].dtype), inputs, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end operation on the stored bits."""
        return (getattr(ev.backend, self.alu)(*arrays),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return integers and truths."""
        whole, truth = TensorType((5, 16), int32), TensorType((3, 37), bool_)
        return (
            Example(cls(), (whole, whole), ((-1000, 1000), (-1000, 1000))),
            Example(cls(), (truth, truth)),
        )


@op("and")
@dataclass(frozen=True, slots=True)
class And(_Bitwise):
    """z = x & y."""

    alu: ClassVar[str] = "bitwise_and"


@op("or")
@dataclass(frozen=True, slots=True)
class Or(_Bitwise):
    """z = x | y."""

    alu: ClassVar[str] = "bitwise_or"


@op("xor")
@dataclass(frozen=True, slots=True)
class Xor(_Bitwise):
    """z = x ^ y."""

    alu: ClassVar[str] = "bitwise_xor"


@op("bitwise_not")
@dataclass(frozen=True, slots=True)
class BitwiseNot(Op):
    """y = ~x of integers: every bit turned. Of truths use logical_not."""

    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type."""
        require_operands(types, "x")
        require_integer(types[0], "x")
        return (types[0],)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write one bit-vector instruction."""
        bits.bitwise(k, "invert", outputs[0].dtype, inputs, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `invert`."""
        return (ev.backend.invert(arrays[0]),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return signed and unsigned integers."""
        signed, narrow = TensorType((5, 16), int32), TensorType((3, 7), uint8)
        return (
            Example(cls(), (signed,), ((-1000, 1000),)),
            Example(cls(), (narrow,), ((0, 255),)),
        )


@dataclass(frozen=True, slots=True)
class _Shift(_Bitwise):
    """A shift of integers; the amount, y, is not negative."""

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the common integer type."""
        (common,) = _Bitwise.infer(self, *types)
        require_integer(common, "x")
        return (common,)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return signed and unsigned integers."""
        signed, narrow = TensorType((5, 16), int32), TensorType((3, 7), uint8)
        return (
            Example(cls(), (signed, signed), ((-1000, 1000), (0, 12))),
            Example(cls(), (narrow, narrow), ((0, 255), (0, 9))),
        )


@op("shl")
@dataclass(frozen=True, slots=True)
class ShiftLeft(_Shift):
    """z = x << y; bits that leave are lost, so that 0 is left from the width of the type on."""

    alu: ClassVar[str] = "left_shift"


@op("shr")
@dataclass(frozen=True, slots=True)
class ShiftRight(_Shift):
    """z = x >> y: copies of the sign come in, or zeros if `logical` or x is unsigned."""

    logical: bool = False
    alu: ClassVar[str] = "right_shift"

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Write one bit-vector instruction, or an arithmetic shift in four."""
        stored = outputs[0].dtype
        if stored.kind == "int" and not self.logical:
            bits.shift_with_sign(k, inputs[0], inputs[1], outputs[0])
        else:
            seen_as = _as_bits(stored, unsigned=True)
            bits.bitwise(k, self.alu, seen_as, inputs, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return one back-end `right_shift` of the bits."""
        b, stored = ev.backend, ev.types[0].dtype
        seen_as = _as_bits(stored, self.logical)
        shifted = b.right_shift(*(b.view_bits(a, seen_as) for a in arrays))
        return (b.view_bits(shifted, stored),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return both kinds."""
        signed = TensorType((5, 16), int32)
        logical = Example(cls(logical=True), (signed, signed), ((-1000, 1000), (0, 12)))
        return (*_Shift.examples.__func__(cls), logical)  # type: ignore[attr-defined]


@op("bitcast")
@dataclass(frozen=True, slots=True)
class Bitcast(Op):
    """y = the bytes of x as elements of another dtype.

    Where its size differs, a last dimension of y counts the parts of an element of x, or the last
    dimension of x is spent on the parts of an element of y.
    """

    dtype: DType
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the new type; raises where x's last dimension is not the parts of an element."""
        require_operands(types, "x")
        x = types[0]
        old, new = x.dtype.itemsize, self.dtype.itemsize
        if old == new:
            return (x.with_dtype(self.dtype),)
        if old > new:
            return (TensorType((*x.shape, old // new), self.dtype),)
        require(
            x.rank > 0 and x.shape[-1] == new // old,
            f"{x} becomes {self.dtype} only with a last dimension of {new // old}",
        )
        return (TensorType(x.shape[:-1], self.dtype),)

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Copy the bytes."""
        bits.bitcast(k, inputs[0], outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the same bytes, seen otherwise."""
        b, x = ev.backend, ev.types[0]
        parts = max(1, x.dtype.itemsize // self.dtype.itemsize)
        rows = b.reshape(arrays[0], (x.elements, 1) if parts > 1 else x.shape or (1,))
        dense = b.empty(tuple(rows.shape), x.dtype)
        b.copyto(dense, rows)
        (y,) = self.infer(x)
        return (b.reshape(b.view_bits(dense, self.dtype), y.shape),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return equal, smaller and larger elements."""
        x, whole = TensorType((3, 8), dtype("float32")), TensorType((3, 8), int32)
        return (
            Example(cls(int32), (x,)),
            Example(cls(uint8), (whole,), ((-1000, 1000),)),
            Example(cls(int32), (TensorType((3, 4), uint8),), ((0, 255),)),
        )

"""Matrix products: operands on the auto-cast grid, float32 products, K in chunks of 128."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import linear
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.linear import Epilogue, LinearPacking
from emuron.compiler.ops.arguments import (
    require,
    require_eight_bits,
    require_float,
    require_operands,
    require_shape,
)
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType, bfloat16, float8_e4m3, float32, int8


@op("linear")
@dataclass(frozen=True, slots=True)
class Linear(Op):
    """y[..., o] = sum over i of x[..., i] * weight[o, i], plus bias[o] if there is one.

    x and weight are rounded to the auto-cast dtype; products and sums are float32, K added in
    chunks of 128 in order; the float32 bias is added last; one rounding, to x's dtype.

    With `scaled` the operands are x, weight, scale and maybe bias: weight is stored in 8 bits,
    int8 or a float, and the sum over i is multiplied by the float32 scale[o] before the bias is
    added. An 8-bit weight enters the product as it is, or as x's dtype holds it: without rounding,
    except int8 where x is read in 8 bits.
    """

    contracts: ClassVar[tuple[int, ...]] = (0, 1)

    scaled: bool = False

    def attributes(self) -> dict[str, object]:
        """Return `scaled` where it is set."""
        return {"scaled": True} if self.scaled else {}

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type with the last dimension replaced by weight's first."""
        fewest = 3 if self.scaled else 2
        names = "x, weight, scale" if self.scaled else "x, weight"
        require(
            len(types) in (fewest, fewest + 1),
            f"takes {names} and maybe bias, found {len(types)} operands",
        )
        x, weight = types[:2]
        require_float(x, "x")
        if self.scaled:
            require_eight_bits(weight, "weight")
            require(types[2].dtype == float32, f"scale must be float32, found {types[2]}")
        else:
            require_float(weight, "weight")
        require(
            x.rank >= 1 and weight.rank == 2 and weight.shape[1] == x.shape[-1],
            f"weight ({weight}) must be [outputs, inputs] with as many inputs as x ({x})",
        )
        lines = ("scale", "bias") if self.scaled else ("bias",)
        for name, type in zip(lines, types[2:], strict=False):
            require_shape(type, (weight.shape[0],), name)
        return (x.with_shape(*x.shape[:-1], weight.shape[0]),)

    def flops(self, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...]) -> int:
        """Return a multiplication and an addition for each product."""
        return 2 * outputs[0].elements * inputs[0].shape[-1]

    def packing(
        self, operand: int, types: tuple[TensorType, ...], dtype: DType
    ) -> LinearPacking | None:
        """Return the layout of the weight that lets one DMA bring a group of outputs."""
        outputs, inputs = types[1].shape
        return LinearPacking(outputs, inputs, dtype.itemsize) if operand == 1 else None

    def weight_order(self, operand: int, rank: int) -> tuple[int, ...] | None:
        """Return column by column, as the product x @ weight.T reads the weight."""
        return (1, 0) if operand == 1 else None

    def lower(
        self,
        k: KernelContext,
        inputs: tuple[Placed, ...],
        outputs: tuple[Placed, ...],
        epilogue: Op | None = None,
        added: Placed | None = None,
    ) -> None:
        """Stream the weight against the rows.

        The sum with `added` and the activation `epilogue` join the write.
        """
        x, weight, *lines = inputs
        scale = lines.pop(0) if self.scaled else None
        bias = lines[0] if lines else None
        function = getattr(epilogue, "activation", None)
        packing = LinearPacking(outputs[0].shape[-1], x.shape[-1], weight.dtype.itemsize)
        if weight.shape != packing.shape:
            raise UnsupportedOpError("linear has a kernel only where its weight is a parameter")
        linear.linear(k, x, weight, packing, outputs[0], Epilogue(bias, added, function, scale))

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return matmul_chunked(x, weight transposed) · scale + bias."""
        b = ev.backend
        x, weight, *lines = arrays
        if self.scaled and ev.types[1].dtype == int8:
            weight = self._as_x(ev, weight)
        rows = b.reshape(x, (-1, x.shape[-1]))
        exact = ev.exact_products(0, 1)
        y = b.matmul_chunked(rows, b.transpose(weight, (1, 0)), exact=exact)
        if self.scaled:
            y = b.multiply(y, lines.pop(0))
        if lines:
            y = b.add(y, lines[0])
        return (b.reshape(y, (*x.shape[:-1], weight.shape[0])),)

    def _as_x(self, ev: EvalContext, weight: Array) -> Array:
        """Return int8 numbers as x's dtype holds them: only 8 bits of it would round them."""
        narrow = ev.cast.operand(ev.types[0].dtype).itemsize == 1
        return ev.operand_like(weight, 0) if narrow else weight

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return with and without bias, K below and above one chunk, one row, bfloat16, scaled."""

        def types(rows: tuple[int, ...], k: int, n: int, t: str) -> tuple[TensorType, ...]:
            x, w = TensorType((*rows, k), float32), TensorType((n, k), float32)
            return x.with_dtype(t), w.with_dtype(t), TensorType((n,), float32).with_dtype(t)

        def scaled(given: tuple[TensorType, ...], stored: DType) -> tuple[TensorType, ...]:
            x, w, bias = given
            return x, w.with_dtype(stored), bias.with_dtype(float32), bias

        wide = ((-2.0, 2.0), (-127.0, 127.0), (0.001, 0.02), (-2.0, 2.0))
        return (
            Example(cls(), types((2, 3), 40, 24, "float32")),
            Example(cls(), types((5,), 300, 16, "bfloat16")),
            Example(cls(), types((1,), 257, 8, "float32")[:2]),
            Example(cls(scaled=True), scaled(types((3,), 140, 24, "float32"), int8), wide),
            Example(cls(scaled=True), scaled(types((1,), 9, 5, "bfloat16"), int8)[:3], wide[:3]),
            Example(cls(scaled=True), scaled(types((2, 3), 40, 24, "bfloat16"), float8_e4m3)),
        )


@op("matmul")
@dataclass(frozen=True, slots=True)
class MatMul(Op):
    """z[..., m, n] = sum over k of x[..., m, k] * y[..., k, n]; leading dimensions agree.

    Rounding and order of additions are those of `linear`.
    """

    contracts: ClassVar[tuple[int, ...]] = (0, 1)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the product's type, in x's dtype."""
        require_operands(types, "x", "y")
        x, y = types
        require_float(x, "x")
        require_float(y, "y")
        require(
            x.rank >= 2
            and x.rank == y.rank
            and x.shape[:-2] == y.shape[:-2]
            and x.shape[-1] == y.shape[-2],
            f"x ({x}) and y ({y}) must be [..., M, K] and [..., K, N] with equal leading sizes",
        )
        return (x.with_shape(*x.shape[:-1], y.shape[-1]),)

    def flops(self, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...]) -> int:
        """Return a multiplication and an addition for each product."""
        return 2 * outputs[0].elements * inputs[0].shape[-1]

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Multiply matrix by matrix."""
        dtype = k.operand(inputs[0].dtype)
        linear.matmul(k, inputs[0], inputs[1], outputs[0], dtype)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return matmul_chunked(x, y)."""
        return (ev.backend.matmul_chunked(*arrays, exact=ev.exact_products(0, 1)),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a plain and a batched product."""
        return (
            Example(cls(), (TensorType((6, 200), float32), TensorType((200, 5), float32))),
            Example(
                cls(), (TensorType((2, 3, 4, 16), bfloat16), TensorType((2, 3, 16, 7), bfloat16))
            ),
        )

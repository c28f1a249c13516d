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
    require_float,
    require_operands,
    require_shape,
)
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType, bfloat16, float32


@op("linear")
@dataclass(frozen=True, slots=True)
class Linear(Op):
    """y[..., o] = sum over i of x[..., i] * weight[o, i], plus bias[o] if there is one.

    x and weight are rounded to the auto-cast dtype; products and sums are float32, K added in
    chunks of 128 in order; the float32 bias is added last; one rounding, to x's dtype.
    """

    contracts: ClassVar[tuple[int, ...]] = (0, 1)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type with the last dimension replaced by weight's first."""
        require(
            len(types) in (2, 3), f"takes x, weight and maybe bias, found {len(types)} operands"
        )
        x, weight = types[:2]
        require_float(x, "x")
        require_float(weight, "weight")
        require(
            x.rank >= 1 and weight.rank == 2 and weight.shape[1] == x.shape[-1],
            f"weight ({weight}) must be [outputs, inputs] with as many inputs as x ({x})",
        )
        if len(types) == 3:
            require_shape(types[2], (weight.shape[0],), "bias")
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
        x, weight = inputs[:2]
        bias = inputs[2] if len(inputs) == 3 else None
        function = getattr(epilogue, "activation", None)
        packing = LinearPacking(outputs[0].shape[-1], x.shape[-1], weight.dtype.itemsize)
        if weight.shape != packing.shape:
            raise UnsupportedOpError("linear has a kernel only where its weight is a parameter")
        linear.linear(k, x, weight, packing, outputs[0], Epilogue(bias, added, function))

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return matmul_chunked(x, weight transposed) + bias."""
        b = ev.backend
        x, weight = arrays[:2]
        rows = b.reshape(x, (-1, x.shape[-1]))
        exact = ev.exact_products(0, 1)
        y = b.matmul_chunked(rows, b.transpose(weight, (1, 0)), exact=exact)
        if len(arrays) == 3:
            y = b.add(y, arrays[2])
        return (b.reshape(y, (*x.shape[:-1], weight.shape[0])),)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return with and without bias, K below and above one chunk, one row, bfloat16."""

        def types(rows: tuple[int, ...], k: int, n: int, t: str) -> tuple[TensorType, ...]:
            x, w = TensorType((*rows, k), float32), TensorType((n, k), float32)
            return x.with_dtype(t), w.with_dtype(t), TensorType((n,), float32).with_dtype(t)

        return (
            Example(cls(), types((2, 3), 40, 24, "float32")),
            Example(cls(), types((5,), 300, 16, "bfloat16")),
            Example(cls(), types((1,), 257, 8, "float32")[:2]),
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

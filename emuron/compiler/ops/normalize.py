"""Layer and RMS normalisation over the last dimension."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import folding, normalize
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_float, require_shape
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.isa.normalization import mean_and_variance
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import float32

BN_STATS_MOST_ELEMENTS = 512
"""Longest row that bn_stats takes (NKI: nl.tile_size.bn_stats_fmax)."""


def chunk_size(n: int) -> int:
    """Return the length of the fewest equal chunks of at most 512 that cover n."""
    return -(-n // -(-n // BN_STATS_MOST_ELEMENTS))


@dataclass(frozen=True, slots=True)
class _Normalization(Op):
    epsilon: float = 1e-5

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return x's type; weight and bias span the last dimension."""
        most = 1 + len(self.operand_names())
        require(
            1 <= len(types) <= most,
            f"takes x and at most {', '.join(self.operand_names())}; found {len(types)} operands",
        )
        x = types[0]
        require_float(x, "x")
        require(x.rank >= 1 and x.shape[-1] > 0, f"x must have a last dimension, found {x}")
        for name, t in zip(self.operand_names(), types[1:], strict=False):
            require_shape(t, x.shape[-1:], name)
        return (x,)

    @classmethod
    def operand_names(cls) -> tuple[str, ...]:
        """Return the names of the operands after x."""
        return ("weight",)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return rows of one chunk, of two, of an odd number, in float32 and bfloat16."""

        def types(shape: tuple[int, ...], t: str, operands: int) -> tuple[TensorType, ...]:
            x = TensorType(shape, float32).with_dtype(t)
            return (x, *[x.with_shape(shape[-1])] * operands)

        most = len(cls.operand_names())
        return (
            Example(cls(1e-5), types((2, 3, 48), "float32", most)),
            Example(cls(1e-12), types((4, 768), "bfloat16", most)),
            Example(cls(1e-6), types((3, 1027), "float32", 1)),
            Example(cls(1e-6), types((2, 7), "float32", 0)),
        )


@op("layer_norm")
@dataclass(frozen=True, slots=True)
class LayerNorm(_Normalization):
    """y = (x - mean) / sqrt(variance + epsilon) * weight + bias over the last dimension.

    float32 throughout: mean and variance by the Vector engine's bn_stats over the fewest equal
    chunks of at most 512, then bn_aggr (`emuron.isa.normalization`);
    r = rsqrt(variance + epsilon);  y = (x - mean) * r;  then * weight, then + bias; one rounding.
    """

    @classmethod
    def operand_names(cls) -> tuple[str, ...]:
        """Return the names of the operands after x."""
        return ("weight", "bias")

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Normalise row tile by row tile; weight and bias are spread over the partitions once."""
        operands = [*inputs[1:], None, None]
        n = inputs[0].shape[-1]
        normalize.layer_norm(
            k, inputs[0], operands[0], operands[1], outputs[0], self.epsilon, chunk_size(n)
        )

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the normalised rows."""
        b = ev.backend
        x = arrays[0]
        rows = b.reshape(x, (-1, x.shape[-1]))
        mean, variance = mean_and_variance(b, rows, chunk_size(rows.shape[1]))
        r = b.rsqrt(b.add(variance, self.epsilon))
        y = b.multiply(b.subtract(rows, mean), r)
        if len(arrays) > 1:
            y = b.multiply(y, arrays[1])
        if len(arrays) > 2:
            y = b.add(y, arrays[2])
        return (b.reshape(y, tuple(x.shape)),)


def _sum_of_squares(b: Backend, x: Array) -> Array:
    rows, columns = folding.matrix_of(tuple(x.shape))
    squares = b.multiply(x, x)
    if not folding.folds(rows, columns):
        return b.sum(squares, axis=-1, keepdims=True)
    blocks = columns // folding.WIDTH
    partial = b.sum(b.reshape(squares, (rows, blocks, folding.WIDTH)), axis=-1, keepdims=False)
    ones = b.full((blocks, 1), 1.0, float32)
    return b.reshape(b.matmul_chunked(partial, ones), (*x.shape[:-1], 1))


@op("rms_norm")
@dataclass(frozen=True, slots=True)
class RmsNorm(_Normalization):
    """y = x / sqrt(mean(x * x) + epsilon) * weight over the last dimension.

    float32 throughout: s = sum(x * x) of the row;  r = rsqrt(s * (1 / n) + epsilon);
    y = (x * r) * weight; one rounding. Of few wide rows (`kernels.folding`) s is the sum, as a
    product with ones, of the sums of each 128 columns.
    """

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Normalise row tile by row tile."""
        weight = inputs[1] if len(inputs) > 1 else None
        normalize.rms_norm(k, inputs[0], weight, outputs[0], self.epsilon)

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the scaled rows."""
        b = ev.backend
        x = arrays[0]
        s = _sum_of_squares(b, x)
        r = b.rsqrt(b.add(b.multiply(s, 1.0 / x.shape[-1]), self.epsilon))
        y = b.multiply(x, r)
        if len(arrays) > 1:
            y = b.multiply(y, arrays[1])
        return (y,)

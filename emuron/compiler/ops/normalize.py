"""Layer and RMS normalisation, with the Vector engine's bn_stats and bn_aggr arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import normalize
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require, require_float, require_shape
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import float32

BN_STATS_MOST_ELEMENTS = 512
"""Longest row that bn_stats takes (NKI: nl.tile_size.bn_stats_fmax)."""


def chunk_size(n: int) -> int:
    """Return the length of the fewest equal chunks of at most 512 that cover n."""
    return -(-n // -(-n // BN_STATS_MOST_ELEMENTS))


def bn_stats(b: Backend, data: Array) -> tuple[Array, ...]:
    """Return count, mean and squares of the even, then of the odd elements of [rows, n].

    For each parity: mean = sum(x) / count;  squares = sum((x - mean) * (x - mean)), float32
    [rows, 1] each. Without odd elements (n = 1) their three are 0.
    """
    columns: list[Array] = []
    for parity in (0, 1):
        x = data[:, parity::2]
        shape = (x.shape[0], 1)
        count = x.shape[1]
        if count == 0:
            columns += [b.full(shape, 0.0, float32)] * 3
            continue
        mean = b.divide(b.sum(x, axis=-1, keepdims=True), float(count))
        away = b.subtract(x, mean)
        squares = b.sum(b.multiply(away, away), axis=-1, keepdims=True)
        columns += [b.full(shape, float(count), float32), mean, squares]
    return tuple(columns)


def bn_aggr(b: Backend, columns: Sequence[Array]) -> tuple[Array, Array]:
    """Return mean and population variance [rows, 1] of (count, mean, squares) triples.

    With c, m, q the rows of counts, means and squares, and row sums in the back end's order:
    N = sum(c);  mean = sum(c * m) / N;  a = m - mean;
    variance = (sum(q) + sum((a * a) * c)) / N.
    """
    counts, means, squares = (b.concatenate(columns[i::3], 1) for i in range(3))

    def total(x: Array) -> Array:
        return b.sum(x, axis=-1, keepdims=True)

    n = total(counts)
    mean = b.divide(total(b.multiply(counts, means)), n)
    away = b.subtract(means, mean)
    between = total(b.multiply(b.multiply(away, away), counts))
    return mean, b.divide(b.add(total(squares), between), n)


def mean_and_variance(b: Backend, rows: Array) -> tuple[Array, Array]:
    """Return mean and population variance [rows, 1] of float32 [rows, n], chunk by chunk."""
    size = chunk_size(rows.shape[1])
    chunks = range(0, rows.shape[1], size)
    return bn_aggr(b, [c for at in chunks for c in bn_stats(b, rows[:, at : at + size])])


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

    float32 throughout: mean and variance by bn_stats over chunks of at most 512 and bn_aggr;
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
        mean, variance = mean_and_variance(b, rows)
        r = b.rsqrt(b.add(variance, self.epsilon))
        y = b.multiply(b.subtract(rows, mean), r)
        if len(arrays) > 1:
            y = b.multiply(y, arrays[1])
        if len(arrays) > 2:
            y = b.add(y, arrays[2])
        return (b.reshape(y, tuple(x.shape)),)


@op("rms_norm")
@dataclass(frozen=True, slots=True)
class RmsNorm(_Normalization):
    """y = x / sqrt(mean(x * x) + epsilon) * weight over the last dimension.

    float32 throughout: s = sum(x * x) of the row;  r = rsqrt(s * (1 / n) + epsilon);
    y = (x * r) * weight; one rounding.
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
        s = b.sum(b.multiply(x, x), axis=-1, keepdims=True)
        r = b.rsqrt(b.add(b.multiply(s, 1.0 / x.shape[-1]), self.epsilon))
        y = b.multiply(x, r)
        if len(arrays) > 1:
            y = b.multiply(y, arrays[1])
        return (y,)

"""Layer and RMS normalisation, with the Vector engine's bn_stats and bn_aggr arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.ops.arguments import require, require_float, require_shape
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.backend import Backend
from emuron.numerics.dtypes import float32

BN_STATS_MOST_ELEMENTS = 512
"""Longest row that bn_stats takes (NKI: nl.tile_size.bn_stats_fmax)."""


def chunk_sizes(n: int) -> tuple[int, ...]:
    """Return the sizes of the fewest chunks of at most 512 that fill n, as equal as possible."""
    count = -(-n // BN_STATS_MOST_ELEMENTS)
    small, larger = divmod(n, count)
    return (small + 1,) * larger + (small,) * (count - larger)


def bn_stats(backend: Backend, data: Array) -> tuple[tuple[float, Array, Array], ...]:
    """Return (count, mean, variance * count) of the even and of the odd elements of [rows, n].

    For each parity, on a contiguous copy: mean = sum(x) / count;  q = sum((x - mean) * (x - mean)).
    mean and q are float32 [rows, 1]. Without odd elements (n = 1) there is no second triple.
    """
    triples = []
    for parity in (0, 1):
        x = backend.copy(data[:, parity::2])
        count = x.shape[1]
        if count == 0:
            continue
        mean = backend.divide(backend.sum(x, axis=-1, keepdims=True), float(count))
        delta = backend.subtract(x, mean)
        q = backend.sum(backend.multiply(delta, delta), axis=-1, keepdims=True)
        triples.append((float(count), mean, q))
    return tuple(triples)


def bn_aggr(
    backend: Backend, triples: tuple[tuple[float, Array, Array], ...]
) -> tuple[Array, Array]:
    """Return mean and population variance [rows, 1] of (count, mean, variance * count) triples.

    N = sum of counts;  mean = (c0*m0 + c1*m1 + ...) / N, added from the left;
    variance = (t0 + t1 + ...) / N, added from the left, with ti = qi + ci * ((mi - mean)**2).
    """
    total = sum(count for count, _, _ in triples)
    mean = None
    for count, m, _ in triples:
        part = backend.multiply(m, count)
        mean = part if mean is None else backend.add(mean, part)
    mean = backend.divide(mean, total)
    variance = None
    for count, m, q in triples:
        delta = backend.subtract(m, mean)
        part = backend.add(q, backend.multiply(backend.multiply(delta, delta), count))
        variance = part if variance is None else backend.add(variance, part)
    return mean, backend.divide(variance, total)


def mean_and_variance(backend: Backend, rows: Array) -> tuple[Array, Array]:
    """Return mean and population variance [rows, 1] of float32 [rows, n], chunk by chunk."""
    triples: list[tuple[float, Array, Array]] = []
    start = 0
    for size in chunk_sizes(rows.shape[1]):
        triples += bn_stats(backend, rows[:, start : start + size])
        start += size
    return bn_aggr(backend, tuple(triples))


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

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the scaled rows."""
        b = ev.backend
        x = ev.contiguous(arrays[0])
        s = b.sum(b.multiply(x, x), axis=-1, keepdims=True)
        r = b.rsqrt(b.add(b.multiply(s, 1.0 / x.shape[-1]), self.epsilon))
        y = b.multiply(x, r)
        if len(arrays) > 1:
            y = b.multiply(y, arrays[1])
        return (y,)

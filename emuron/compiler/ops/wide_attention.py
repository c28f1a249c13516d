"""Attention whose heads are wider than the partitions, as products and a softmax in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops.attention import (
    FULLY_MASKED_FLOOR,
    MASKED_SCORE,
    SMALLEST_SUM,
    Attention,
)
from emuron.compiler.ops.composite import Composite
from emuron.compiler.ops.context import Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import bool_, float32, int32

if TYPE_CHECKING:
    from emuron.compiler.ops.builder import GraphBuilder

MOST_ROWS = 1024
"""Query rows whose shares are turned at once: 32 blocks of 128 keys of them, 64 KiB of bfloat16 in
each partition, leave room for the values."""

MOST_KEYS = 4096
"""Keys that a product takes at once: as many columns of keys of 6 blocks of 128 are 48 KiB."""


@op("wide_attention")
@dataclass(frozen=True, slots=True)
class WideAttention(Composite):
    """`attention` without window, cap and sinks, for heads of any size; scores lie in memory.

    exp(s − m)·v / Σ exp(s − m), as `attention` has it, but in products of MOST_KEYS keys that are
    added in order, and with sums of as many exponentials: the bits are not those of `attention`.
    """

    scale: float
    causal: bool = False
    masked: bool = False
    positioned: bool = False

    def decompose(self, b: GraphBuilder, *operands: Value) -> tuple[Value, ...]:
        """Return softmax(q·kᵀ·scale + mask)·v; hidden keys have a share of 0."""
        op = Attention(self.scale, self.causal, self.masked, self.positioned)
        op.infer(*(v.type for v in operands))
        q, k, v = operands[:3]
        heads, queries = q.shape[1:3]
        k, v = (self._for_heads(b, x, heads) for x in (k, v))
        scores = q.type.with_shape(*q.shape[:3], k.shape[2])
        hiding = [*self._seen(b, operands, scores), *self._bias(b, operands, scores)]
        parts = []
        for start in range(0, queries, MOST_ROWS):
            rows = start, min(queries, start + MOST_ROWS)
            part = [b.slice(x, 2, *rows) for x in (q, *hiding)]
            parts.append(self._rows(b, part[0], k, v, part[1:]))
        return (parts[0] if len(parts) == 1 else b.concat(parts, 2),)

    def _rows(self, b: GraphBuilder, q: Value, k: Value, v: Value, hiding: list[Value]) -> Value:
        """Return the attention of some query rows; `hiding` are truths and added scores."""
        keys = k.shape[2]
        spans = [(s, min(keys, s + MOST_KEYS)) for s in range(0, keys, MOST_KEYS)]
        scores = [self._scores(b, q, k, hiding, span) for span in spans]
        most = reduce(b.maximum, (b.reduce("max", s, (3,), keepdims=True) for s in scores))
        most = b.maximum(most, FULLY_MASKED_FLOOR)
        weights = [b.apply("exp", b.sub(s, most)) for s in scores]
        total = reduce(b.add, (b.reduce("sum", w, (3,), keepdims=True) for w in weights))
        values = (b.slice(v, 2, *span) for span in spans)
        product = reduce(b.add, (b.matmul(*pair) for pair in zip(weights, values, strict=True)))
        return b.div(product, b.maximum(total, SMALLEST_SUM))

    def _scores(
        self, b: GraphBuilder, q: Value, k: Value, hiding: list[Value], span: tuple[int, int]
    ) -> Value:
        """Return the scaled and masked scores of a span of keys."""
        scores = b.matmul(q, b.permute(b.slice(k, 2, *span), 0, 1, 3, 2))
        scores = b.mul(scores, self.scale)
        for hidden in (b.slice(x, 3, *span) for x in hiding):
            if hidden.type.dtype == bool_:
                scores = b.select(hidden, scores, MASKED_SCORE)
            else:
                scores = b.add(scores, hidden)
        return scores

    def _bias(
        self, b: GraphBuilder, operands: tuple[Value, ...], scores: TensorType
    ) -> list[Value]:
        """Return the mask that is added to the scores, in their shape."""
        if not self.masked or operands[3].type.dtype == bool_:
            return []
        bias = b.maximum(b.cast(operands[3], scores.dtype), MASKED_SCORE)
        return [b.broadcast(bias, scores.shape)]

    def _for_heads(self, b: GraphBuilder, x: Value, heads: int) -> Value:
        """Return keys or values once for each query head."""
        batch, own, length, size = x.shape
        if own == heads:
            return x
        spread = b.broadcast(
            b.reshape(x, batch, own, 1, length, size), (batch, own, heads // own, length, size)
        )
        return b.reshape(spread, batch, heads, length, size)

    def _seen(
        self, b: GraphBuilder, operands: tuple[Value, ...], scores: TensorType
    ) -> list[Value]:
        """Return the masks of truths, in the scores' shape."""
        queries, keys = scores.shape[2:]
        found = []
        if self.masked and operands[3].type.dtype == bool_:
            found.append(operands[3])
        places = b.iota((queries, keys), 1, int32)
        if self.causal:
            last = b.add(b.iota((queries, keys), 0, int32), keys - queries)
            found.append(b.compare("le", places, last))
        if self.positioned:
            last = b.reshape(operands[3 + self.masked], scores.shape[0], 1, queries, 1)
            found.append(b.compare("le", places, b.cast(last, int32)))
        return [b.broadcast(mask, scores.shape) for mask in found]

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return shared heads, causality and a mask."""
        q, k = TensorType((1, 2, 5, 136), float32), TensorType((1, 1, 7, 136), float32)
        mask = TensorType((1, 1, 1, 7), bool_)
        return (
            Example(cls(0.1), (q, k, k)),
            Example(cls(0.1, causal=True), (q, k, k)),
            Example(cls(0.1, masked=True), (q, k, k, mask)),
        )

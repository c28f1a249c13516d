"""Scaled dot-product attention, kept whole."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import attention as kernel
from emuron.compiler.kernels.attention_rules import AttentionRules, key_blocks
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import (
    require,
    require_float,
    require_integer,
    require_shape,
)
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.numerics.dtypes import bfloat16, bool_, float32, int32

MASKED_SCORE = -1e30
"""Score of a key that a query must not see; finite, and far below any real score."""

FULLY_MASKED_FLOOR = MASKED_SCORE / 2
"""A row maximum is not taken below this, so that the exponentials of a fully masked row are 0."""

SMALLEST_SUM = 2.0**-126
"""A row sum is not taken below this (the smallest normal float32), so that 0 / sum is 0."""

_SCORES_AT_ONCE = 1 << 18
"""Scores computed together: 1 MiB of float32 stays in a second-level cache (assumed)."""

_LEAST_ROWS = 128
"""Queries of a head computed together, however many keys there are."""


@op("attention")
@dataclass(frozen=True, slots=True)
class Attention(Op):
    """softmax(q kT * scale + mask) v for q [B, H, Q, D], k [B, Hk, K, D], v [B, Hk, K, Dv].

    Query head h reads key head h // (H / Hk). Optional operands, in this order: `masked`, a mask
    of shape [B|1, H|1, Q|1, K] (bool_: true may be seen; float: added to the scores);
    `positioned`, int32 [B, Q]: query i sees keys 0..positions[b, i]; `sinks`, float [H]: a score
    that takes part in the softmax and has no value. `causal`: query i sees keys 0..i + K - Q, its
    last one. With `window` a query sees only so many keys up to its last one. `softcap`: scores
    are at most so large. Per head, float32 unless said otherwise:

    s = chunked(q kT), operands on the auto-cast grid;  s = s * scale, or with a cap
    s = tanh(s * (scale / cap)) * cap;  s = s + mask (float mask);  hidden scores become -1e30;
    m = max(s, sink);  e = exp(s + (-m));  l = sums of e over blocks of 512 keys, added in order,
    plus exp(sink + (-m));  p = e rounded to the auto-cast dtype of v;  o = chunked(p v);
    y = o * (1 / l); one rounding, to q's dtype. With a mask or positions m is taken as at least
    -5e29 and l as at least 2**-126: a fully masked row gives 0. Blocks that causality or the
    window hide from all of a range of queries are left out.
    """

    scale: float
    causal: bool = False
    masked: bool = False
    positioned: bool = False
    window: int = 0
    softcap: float = 0.0
    sinks: bool = False
    contracts: ClassVar[tuple[int, ...]] = (0, 1, 2)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return [B, H, Q, Dv] in q's dtype."""
        count = 3 + self.masked + self.positioned + self.sinks
        require(len(types) == count, f"takes {count} operands, found {len(types)}")
        q, k, v = types[:3]
        for name, t in (("q", q), ("k", k), ("v", v)):
            require_float(t, name)
            require(t.rank == 4, f"{name} must be [batch, heads, sequence, head size], found {t}")
        batch, heads, queries, size = q.shape
        key_heads, keys = k.shape[1:3]
        require_shape(k, (batch, key_heads, keys, size), "k")
        require_shape(v, (batch, key_heads, keys, v.shape[3]), "v")
        require(
            key_heads > 0 and heads % key_heads == 0,
            f"{heads} query heads do not divide over {key_heads} key heads",
        )
        require(not self.causal or queries <= keys, "causal attention needs a key for each query")
        require(
            not (self.causal and self.positioned),
            "positions say what a query sees: causal does not go with them",
        )
        require(
            self.window >= 0 and (not self.window or self.causal or self.positioned),
            f"a window ({self.window}) counts back from the last key that causal or positions name",
        )
        require(self.softcap >= 0, f"softcap must not be negative, found {self.softcap}")
        self._infer_optional(types[3:], q, keys)
        return (q.with_shape(batch, heads, queries, v.shape[3]),)

    def _infer_optional(self, types: tuple[TensorType, ...], q: TensorType, keys: int) -> None:
        if self.masked:
            mask = types[0]
            require(
                mask.rank == 4
                and mask.shape[3] == keys
                and all(m in (1, n) for m, n in zip(mask.shape[:3], q.shape[:3], strict=True)),
                f"mask must stretch to {[*q.shape[:3], keys]}, found {mask}",
            )
            require(mask.dtype.kind in ("bool", "float"), f"mask is bool_ or float, found {mask}")
        if self.positioned:
            positions = types[self.masked]
            require_integer(positions, "positions")
            require_shape(positions, (q.shape[0], q.shape[2]), "positions")
        if self.sinks:
            require_float(types[-1], "sinks")
            require_shape(types[-1], (q.shape[1],), "sinks")

    def flops(self, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...]) -> int:
        """Return a multiplication and an addition for each product of both contractions."""
        q, k, v = inputs[:3]
        pairs = math.prod(q.shape[:3]) * k.shape[2]
        return 2 * pairs * (q.shape[3] + v.shape[3])

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Attend query tile by query tile."""
        rules = AttentionRules(
            self.scale,
            self.causal,
            self.window,
            self.softcap,
            MASKED_SCORE,
            FULLY_MASKED_FLOOR,
            SMALLEST_SUM,
            k.operand(inputs[2].dtype),
        )
        q, keys, values = inputs[:3]
        mask, positions, sinks = self._optional(inputs)
        kernel.attention(k, rules, q, keys, values, mask, positions, sinks, outputs[0])

    def _optional(self, operands: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        """Return mask, positions and sinks, None for those that are not given."""
        mask = operands[3] if self.masked else None
        positions = operands[3 + self.masked] if self.positioned else None
        return mask, positions, operands[-1] if self.sinks else None

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the steps of the class docstring, for as many heads at once as fit the cache."""
        q, k, v = arrays[:3]
        batch, heads, queries = q.shape[:3]
        share, keys = heads // k.shape[1], k.shape[2]
        rows = min(queries, max(_LEAST_ROWS, _SCORES_AT_ONCE // (share * keys)))
        step = max(1, _SCORES_AT_ONCE // (share * rows * keys))
        if batch * k.shape[1] <= step and rows == queries:
            return (self._attend(ev, arrays, self._seen(ev, arrays), slice(0, keys)),)
        out = ev.backend.empty((batch, heads, queries, v.shape[3]), float32)
        seen = self._seen(ev, arrays)
        for i, first, start in product(
            range(batch), range(0, k.shape[1], step), range(0, queries, rows)
        ):
            entry, own = slice(i, i + 1), slice(first * share, (first + step) * share)
            part = entry, slice(first, first + step), own, slice(start, start + rows)
            span = slice(0, keys)
            if self.causal:
                count = min(rows, queries - start)
                span = slice(*kernel.seen_keys((start, count), queries, keys, self.window))
            limits = seen if seen is None or seen.shape[0] == 1 else seen[entry]
            limits = limits if limits is None else limits[:, :, part[3]]
            out[entry, own, part[3]] = self._attend(
                ev, self._part(arrays, part, span), limits, span
            )
        return (out,)

    def _part(
        self, arrays: tuple[Array, ...], part: tuple[slice, slice, slice, slice], span: slice
    ) -> tuple[Array, ...]:
        """Return the operands of some heads and queries of one batch entry, for some keys."""
        entry, keys, own, rows = part
        q, k, v = arrays[:3]
        mask, positions, sinks = self._optional(arrays)
        found = [q[entry, own, rows], k[entry, keys, span], v[entry, keys, span]]
        if mask is not None:
            cuts = zip((entry, own, rows), mask.shape, strict=False)
            found.append(mask[(*(c if n > 1 else slice(None) for c, n in cuts), span)])
        if positions is not None:
            found.append(positions[entry])
        return (*found, *([] if sinks is None else [sinks[own]]))

    def _seen(self, ev: EvalContext, arrays: tuple[Array, ...]) -> Array | None:
        """Return the last key that each query sees, [B|1, 1, Q, 1], or None for all keys."""
        queries, keys = arrays[0].shape[2], arrays[1].shape[2]
        if self.positioned:
            positions = self._optional(arrays)[1]
            return ev.backend.reshape(positions, (positions.shape[0], 1, queries, 1))
        if not self.causal or (queries == 1 and not self.window):
            return None
        last = np.arange(queries, dtype=np.float32) + np.float32(keys - queries)
        return ev.backend.asarray(last.reshape(1, 1, queries, 1))

    def _attend(
        self, ev: EvalContext, arrays: tuple[Array, ...], last: Array | None, span: slice
    ) -> Array:
        b = ev.backend
        q, k, v = arrays[:3]
        batch, heads, queries, size = q.shape
        key_heads, keys = k.shape[1:3]
        rows = heads // key_heads * queries
        grouped = b.reshape(q, (batch, key_heads, rows, size))
        s = b.matmul_chunked(grouped, b.transpose(k, (0, 1, 3, 2)))
        if self.softcap:
            s = b.multiply(b.tanh(b.multiply(s, self.scale / self.softcap)), self.softcap)
        else:
            s = b.multiply(s, self.scale)
        s = b.reshape(s, (batch, heads, queries, keys))
        mask, _, sinks = self._optional(arrays)
        e, total = self._exponentials(ev, self._hide(ev, s, mask, last, span.start), sinks)
        p = b.reshape(ev.operand_like(e, 2), (batch, key_heads, rows, keys))
        o = b.reshape(b.matmul_chunked(p, v), (batch, heads, queries, v.shape[3]))
        return b.multiply(o, b.reciprocal(total))

    def _hide(
        self, ev: EvalContext, s: Array, mask: Array | None, last: Array | None, first_key: int
    ) -> Array:
        """Return the scores with the mask added and hidden scores replaced."""
        b = ev.backend
        hidden = b.full((), MASKED_SCORE, float32)
        if mask is not None:
            truth = ev.types[3].dtype == bool_
            s = b.where(mask, s, hidden) if truth else b.add(s, mask)
        if last is None:
            return s
        places = b.asarray(np.arange(first_key, first_key + s.shape[3], dtype=np.float32))
        seen = b.compare("le", places, last)
        if self.window:
            first = b.subtract(last, float(self.window - 1))
            seen = b.multiply(seen, b.compare("ge", places, first))
        return b.where(seen, s, hidden)

    def _exponentials(self, ev: EvalContext, s: Array, sinks: Array | None) -> tuple[Array, Array]:
        """Return exp(s - largest) and its sum, with that of the sinks."""
        b = ev.backend
        m = b.max(s, axis=-1, keepdims=True)
        if sinks is not None:
            sinks = b.reshape(sinks, (1, sinks.shape[0], 1, 1))
            m = b.maximum(m, sinks)
        if self.masked or self.positioned:
            m = b.maximum(m, FULLY_MASKED_FLOOR)
        e = b.exp(b.subtract(s, m))
        blocks = [b.sum(e[..., c], axis=-1, keepdims=True) for c in key_blocks(e.shape[-1])]
        total = functools.reduce(b.add, blocks)
        if sinks is not None:
            total = b.add(total, b.exp(b.subtract(sinks, m)))
        if self.masked or self.positioned:
            total = b.maximum(total, SMALLEST_SUM)
        return e, total

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return plain, causal, masked (a bool and a float mask), grouped and positioned forms."""
        q, k = TensorType((2, 4, 6, 16), float32), TensorType((2, 2, 9, 16), float32)
        q16, k16 = q.with_dtype(bfloat16), k.with_dtype(bfloat16)
        keep, bias = TensorType((2, 1, 1, 9), bool_), TensorType((1, 4, 6, 9), float32)
        positions = TensorType((2, 6), int32)
        wide = ((-2.0, 2.0),) * 3
        return (
            Example(cls(0.25), (q, q, q)),
            Example(cls(0.25, causal=True), (q, k, k)),
            Example(cls(0.25, masked=True), (q, k, k, keep)),
            Example(cls(0.25, masked=True), (q16, k16, k16, bias)),
            Example(cls(0.25, positioned=True), (q, k, k, positions), (*wide, (-1, 8))),
            Example(cls(0.125, causal=True), (TensorType((1, 2, 150, 8), float32),) * 3),
            Example(cls(0.25, causal=True, window=3), (q, k, k)),
            Example(
                cls(0.25, positioned=True, window=2, sinks=True),
                (q, k, k, positions, TensorType((4,), float32)),
                (*wide, (-1, 8), (-2.0, 2.0)),
            ),
            Example(cls(0.25, softcap=1.5, masked=True), (q16, k16, k16, bias)),
            Example(cls(0.25, causal=True, window=200), (q.with_shape(1, 1, 800, 8),) * 3),
            Example(cls(0.125), (q.with_shape(1, 2, 40, 160),) * 3),
        )

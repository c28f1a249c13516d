"""Scaled dot-product attention, kept whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import attention as kernel
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


@op("attention")
@dataclass(frozen=True, slots=True)
class Attention(Op):
    """softmax(q kT * scale + mask) v for q [B, H, Q, D], k [B, Hk, K, D], v [B, Hk, K, Dv].

    Query head h reads key head h // (H / Hk). Optional operands, in this order: `masked`, a mask
    of shape [B|1, H|1, Q|1, K] (bool_: true may be seen; float: added to the scores);
    `positioned`, int32 [B, Q]: query i sees keys 0..positions[b, i]. `causal`: query i sees keys
    0..i + K - Q. Per head, float32 unless said otherwise:

    s = chunked(q kT), operands on the auto-cast grid;  s = s * scale;  s = s + mask (float mask);
    hidden scores become -1e30;  m = max(s);  e = exp(s + (-m));  l = sum(e) of the row;
    p = e rounded to the auto-cast dtype of v;  o = chunked(p v);  y = o * (1 / l); one rounding,
    to q's dtype. With a mask or positions m is taken as at least -5e29 and l as at least 2**-126:
    a fully masked row gives 0.
    """

    scale: float
    causal: bool = False
    masked: bool = False
    positioned: bool = False
    contracts: ClassVar[tuple[int, ...]] = (0, 1, 2)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return [B, H, Q, Dv] in q's dtype."""
        count = 3 + self.masked + self.positioned
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
            require_integer(types[-1], "positions")
            require_shape(types[-1], (q.shape[0], q.shape[2]), "positions")

    def flops(self, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...]) -> int:
        """Return a multiplication and an addition for each product of both contractions."""
        q, k, v = inputs[:3]
        pairs = math.prod(q.shape[:3]) * k.shape[2]
        return 2 * pairs * (q.shape[3] + v.shape[3])

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Attend query tile by query tile."""
        rules = kernel.AttentionRules(
            self.scale,
            self.causal,
            MASKED_SCORE,
            FULLY_MASKED_FLOOR,
            SMALLEST_SUM,
            k.operand(inputs[2].dtype),
        )
        mask = inputs[3] if self.masked else None
        positions = inputs[-1] if self.positioned else None
        q, keys, values = inputs[:3]
        kernel.attention(k, rules, q, keys, values, mask, positions, outputs[0])

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return the steps of the class docstring, for as many heads at once as fit the cache."""
        q, k, v = arrays[:3]
        batch, heads, queries = q.shape[:3]
        share = heads // k.shape[1]
        step = max(1, _SCORES_AT_ONCE // (share * queries * k.shape[2]))
        if batch * k.shape[1] <= step:
            return (self._attend(ev, *arrays),)
        out = ev.backend.empty((batch, heads, queries, v.shape[3]), float32)
        for i in range(batch):
            for first in range(0, k.shape[1], step):
                row, keys = slice(i, i + 1), slice(first, first + step)
                own = slice(first * share, (first + step) * share)
                optional = self._optional_part(arrays[3:], row, own)
                part = self._attend(ev, q[row, own], k[row, keys], v[row, keys], *optional)
                out[row, own] = part
        return (out,)

    def _optional_part(
        self, optional: tuple[Array, ...], row: slice, heads: slice
    ) -> tuple[Array, ...]:
        """Return the mask and the positions of some heads of one batch entry."""
        part = []
        if self.masked:
            mask = optional[0]
            everything = slice(None)
            part.append(
                mask[
                    row if mask.shape[0] > 1 else everything,
                    heads if mask.shape[1] > 1 else everything,
                ]
            )
        if self.positioned:
            part.append(optional[-1][row])
        return tuple(part)

    def _attend(self, ev: EvalContext, *arrays: Array) -> Array:
        b = ev.backend
        q, k, v = arrays[:3]
        batch, heads, queries, size = q.shape
        key_heads, keys = k.shape[1:3]
        rows = heads // key_heads * queries
        grouped = b.reshape(q, (batch, key_heads, rows, size))
        s = b.multiply(b.matmul_chunked(grouped, b.transpose(k, (0, 1, 3, 2))), self.scale)
        s = self._hide(ev, b.reshape(s, (batch, heads, queries, keys)), arrays[3:])
        m = b.max(s, axis=-1, keepdims=True)
        if self.masked or self.positioned:
            m = b.maximum(m, FULLY_MASKED_FLOOR)
        e = b.exp(b.subtract(s, m))
        total = b.sum(e, axis=-1, keepdims=True)
        if self.masked or self.positioned:
            total = b.maximum(total, SMALLEST_SUM)
        p = b.reshape(ev.operand_like(e, 2), (batch, key_heads, rows, keys))
        o = b.reshape(b.matmul_chunked(p, v), (batch, heads, queries, v.shape[3]))
        return b.multiply(o, b.reciprocal(total))

    def _hide(self, ev: EvalContext, s: Array, optional: tuple[Array, ...]) -> Array:
        """Return the scores with the mask added and hidden scores replaced."""
        b = ev.backend
        hidden = b.full((), MASKED_SCORE, float32)
        if self.masked:
            if ev.types[3].dtype == bool_:
                s = b.where(optional[0], s, hidden)
            else:
                s = b.add(s, optional[0])
        queries, keys = s.shape[2:]
        places = b.asarray(np.arange(keys, dtype=np.float32))
        if self.positioned:
            last = b.reshape(optional[-1], (s.shape[0], 1, queries, 1))
            s = b.where(b.compare("le", places, last), s, hidden)
        if self.causal and queries > 1:
            last = np.arange(queries, dtype=np.float32)[:, None] + (keys - queries)
            s = b.where(b.compare("le", places, b.asarray(last)), s, hidden)
        return s

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
        )

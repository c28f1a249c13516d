"""Attention of few queries over long caches: the rows of many heads, one below the other.

A head's one row of scores would lie on one partition, where the engines take key by key. Here each
head's product with its keys comes out with the keys on the partitions, into columns of its own;
turned back, all heads' rows lie on as many partitions, so that masks, exponentials and sums of all
take the time of one.
"""

from __future__ import annotations

from dataclasses import dataclass

from emuron.compiler.kernels.attention_rules import (
    KEPT_KEYS,
    AttentionRules,
    exponentials,
    shares,
)
from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa
from emuron.compiler.kernels.linear import on_partitions
from emuron.compiler.kernels.turned import transpose_tile
from emuron.compiler.kernels.view import LogicalView
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32

_ROWS = 128
FEW_QUERIES = 16
"""Rows of a head that are stacked; with more, a head alone fills enough partitions (assumed)."""

_KEYS = 512  # whose scores are finished together: a PSUM bank of float32


def stacks(
    rules: AttentionRules, q: Placed, keys: Placed, values: Placed, mask: Placed | None
) -> bool:
    """Tell whether rows of an attention are stacked: several heads, few rows each, no mask."""
    if rules.window or rules.softcap or keys.shape[2] > KEPT_KEYS:
        return False
    heads, sizes = q.shape[0] * keys.shape[1], (q.shape[3], values.shape[3])
    return mask is None and heads > 1 and q.shape[2] <= FEW_QUERIES and max(sizes) <= _ROWS


def stacked_attention(
    k: KernelContext,
    rules: AttentionRules,
    q: Placed,
    keys: Placed,
    values: Placed,
    positions: Placed | None,
    out: Placed,
) -> None:
    """Write attention for q, out [B, Hk, Q, D], Q rows for each key head, and k, v [B, Hk, K, D].

    `positions` [B, Q] or [B, 1] limits the keys that the rows see.
    """
    batch, heads, queries = q.shape[:3]
    limits = None if positions is None else _by_row(k, positions, heads, queries)
    rows = batch * heads * queries
    stacked = _Stacked(
        k, rules, _as_matrix(k, q, rows), keys, values, limits, _as_rows(out, rows), queries
    )
    step = _ROWS // queries
    for first in range(0, batch * heads, step):
        stacked.attend(first, min(step, batch * heads - first))


@dataclass(frozen=True, slots=True, eq=False)
class _Stacked:
    """The operands of one attention; `q`, `limits` and `out` have a row for each query."""

    k: KernelContext
    rules: AttentionRules
    q: Placed
    keys: Placed
    values: Placed
    limits: Placed | None
    out: Placed
    queries: int  # rows of a head

    def attend(self, first: int, count: int) -> None:
        """Write `count` heads from number `first` on, counted over all batch entries."""
        k, heads = self.k, range(first, first + count)
        part = (first * self.queries, count * self.queries)
        scores = self._scores(heads, part)
        bounded = self.limits is not None
        weights, total = exponentials(k, self.rules, scores, bounded)
        product = self._products(heads, weights)
        written = k.sbuf((part[1], self.values.shape[3]), self.out.dtype, "attended")
        nisa.tensor_scalar(written, product, "multiply", shares(k, self.rules, total, bounded))
        k.finish(written, self.out, part, (0, written.shape[1]))

    def _scores(self, heads: range, part: Rows) -> NkiTensor:
        """Return the scaled and masked scores [rows, keys] of some heads."""
        k, length, rows = self.k, self.keys.shape[2], part[1]
        blocks = -(-length // 128)
        queries = k.transposed(self.q, part, self.rules.dtype)
        turned = k.sbuf((min(128, length), blocks, rows), float32, "turned")
        at_once = max(1, _KEYS // rows)
        for place, head in enumerate(heads):
            keys = self._turned(self._read(self.keys, head))
            own = slice(place * self.queries, (place + 1) * self.queries)
            for start in range(0, blocks, at_once):
                stop = min(blocks, start + at_once)
                stage = k.psum((turned.shape[0], stop - start, self.queries), float32)
                for block in range(start, stop):
                    width = min(128, length - 128 * block)
                    stationary = keys[:, 128 * block : 128 * block + width]
                    target = stage[:width, block - start]
                    nisa.nc_matmul(target, stationary, queries[:, 0, own], accumulate=False)
                _evict_blocks(k, turned[:, start:stop, own], stage, length - 128 * start)
        return self._finished(turned, part)

    def _finished(self, turned: NkiTensor, part: Rows) -> NkiTensor:
        """Return turned scores with the queries on partitions, scaled and masked."""
        k, length, rows = self.k, self.keys.shape[2], part[1]
        scores = k.sbuf((rows, length), float32, "scores")
        last = None if self.limits is None else self._last(self.limits, part)
        for start in range(0, length, _KEYS):
            count = min(_KEYS, length - start)
            stage = k.psum((rows, count), float32)
            for key in range(start, start + count, 128):
                width = min(128, length - key)
                piece = stage[:, key - start : key - start + width]
                nisa.nc_transpose(piece, turned[:width, key // 128], engine="tensor")
            target, scale = scores[:, start : start + count], self.rules.scale
            if last is None:
                nisa.tensor_scalar(target, stage, "multiply", scale)
                continue
            hidden = self._hidden(last, start, count)
            nisa.scalar_tensor_tensor(target, stage, "multiply", scale, "add", hidden)
        return scores

    def _hidden(self, last: NkiTensor, start: int, count: int) -> NkiTensor:
        """Return [rows, keys]: 0 where a key may be seen, else the hidden score."""
        k, rows = self.k, last.shape[0]
        seen, made = (k.sbuf((rows, count), float32, "hidden") for _ in range(2))
        places = k.places(_KEYS)[:rows, :count]
        nisa.tensor_scalar(seen, places, "add", float(start), False, "less_equal", last)
        score = -self.rules.hidden_score
        nisa.tensor_scalar(made, seen, "subtract", 1.0, False, "multiply", score)
        return made

    def _last(self, limits: Placed, part: Rows) -> NkiTensor:
        """Return [rows, 1] float32, the last key that each row sees."""
        tile = self.k.read(limits, part, (0, 1), "last")
        made = self.k.sbuf(tile.shape, float32)
        nisa.tensor_copy(made, tile, engine="vector")
        return made

    def _products(self, heads: range, weights: NkiTensor) -> NkiTensor:
        """Return weights · values of some heads, [rows, value size] in PSUM."""
        k, (rows, length), size = self.k, weights.shape, self.values.shape[3]
        moved = k.sbuf((min(128, length), -(-length // 128), rows), self.rules.dtype, "weights")
        transpose_tile(k, moved, weights, 0, rows)
        product = k.psum((size, rows), float32)
        for place, head in enumerate(heads):
            values = self._read(self.values, head)
            own = slice(place * self.queries, (place + 1) * self.queries)
            for block in range(-(-length // 128)):
                width = min(128, length - 128 * block)
                nisa.nc_matmul(
                    product[:, own],
                    values[:width, block],
                    moved[:width, block, own],
                    accumulate=block > 0,
                )
        turned, stage = k.sbuf((size, rows), float32, "turned"), k.psum((rows, size), float32)
        k.evict(turned, product)
        nisa.nc_transpose(stage, turned, engine="tensor")
        return stage

    def _read(self, value: Placed, head: int) -> NkiTensor:
        """Return a key head's keys or values with the keys on partitions, [128, blocks, size].

        Heads are counted over all batch entries.
        """
        batch, number = divmod(head, value.shape[1])
        view = value.view.slice(0, batch, 1)
        view = view.slice(1, number, 1) if view is not None else None
        assert view is not None
        one = value.seen_as(LogicalView(view.dims[2:], view.offset))
        return on_partitions(self.k, self.k.reachable(one, value.shape[3]), self.rules.dtype)

    def _turned(self, keys: NkiTensor) -> NkiTensor:
        """Return keys [128, blocks, size] as [size, keys], several blocks through PSUM at once."""
        k, length, size = self.k, self.keys.shape[2], keys.shape[2]
        made = k.sbuf((size, length), keys.dtype, "keys")
        step = k.core.psum_bank_bytes // keys.dtype.itemsize // 128 * 128
        for start in range(0, length, step):
            count = min(step, length - start)
            stage = k.psum((size, count), keys.dtype)
            for key in range(start, start + count, 128):
                width = min(128, length - key)
                piece = stage[:, key - start : key - start + width]
                nisa.nc_transpose(piece, keys[:width, key // 128], engine="tensor")
            k.evict(made[:, start : start + count], stage)
        return made


def _evict_blocks(k: KernelContext, target: NkiTensor, stage: NkiTensor, keys: int) -> None:
    """Copy blocks of scores out of PSUM; the last block may have fewer keys than partitions."""
    whole = min(stage.shape[1], keys // 128)
    if whole:
        k.evict(target[:, :whole], stage[:, :whole])
    if whole < stage.shape[1]:
        width = keys - 128 * whole
        k.evict(target[:width, whole], stage[:width, whole])


def _as_rows(value: Placed, rows: int) -> Placed:
    """Return a value of heads as [rows, size]."""
    view = value.view.reshape((rows, value.shape[3]))
    assert view is not None
    return value.seen_as(view)


def _as_matrix(k: KernelContext, value: Placed, rows: int) -> Placed:
    return _as_rows(k.spill(value), rows)


def _by_row(k: KernelContext, positions: Placed, heads: int, queries: int) -> Placed:
    """Return positions [B, Q] or [B, 1] as [B · heads · Q, 1]."""
    stored, batch = k.spill(positions), positions.shape[0]
    spread = stored.view.broadcast((batch, heads, queries), (0, 2))
    view = None if spread is None else spread.reshape((batch * heads * queries, 1))
    assert view is not None
    return stored.seen_as(view)

"""Scaled dot-product attention, one query tile of one head after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from emuron.compiler.kernels import decode_attention
from emuron.compiler.kernels.attention_rules import KEY_BLOCK, AttentionRules, exponentials, shares
from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.linear import contract, on_partitions
from emuron.compiler.kernels.view import LogicalView
from emuron.isa.affine import Affine, Index
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32

_PSUM_COLUMNS = 512
_TURN_AFTER = 2  # tiles whose scores are issued between a tile's exponentials and their transpose
_LONG_HEAD = 8  # query tiles of a key head from which its heads become a recorded loop
_TURNED_QUERIES = 512  # rows of queries that are transposed at once
_FINISH_AFTER = 4  # and between its exponentials and their product with the values
_BANDS = 16  # ranges of query rows that each read only the keys that causality lets them see


def seen_keys(rows: tuple[int, int], queries: int, keys: int, window: int) -> tuple[int, int]:
    """Return the first and the end of the blocks of keys that causal query rows see."""
    start, count = rows
    last = start + count - 1 + keys - queries
    first = max(0, start + keys - queries - window + 1) if window else 0
    return first // KEY_BLOCK * KEY_BLOCK, min(keys, -(-(last + 1) // KEY_BLOCK) * KEY_BLOCK)


def attention(
    k: KernelContext,
    rules: AttentionRules,
    q: Placed,
    keys: Placed,
    values: Placed,
    mask: Placed | None,
    positions: Placed | None,
    sinks: Placed | None,
    out: Placed,
) -> None:
    """Write softmax(q·kᵀ·scale + mask)·v for q, out [B, H, Q, D] and k, v [B, Hk, K, D]."""
    heads, queries = q.shape[1:3]
    key_heads, length = keys.shape[1:3]
    share = heads // key_heads
    if rules.causal and (queries > 1 or rules.window):
        last = np.arange(queries, dtype=np.float32) + (length - queries)
        positions = k.constant(np.tile(last, (q.shape[0], 1)), float32, "causal")
    alike = sinks is None and (mask is None or mask.shape[1] == 1)
    if share > 1 and queries == 1 and alike:  # the query heads of a key head become its query rows
        q, out = (_as_rows(v, key_heads, share) for v in (q, out))
        share = 1
    if share == 1 and sinks is None and decode_attention.stacks(rules, q, keys, values, mask):
        decode_attention.stacked_attention(k, rules, q, keys, values, positions, out)
        return
    if positions is not None:
        k.places(length)
    _Attention(k, rules, q, keys, values, mask, positions, sinks, out, share).run()


@dataclass(slots=True, eq=False)
class _Head:
    """One tile of query rows between its two halves: exponentials, and their sum."""

    weights: NkiTensor
    total: NkiTensor
    values: NkiTensor
    target: Placed
    rows: tuple[Index, int]
    turned: NkiTensor | None = None


@dataclass(slots=True, eq=False)
class _Attention:
    """The operands of one attention, and the tiles whose product with the values is still due.

    The second half of a tile is issued after the scores of those that follow, so that the Tensor
    engine, which takes instructions in order, does not wait for exponentials.
    """

    k: KernelContext
    rules: AttentionRules
    q: Placed
    keys: Placed
    values: Placed
    mask: Placed | None
    positions: Placed | None
    sinks: Placed | None
    out: Placed
    share: int  # query heads of a key head
    due: deque[_Head] = field(default_factory=deque)
    hiding: dict[tuple[object, ...], NkiTensor] = field(default_factory=dict)

    def run(self) -> None:
        """Attend batch entry by batch entry, as many key heads at once as fill the partitions."""
        size, key_heads = self.q.shape[3], self.keys.shape[1]
        together = self.share == 1 and 128 % size == 0 and size % 32 == 0
        step = max(1, 128 // size) if together else 1
        full, rest = divmod(key_heads, step)
        for batch in range(self.q.shape[0]):
            for index in self._groups(full):
                self._group(batch, (index * step, step))
                if isinstance(index, Affine):
                    self._settle(0)
            if rest:
                self._group(batch, (full * step, rest))
        self._settle(0)

    def _groups(self, count: int) -> Iterable[Index]:
        """Return the counters of groups of key heads: of a recorded loop where a head is long."""
        tiles = self.share * -(-self.q.shape[2] // 128)
        return self.k.loop(count, name="heads") if tiles >= _LONG_HEAD else range(count)

    def _group(self, batch: int, group: tuple[Index, int]) -> None:
        k, size, value_size = self.k, self.q.shape[3], self.values.shape[3]
        key_rows = k.reachable(_heads(self.keys, batch, group), group[1] * size)
        moving = k.transposed(key_rows, (0, self.keys.shape[2]), self.rules.dtype)
        value_rows = k.reachable(_heads(self.values, batch, group), group[1] * value_size)
        tile = on_partitions(k, value_rows, self.rules.dtype)
        for place in range(group[1]):
            part = slice(place * size, (place + 1) * size)
            columns = slice(place * value_size, (place + 1) * value_size)
            for number in range(self.share):
                head = (group[0] + place) * self.share + number
                own = group if self.share == 1 else (head, 1)
                start = place * size if self.share == 1 else 0
                self._head(batch, head, (own, start), moving[part, 0], tile[:, :, columns])

    def _head(
        self,
        batch: int,
        head: Index,
        own: tuple[tuple[Index, int], int],
        moving: NkiTensor,
        values: NkiTensor,
    ) -> None:
        """Begin every query tile of a head, which lies from row own[1] of heads own[0]."""
        k, queries, size = self.k, self.q.shape[2], self.q.shape[3]
        heads, start = own
        query_rows = k.reachable(_heads(self.q, batch, heads), heads[1] * size)
        target = _heads(self.out, batch, (head, 1))
        stationary = None
        if queries <= _TURNED_QUERIES:
            stationary = k.transposed(query_rows, (0, queries), self.rules.dtype)
        for band, (first, end) in self._bands():
            for offset, count in k.row_tiles(band[1], target, query_rows):
                row = offset + band[0]
                self._settle(_FINISH_AFTER - 1)
                if stationary is None:
                    turned = k.transposed(query_rows, (row, count), self.rules.dtype)
                    left = turned[start : start + size, 0]
                else:
                    left = stationary[start : start + size, 0, row : row + count]
                rows, span = (row, count), slice(first, end)
                hidden = self._hidden(batch, head, rows, span)
                scores = self._scores(left, moving[:, span], hidden)
                sink = self._sink(head, count)
                weights, total = exponentials(k, self.rules, scores, self.bounded, sink)
                blocks = slice(first // 128, -(-end // 128))
                self.due.append(_Head(weights, total, values[:, blocks], target, rows))
                if isinstance(row, Affine):
                    self._settle(0)

    def _bands(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield ranges of query rows with the range of keys that any of them sees."""
        queries, keys = self.q.shape[2], self.keys.shape[2]
        if not self.rules.causal:
            yield (0, queries), (0, keys)
            return
        height = -(-queries // (128 * _BANDS)) * 128
        for start in range(0, queries, height):
            rows = start, min(height, queries - start)
            yield rows, seen_keys(rows, queries, keys, self.rules.window)

    def _sink(self, head: Index, rows: int) -> NkiTensor | None:
        """Return [rows, 1] of the score of a head's sink."""
        if self.sinks is None:
            return None
        heads = self.sinks.shape[0]
        row = LogicalView((((1, 0),), self.sinks.view.dims[0]), self.sinks.view.offset)
        spread = self.k.spread(self.k.spill(self.sinks).seen_as(row), 128, (0, heads))
        return spread[:rows, head : head + 1]

    def _hidden(
        self, batch: int, head: Index, rows: tuple[Index, int], span: slice
    ) -> NkiTensor | None:
        """Return [rows, keys] to add to the scores: a float mask, or 0 and the hidden score.

        A score plus the hidden score is the hidden score, whatever the score: it is that large.
        """
        mask = self.mask
        heads_differ = mask is not None and mask.shape[1] > 1
        rows_differ = self.positions is not None or (mask is not None and mask.shape[2] > 1)
        shared = (batch, head if heads_differ else 0, rows[0] if rows_differ else 0, rows[1])
        key = (*shared, span.start, span.stop)
        if key in self.hiding:
            return self.hiding[key]
        tile = self._mask_tile(batch, head, rows)
        last = self._limits(batch, rows)
        hidden = self._hide(None, tile[:, span]) if tile is not None else None
        if last is not None:
            hidden = self._hide(hidden, self._seen(last, span))
        if hidden is not None and not isinstance(rows[0], Affine) and self._keeps(rows_differ):
            self.hiding[key] = hidden
        return hidden

    def _seen(self, last: NkiTensor, span: slice) -> NkiTensor:
        """Return 1 where a key is not beyond the last one seen, nor before the window, else 0."""
        k, rows, window = self.k, last.shape[0], self.rules.window
        places = k.places(self.keys.shape[2])[:rows, span]
        seen = k.sbuf(places.shape, float32, "seen")
        nisa.tensor_scalar(seen, places, "less_equal", last)
        if not window:
            return seen
        first, both = k.sbuf((rows, 1), float32), k.sbuf(places.shape, float32, "seen")
        nisa.tensor_scalar(first, last, "subtract", float(window - 1))
        nisa.scalar_tensor_tensor(both, places, "greater_equal", first, "multiply", seen)
        return both

    def _keeps(self, rows_differ: bool) -> bool:
        """Tell whether mask tiles are kept for the next head: the few that all rows share."""
        return not rows_differ or self.q.shape[2] <= 128

    def _hide(self, before: NkiTensor | None, seen: NkiTensor) -> NkiTensor:
        """Return `before` plus 0 where `seen` is one and the hidden score where it is zero."""
        if before is None and seen.dtype.kind == "float" and self.mask is not None:
            return seen  # a float mask is added as it is
        made = self.k.sbuf(seen.shape, float32, "hidden")
        score = -self.rules.hidden_score
        nisa.tensor_scalar(made, seen, "subtract", 1.0, False, "multiply", score)
        if before is not None:
            both = self.k.sbuf(seen.shape, float32, "hidden")
            nisa.tensor_tensor(both, before, made, "minimum")
            return both
        return made

    def _limits(self, batch: int, rows: tuple[Index, int]) -> NkiTensor | None:
        """Return [rows, 1], the last key that each query row sees."""
        positions, queries = self.positions, self.q.shape[2]
        if positions is None:
            return None
        view = positions.view.slice(0, batch, 1)
        assert view is not None
        if positions.shape[1] == 1 and queries > 1:
            view = view.broadcast((1, queries), (0, 1))
        column = positions.seen_as(LogicalView((view.dims[1], ((1, 1),)), view.offset))
        tile = self.k.read(column, rows, (0, 1), "last")
        if tile.dtype == float32:
            return tile
        made = self.k.sbuf(tile.shape, float32)
        nisa.tensor_copy(made, tile, engine="vector")
        return made

    def _mask_tile(self, batch: int, head: Index, rows: tuple[Index, int]) -> NkiTensor | None:
        """Return [rows, keys] of the mask, one row repeated where it has only one."""
        mask = self.mask
        if mask is None:
            return None
        view = mask.view.slice(0, batch if mask.shape[0] > 1 else 0, 1)
        view = view.slice(1, head if mask.shape[1] > 1 else 0, 1) if view is not None else None
        assert view is not None
        one = mask.seen_as(LogicalView(view.dims[2:], view.offset))
        if mask.shape[2] == 1:
            return self.k.spread(self.k.spill(one), rows[1], (0, mask.shape[3]))
        return self.k.read(one, rows, (0, mask.shape[3]), "mask")

    def _scores(
        self, stationary: NkiTensor, moving: NkiTensor, hidden: NkiTensor | None
    ) -> NkiTensor:
        """Return the scaled and masked scores [rows, keys] in SBUF."""
        rows, length = stationary.shape[1], moving.shape[1]
        scores = self.k.sbuf((rows, length), float32, "scores")
        for start in range(0, length, _PSUM_COLUMNS):
            span = slice(start, min(length, start + _PSUM_COLUMNS))
            product = self.k.psum((rows, span.stop - start), float32)
            nisa.nc_matmul(product, stationary, moving[:, span], accumulate=False)
            scale = self.rules.scale
            if self.rules.softcap:
                product, scale = self._capped(product), self.rules.softcap
            if hidden is None:
                nisa.tensor_scalar(scores[:, span], product, "multiply", scale)
            else:
                nisa.scalar_tensor_tensor(
                    scores[:, span], product, "multiply", scale, "add", hidden[:, span]
                )
        return scores

    def _capped(self, product: NkiTensor) -> NkiTensor:
        """Return tanh(product · scale / cap)."""
        made = self.k.sbuf(product.shape, float32, "capped")
        rules = self.rules
        nisa.activation(made, "tanh", product, scale=rules.scale / rules.softcap)
        return made

    @property
    def bounded(self) -> bool:
        """Whether a row may see no key at all."""
        return self.mask is not None or self.positions is not None

    def _settle(self, most: int) -> None:
        """Finish the oldest tiles until at most `most` are due; transpose those old enough."""
        for head in list(self.due)[: max(0, len(self.due) - min(most, _TURN_AFTER - 1))]:
            if head.turned is None:
                head.turned = self._turn(head)
        while len(self.due) > most:
            self._finish(self.due.popleft())

    def _turn(self, head: _Head) -> NkiTensor:
        """Return a tile's weights with the keys on partitions."""
        rows, length = head.weights.shape
        shape = (min(128, length), -(-length // 128), rows)
        moved = self.k.sbuf(shape, self.rules.dtype, "weights")
        self.k.transpose_tile(moved, head.weights, 0, rows)
        return moved

    def _finish(self, head: _Head) -> None:
        """Write weights · values / total."""
        k, (rows, length) = self.k, head.weights.shape
        size = head.values.shape[2]
        assert head.turned is not None
        product = k.psum((rows, size), float32)
        contract(product, head.turned, head.values, length)
        share = shares(k, self.rules, head.total, self.bounded)
        written = k.target(head.target, head.rows, (0, size))
        nisa.tensor_scalar(written, product, "multiply", share)
        k.finish(written, head.target, head.rows, (0, size))


def _as_rows(value: Placed, key_heads: int, share: int) -> Placed:
    batch, _, _, size = value.shape
    view = value.view.reshape((batch, key_heads, share, size))
    assert view is not None
    return value.seen_as(view)


def _heads(value: Placed, batch: int, heads: tuple[Index, int]) -> Placed:
    """Return [rows, heads · size] of one batch entry."""
    view = value.view.slice(0, batch, 1)
    view = view.slice(1, *heads) if view is not None else None
    assert view is not None
    rows, columns = view.dims[2], (*view.dims[1], *view.dims[3])
    return value.seen_as(LogicalView((rows, columns), view.offset))

"""Scaled dot-product attention, one query tile of one head after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from emuron.compiler.kernels import decode_attention
from emuron.compiler.kernels.attention_masks import Masks
from emuron.compiler.kernels.attention_rules import (
    KEPT_KEYS,
    KEY_BLOCK,
    SEGMENT_KEYS,
    AttentionRules,
    exponentials,
    lowered,
    most_places,
    shares,
    weights_of,
    with_sink,
)
from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa
from emuron.compiler.kernels.linear import contract, on_partitions
from emuron.compiler.kernels.turned import transpose_tile
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
        k.places(most_places(length))
    masks = Masks(k, mask, positions, rules.window, rules.hidden_score, queries, length)
    _Attention(k, rules, q, keys, values, masks, sinks, out, share).run()


@dataclass(slots=True, eq=False)
class _Head:
    """One tile of query rows between its two halves: exponentials, and their sum."""

    weights: NkiTensor
    total: NkiTensor
    values: NkiTensor
    target: Placed
    rows: tuple[Index, int]
    turned: NkiTensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """Query rows of a head, with the keys that any of them sees."""

    batch: int
    head: Index
    rows: Rows
    span: slice
    stationary: NkiTensor  # the queries, transposed: [partitions, blocks, rows]
    moving: NkiTensor  # all keys, transposed


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
    masks: Masks
    sinks: Placed | None
    out: Placed
    share: int  # query heads of a key head
    due: deque[_Head] = field(default_factory=deque)

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
            part = slice(place * size, place * size + min(size, 128))
            columns = slice(place * value_size, (place + 1) * value_size)
            for number in range(self.share):
                head = (group[0] + place) * self.share + number
                own = group if self.share == 1 else (head, 1)
                start = place * size if self.share == 1 else 0
                self._head(batch, head, (own, start), moving[part], tile[:, :, columns])

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
        part = slice(start, start + min(size, 128))
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
                    left = turned[part]
                else:
                    left = stationary[part, :, row : row + count]
                tile = _Tile(batch, head, (row, count), slice(first, end), left, moving)
                if end - first > KEPT_KEYS:
                    self._settle(0)
                    self._twice(tile, values, target)
                    continue
                self._begin(tile, values, target)
                if isinstance(row, Affine):
                    self._settle(0)

    def _begin(self, tile: _Tile, values: NkiTensor, target: Placed) -> None:
        """Write a tile's exponentials; the product with the values is due."""
        scores, bounded = self._scores(tile, tile.span), self.masks.bounded
        weights, total = exponentials(self.k, self.rules, scores, bounded, self._sink(tile))
        blocks = slice(tile.span.start // 128, -(-tile.span.stop // 128))
        self.due.append(_Head(weights, total, values[:, blocks], target, tile.rows))

    def _twice(self, tile: _Tile, values: NkiTensor, target: Placed) -> None:
        """Attend a tile whose scores do not fit on chip: once for the largest, then all over.

        The numbers are those of a tile that fits: the same sums, in the same order.
        """
        k, rules, count, sink = self.k, self.rules, tile.rows[1], self._sink(tile)
        starts = range(tile.span.start, tile.span.stop, SEGMENT_KEYS)
        segments = [slice(s, min(tile.span.stop, s + SEGMENT_KEYS)) for s in starts]
        largest = k.sbuf((count, len(segments)), float32, "largest")
        for number, segment in enumerate(segments):
            scores = self._scores(tile, segment)
            nisa.tensor_reduce(largest[:, number : number + 1], "maximum", scores, 1)
        shift, total = (
            lowered(k, rules, largest, self.masks.bounded, sink),
            k.sbuf((count, 1), float32),
        )
        product = k.psum((count, values.shape[2]), float32)
        for segment in segments:
            scores, begun = self._scores(tile, segment), segment.start > tile.span.start
            last = total if segment is segments[-1] else None
            weights = weights_of(k, rules, scores, shift, last, begun=begun)
            blocks = slice(segment.start // 128, -(-segment.stop // 128))
            turned = self._turn(weights)
            contract(product, turned, values[:, blocks], weights.shape[1], begun=begun)
        self._store(product, with_sink(k, total, sink, shift), target, tile.rows)

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

    def _sink(self, tile: _Tile) -> NkiTensor | None:
        """Return [rows, 1] of the score of a head's sink."""
        if self.sinks is None:
            return None
        heads = self.sinks.shape[0]
        row = LogicalView((((1, 0),), self.sinks.view.dims[0]), self.sinks.view.offset)
        spread = self.k.spread(self.k.spill(self.sinks).seen_as(row), 128, (0, heads))
        return spread[: tile.rows[1], tile.head : tile.head + 1]

    def _scores(self, tile: _Tile, keys: slice) -> NkiTensor:
        """Return the scaled and masked scores [rows, keys] in SBUF."""
        hidden = self.masks.hidden(tile.batch, tile.head, tile.rows, keys)
        stationary, moving = tile.stationary, tile.moving[:, :, keys]
        rows, length, size = stationary.shape[2], moving.shape[2], self.q.shape[3]
        scores = self.k.sbuf((rows, length), float32, "scores")
        for start in range(0, length, _PSUM_COLUMNS):
            span = slice(start, min(length, start + _PSUM_COLUMNS))
            product = self.k.psum((rows, span.stop - start), float32)
            contract(product, stationary, moving[:, :, span], size)
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

    def _settle(self, most: int) -> None:
        """Finish the oldest tiles until at most `most` are due; transpose those old enough."""
        for head in list(self.due)[: max(0, len(self.due) - min(most, _TURN_AFTER - 1))]:
            if head.turned is None:
                head.turned = self._turn(head.weights)
        while len(self.due) > most:
            self._finish(self.due.popleft())

    def _turn(self, weights: NkiTensor) -> NkiTensor:
        """Return a tile's weights with the keys on partitions."""
        rows, length = weights.shape
        shape = (min(128, length), -(-length // 128), rows)
        moved = self.k.sbuf(shape, self.rules.dtype, "weights")
        transpose_tile(self.k, moved, weights, 0, rows)
        return moved

    def _finish(self, head: _Head) -> None:
        """Write weights · values / total."""
        rows, length = head.weights.shape
        assert head.turned is not None
        product = self.k.psum((rows, head.values.shape[2]), float32)
        contract(product, head.turned, head.values, length)
        self._store(product, head.total, head.target, head.rows)

    def _store(self, product: NkiTensor, total: NkiTensor, target: Placed, rows: Rows) -> None:
        """Write product / total."""
        k, size = self.k, product.shape[1]
        share = shares(k, self.rules, total, self.masks.bounded)
        written = k.target(target, rows, (0, size))
        nisa.tensor_scalar(written, product, "multiply", share)
        k.finish(written, target, rows, (0, size))


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

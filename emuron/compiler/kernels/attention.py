"""Scaled dot-product attention, one query tile of one head after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.linear import contract, on_partitions
from emuron.compiler.kernels.view import LogicalView
from emuron.isa.affine import Index
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, bool_, float32, uint8

_PSUM_COLUMNS = 512


@dataclass(frozen=True, slots=True)
class AttentionRules:
    """What `attention` computes: see the operator of the same name for the arithmetic."""

    scale: float
    causal: bool
    hidden_score: float
    floor: float
    smallest_sum: float
    dtype: DType  # of the operands of both products


def attention(
    k: KernelContext,
    rules: AttentionRules,
    q: Placed,
    keys: Placed,
    values: Placed,
    mask: Placed | None,
    positions: Placed | None,
    out: Placed,
) -> None:
    """Write softmax(q·kᵀ·scale + mask)·v for q, out [B, H, Q, D] and k, v [B, Hk, K, D]."""
    heads, queries = q.shape[1:3]
    key_heads = keys.shape[1]
    share = heads // key_heads
    if share > 1 and queries == 1:  # the query heads of a key head become its query rows
        q, out = (_as_rows(v, key_heads, share) for v in (q, out))
        heads, queries, share = key_heads, share, 1
    if rules.causal and queries > 1 and queries == keys.shape[2] and positions is None:
        last = np.arange(queries, dtype=np.float32)
        positions = k.constant(np.tile(last, (q.shape[0], 1)), float32, "causal")
    if positions is not None:
        k.places(keys.shape[2])
    group = max(1, 128 // q.shape[3]) if share == 1 and 128 % q.shape[3] == 0 else 1
    for batch in range(q.shape[0]):
        for first in range(0, key_heads, group):
            count = min(group, key_heads - first)
            _head_group(
                k, rules, q, keys, values, mask, positions, out, batch, (first, count), share
            )


def _as_rows(value: Placed, key_heads: int, share: int) -> Placed:
    batch, _, _, size = value.shape
    view = value.view.reshape((batch, key_heads, share, size))
    assert view is not None
    return value.seen_as(view)


def _heads(value: Placed, batch: int, heads: tuple[int, int]) -> Placed:
    """Return [rows, heads · size] of one batch entry."""
    view = value.view.slice(0, batch, 1)
    view = view.slice(1, *heads) if view is not None else None
    assert view is not None
    rows, columns = view.dims[2], (*view.dims[1], *view.dims[3])
    return value.seen_as(LogicalView((rows, columns), view.offset))


def _head_group(
    k: KernelContext,
    rules: AttentionRules,
    q: Placed,
    keys: Placed,
    values: Placed,
    mask: Placed | None,
    positions: Placed | None,
    out: Placed,
    batch: int,
    group: tuple[int, int],
    share: int,
) -> None:
    """Attend with the key heads of one group, whose sizes fill the partitions together."""
    size, value_size = q.shape[3], values.shape[3]
    queries, length = q.shape[2], keys.shape[2]
    key_rows = k.reachable(_heads(keys, batch, group), group[1] * size)
    moving = k.transposed(key_rows, (0, length), rules.dtype)
    tile = on_partitions(
        k, k.reachable(_heads(values, batch, group), group[1] * value_size), rules.dtype
    )
    for head in range(group[0] * share, (group[0] + group[1]) * share):
        key_head = head // share - group[0]
        own = (head, 1) if share > 1 else group
        query_rows = k.reachable(_heads(q, batch, own), own[1] * size)
        stationary = k.transposed(query_rows, (0, queries), rules.dtype)
        part = slice(key_head * size, (key_head + 1) * size)
        own_part = slice(0, size) if share > 1 else part
        target = _heads(out, batch, (head, 1))
        for row, count in k.row_tiles(queries, target):
            limits = _limits(k, positions, batch, (row, count), queries)
            scores = _scores(
                k,
                rules,
                stationary[own_part, 0, row : row + count],
                moving[part, 0],
                _mask_tile(k, mask, batch, head, (row, count)),
                limits,
            )
            columns = slice(key_head * value_size, (key_head + 1) * value_size)
            written = k.target(target, (row, count), (0, value_size))
            bounded = mask is not None or limits is not None
            _weigh(k, rules, scores, tile[:, :, columns], written, bounded, length)
            k.finish(written, target, (row, count), (0, value_size))


def _limits(
    k: KernelContext,
    positions: Placed | None,
    batch: int,
    rows: tuple[Index, int],
    queries: int,
) -> NkiTensor | None:
    """Return [rows, 1], the last key that each query row sees."""
    if positions is None:
        return None
    view = positions.view.slice(0, batch, 1)
    assert view is not None
    if positions.shape[1] == 1 and queries > 1:
        view = view.broadcast((1, queries), (0, 1))
    column = positions.seen_as(LogicalView((view.dims[1], ((1, 1),)), view.offset))
    tile = k.read(column, rows, (0, 1), "last")
    if tile.dtype == float32:
        return tile
    made = k.sbuf(tile.shape, float32)
    nisa.tensor_copy(made, tile, engine="vector")
    return made


def _mask_tile(
    k: KernelContext, mask: Placed | None, batch: int, head: int, rows: tuple[Index, int]
) -> NkiTensor | None:
    """Return [rows, keys] of the mask, one row repeated where it has only one."""
    if mask is None:
        return None
    view = mask.view.slice(0, batch if mask.shape[0] > 1 else 0, 1)
    view = view.slice(1, head if mask.shape[1] > 1 else 0, 1) if view is not None else None
    assert view is not None
    one = mask.seen_as(LogicalView(view.dims[2:], view.offset))
    if mask.shape[2] == 1:
        return k.spread(k.spill(one), rows[1], (0, mask.shape[3]))
    return k.read(one, rows, (0, mask.shape[3]), "mask")


def _scores(
    k: KernelContext,
    rules: AttentionRules,
    stationary: NkiTensor,
    moving: NkiTensor,
    mask: NkiTensor | None,
    limits: NkiTensor | None,
) -> NkiTensor:
    """Return the scaled and masked scores [rows, keys] in SBUF."""
    rows, length = stationary.shape[1], moving.shape[1]
    scores = k.sbuf((rows, length), float32, "scores")
    added = mask if mask is not None and mask.dtype != bool_ else None
    for start in range(0, length, _PSUM_COLUMNS):
        span = slice(start, min(length, start + _PSUM_COLUMNS))
        product = k.psum((rows, span.stop - start), float32)
        nisa.nc_matmul(product, stationary, moving[:, span], accumulate=False)
        if added is not None:
            nisa.scalar_tensor_tensor(
                scores[:, span], product, "multiply", rules.scale, "add", added[:, span]
            )
        else:
            nisa.tensor_scalar(scores[:, span], product, "multiply", rules.scale)
    if mask is not None and added is None:
        scores = _keep(k, rules, scores, mask)
    if limits is not None:
        seen = k.sbuf((rows, length), uint8)
        nisa.tensor_scalar(seen, k.places(length)[:rows], "less_equal", limits)
        scores = _keep(k, rules, scores, seen)
    return scores


def _keep(k: KernelContext, rules: AttentionRules, scores: NkiTensor, seen: NkiTensor) -> NkiTensor:
    """Return the scores where `seen` is not zero, and the hidden score elsewhere."""
    made = k.sbuf(scores.shape, float32, "scores")
    nisa.memset(made, rules.hidden_score)
    nisa.tensor_copy_predicated(made, scores, seen.view(uint8))
    return made


def _weigh(
    k: KernelContext,
    rules: AttentionRules,
    scores: NkiTensor,
    values: NkiTensor,
    out: NkiTensor,
    bounded: bool,
    length: int,
) -> None:
    """Write softmax(scores) · values: exponentials first, the division after the product."""
    rows = scores.shape[0]
    peak = k.sbuf((rows, 1), float32)
    nisa.tensor_reduce(peak, "maximum", scores, 1)
    shift = k.sbuf((rows, 1), float32)
    if bounded:
        nisa.tensor_scalar(shift, peak, "maximum", rules.floor, False, "multiply", -1.0)
    else:
        nisa.tensor_scalar(shift, peak, "multiply", -1.0)
    weights = k.sbuf(scores.shape, rules.dtype, "weights")
    total = k.sbuf((rows, 1), float32)
    nisa.activation(
        weights,
        "exp",
        scores,
        bias=shift,
        scale=1.0,
        reduce_op="add",
        reduce_res=total,
        reduce_cmd="reset_reduce",
    )
    if bounded:
        clamped = k.sbuf((rows, 1), float32)
        nisa.tensor_scalar(clamped, total, "maximum", rules.smallest_sum)
        total = clamped
    share = k.sbuf((rows, 1), float32)
    nisa.reciprocal(share, total)
    moved = k.sbuf((min(128, length), -(-length // 128), rows), rules.dtype, "weights")
    k.transpose_tile(moved, weights, 0, rows)
    product = k.psum((rows, values.shape[2]), float32)
    contract(product, moved, values, length)
    nisa.tensor_scalar(out, product, "multiply", share)

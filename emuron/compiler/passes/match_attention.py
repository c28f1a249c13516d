"""Attention, found in its pieces, and in a simpler form where masks and heads allow it."""

from __future__ import annotations

from math import prod

import numpy as np

from emuron.compiler.graph import Node, Value
from emuron.compiler.ops.attention import Attention
from emuron.compiler.ops.creation import Constant, Iota
from emuron.compiler.ops.shaping import Broadcast, Permute
from emuron.compiler.passes.matching import Matching
from emuron.numerics.dtypes import bool_

_MOST_HIDDEN_SCORE = -1e4
"""A score below this hides a key: models write -10000, -1e9, the smallest float or -infinity."""

_LAST_TWO = {3: (0, 2, 1), 4: (0, 1, 3, 2)}


def attention(match: Matching, node: Node) -> Value | None:
    """Match softmax(q kT * scale + mask) v over [B, H, S, D], or over [B · H, S, D]."""
    rank = node.outputs[0].type.rank
    guarded = match.through(_guarded(match, node.inputs[0]), "cast", "reshape")
    weights = match.maker(guarded, "softmax")
    if weights is None or rank not in _LAST_TWO:
        return None
    scores, mask = _unmasked(match, weights.inputs[0])
    scale, factors = match.product(match.through(scores, "reshape"))
    product = _product_of(match, factors[0]) if len(factors) == 1 else None
    if product is None or _sizes(product.outputs[0]) != _sizes(node.inputs[0]):
        return None
    q, keys = product.inputs
    before, parts = match.product(q)
    if before != 1 and len(parts) == 1 and parts[0].type == q.type:
        scale, q = scale * before, parts[0]
    after, parts = match.product(keys)
    if after != 1 and len(parts) == 1 and parts[0].type == keys.type:
        scale, keys = scale * after, parts[0]
    k = _turned_back(match, node, keys, rank)
    operands = [_four(match, node, v) for v in (q, k, node.inputs[1])]
    if mask is not None:
        operands.append(_narrow_mask(match, node, mask, product.outputs[0].shape))
    if operands[0].type.dtype != node.outputs[0].type.dtype:
        return None
    found = match.emit(node, Attention(scale, masked=mask is not None), *operands)
    return match.reshape(node, found, *node.outputs[0].shape)


def _product_of(match: Matching, value: Value) -> Node | None:
    """Return the matrix product that a value is, behind dimensions of size 1."""
    return match.maker(match.through(value, "reshape", "cast"), "matmul")


def _sizes(value: Value) -> list[int]:
    return [n for n in value.shape if n != 1]


def _guarded(match: Matching, weights: Value) -> Value:
    """Return the weights behind a guard against rows without a key, which `attention` makes 0."""
    guard = match.maker(weights, "select")
    if guard is None or match.number(guard.inputs[1]) != 0:
        return weights
    asked = match.maker(guard.inputs[0], "isnan")
    return guard.inputs[2] if asked is not None and asked.inputs == guard.inputs[2:] else weights


def _turned_back(match: Matching, node: Node, keys: Value, rank: int) -> Value:
    """Return keys [..., D, S] as [..., S, D], also where all heads were turned as one batch."""
    merged = match.maker(keys, "reshape")
    turned = match.maker(merged.inputs[0], "permute") if merged is not None else None
    if turned is None or rank != 4 or turned.op != Permute(_LAST_TWO[3]):
        return match.permute(node, keys, *_LAST_TWO[rank])
    source = match.through(turned.inputs[0], "reshape")
    batch, heads, size, length = keys.shape
    return match.reshape(node, source, batch, heads, length, size)


def _unmasked(match: Matching, scores: Value) -> tuple[Value, Value | None]:
    """Return scores and the mask that was added to them, or that chose among them."""
    chosen = match.maker(scores, "select")
    if chosen is not None:
        hidden = match.number(chosen.inputs[2])
        if hidden is not None and hidden <= _MOST_HIDDEN_SCORE:
            return chosen.inputs[1], chosen.inputs[0]
    total = match.maker(scores, "add")
    for part, mask in (total.inputs, total.inputs[::-1]) if total is not None else ():
        _, factors = match.product(part)
        if len(factors) == 1 and _product_of(match, factors[0]) is not None:
            return part, mask
    return scores, None


def _four(match: Matching, node: Node, x: Value) -> Value:
    """Return x as [batch, heads, sequence, size]."""
    return x if x.type.rank == 4 else match.reshape(node, x, 1, *x.shape)


def _narrow_mask(match: Matching, node: Node, mask: Value, scores: tuple[int, ...]) -> Value:
    """Return a mask as four dimensions, of size 1 where it is repeated, but for the keys."""
    four = (1,) * (4 - len(scores)) + scores
    spread = match.maker(mask, "broadcast")
    if spread is None or not isinstance(spread.op, Broadcast):
        return match.reshape(node, mask, *four)
    source = dict(zip(spread.op.dims, spread.inputs[0].shape, strict=True))
    # Dimensions of size 1 of the scores say nothing, wherever they stand.
    sizes = iter(source.get(i, 1) for i, n in enumerate(mask.shape) if n != 1)
    narrow = [1 if n == 1 else next(sizes) for n in four]
    if narrow[3] != four[3]:
        return match.reshape(node, mask, *four)
    return match.reshape(node, spread.inputs[0], *narrow)


def shared_heads(match: Matching, node: Node) -> Value | None:
    """Match attention whose keys and values are copied for every query head of a group."""
    sources = [_unrepeated(match, node, x) for x in node.inputs[1:3]]
    k, v = sources
    if k is None or v is None or k.shape[1] != v.shape[1]:
        return None
    return match.emit(node, node.op, node.inputs[0], k, v, *node.inputs[3:])


def _unrepeated(match: Matching, node: Node, x: Value) -> Value | None:
    """Return [B, Hk, K, D] of which x [B, H, K, D] repeats each head H / Hk times.

    The heads may have been the third dimension when they were copied.
    """
    turned = match.maker(x, "permute")
    if turned is not None and turned.op != Permute((0, 2, 1, 3)):
        return None
    inner, heads = (x, 1) if turned is None else (turned.inputs[0], 2)
    merged = match.maker(inner, "reshape")
    spread = match.maker(merged.inputs[0], "broadcast") if merged else None
    if spread is None or not isinstance(spread.op, Broadcast):
        return None
    wide, source = spread.op.shape, spread.inputs[0]
    before, after = inner.shape[:heads], inner.shape[heads + 1 :]
    if len(wide) != 5 or wide[:heads] != before or wide[heads + 2 :] != after:
        return None
    sizes = dict(zip(spread.op.dims, source.shape, strict=True))
    single = (*before, wide[heads], *after)
    if sizes.get(heads + 1, 1) != 1 or source.type.elements != prod(single):
        return None
    found = match.reshape(node, source, *single)
    return found if turned is None else match.permute(node, found, 0, 2, 1, 3)


def simpler_mask(match: Matching, node: Node) -> Value | None:
    """Match attention under a mask that is all true, causal, or a causal one and another.

    A mask of scores counts if it is 0 where keys are seen and hides them elsewhere.
    """
    op = node.op
    assert isinstance(op, Attention)
    if not op.masked:
        return None
    queries, keys = node.inputs[0].shape[2], node.inputs[1].shape[2]
    causal, left, dropped = op.causal, [], False
    for part in _conjuncts(match, node.inputs[3]):
        known = _known_mask(match, part, queries, keys)
        if known is None:
            left.append(part)
            continue
        dropped = True
        causal = causal or known == "causal"
    if not dropped or len(left) > 1:
        return None
    masks = tuple(left)
    if masks and masks[0].shape[-1] != keys:
        return None
    made = Attention(op.scale, causal, bool(masks), op.positioned)
    return match.emit(node, made, *node.inputs[:3], *masks, *node.inputs[4:])


def _conjuncts(match: Matching, mask: Value) -> list[Value]:
    """Return the masks, of four dimensions each, whose conjunction a mask is."""
    node = match.maker(mask, "broadcast", "and", "min")
    if node is None or any(v.type.rank != 4 for v in node.inputs):
        return [mask]
    return [part for v in node.inputs for part in _conjuncts(match, v)]


def _known_mask(match: Matching, mask: Value, queries: int, keys: int) -> str | None:
    """Return "all" or "causal" for a constant mask that is so for every batch and head."""
    everywhere = match.number(mask)
    if everywhere is not None and everywhere == (mask.type.dtype == bool_):
        return "all"
    if _is_lower(match, match.through(mask, "reshape", "broadcast"), queries, keys):
        return "causal"
    if mask.shape[2:] != (queries, keys):
        return None
    array = _held(match, match.through(mask, "reshape"))
    if array is None:
        return None
    array = array.reshape(-1, queries, keys)
    if array.dtype != np.bool_:
        scores, array = array, array == 0
        if not (array | (scores <= _MOST_HIDDEN_SCORE)).all():
            return None
    if array.all():
        return "all"
    lower = np.tri(queries, keys, keys - queries, dtype=bool)
    return "causal" if queries <= keys and bool((array == lower).all()) else None


def _is_lower(match: Matching, mask: Value, queries: int, keys: int) -> bool:
    """Tell whether a mask compares the places of queries and keys, so that none looks ahead."""
    node = match.maker(mask, "ge", "le")
    if node is None or mask.shape != (queries, keys):
        return False
    rows, columns = node.inputs if node.op.name == "ge" else node.inputs[::-1]
    starts = [_counted(match, v, axis) for v, axis in ((rows, 0), (columns, 1))]
    return None not in starts and starts[0] - starts[1] == keys - queries  # type: ignore[operator]


def _counted(match: Matching, value: Value, axis: int) -> float | None:
    """Return the first number of a tensor that counts by 1 along a dimension."""
    shifted = match.with_number(value, "add")
    node = match.maker(shifted[0] if shifted else value, "iota")
    if node is None or not isinstance(node.op, Iota) or (node.op.axis, node.op.step) != (axis, 1):
        return None
    return node.op.start + (shifted[1] if shifted else 0)


def _held(match: Matching, value: Value) -> np.ndarray | None:
    """Return the data of a parameter or constant."""
    held = match.parameters.get(value)
    if held is not None:
        return None if held.loader is None else held.load()
    node = match.maker(value, "constant")
    if node is None or not isinstance(node.op, Constant):
        return None
    return np.array(node.op.values, value.type.dtype.np)

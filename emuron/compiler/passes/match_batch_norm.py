"""Batch normalisation of images, found in its pieces, and images kept with their channels first.

Frameworks that keep channels last arrive with a permute before and after each convolution; what
computes element by element between them moves inside, so that the permutes meet and vanish.
"""

from __future__ import annotations

from dataclasses import replace

from emuron.compiler.graph import Node, Value
from emuron.compiler.ops.channel_norm import BatchNorm
from emuron.compiler.ops.creation import Full
from emuron.compiler.ops.shaping import Broadcast, Permute
from emuron.compiler.ops.windows import Pad
from emuron.compiler.passes.matching import Matching

_SPREAD = ("broadcast", "reshape")


def _channels_first(match: Matching, x: Value) -> Value | None:
    """Return [N, C, *spatial] of which x is the permuted form with the channels last."""
    node = match.maker(x, "permute")
    rank = x.type.rank
    last = rank >= 3 and node is not None and node.op == Permute((0, *range(2, rank), 1))
    return node.inputs[0] if node is not None and last else None


def _channels_last(match: Matching, node: Node, x: Value) -> Value:
    return match.permute(node, x, 0, *range(2, x.type.rank), 1)


def element_wise(match: Matching, node: Node) -> Value | None:
    """Match an element-wise operator on images, or on images and numbers."""
    shape: tuple[int, ...] = ()
    operands: list[Value | float] = []
    for x in node.inputs:
        number = match.number(x)
        first = _channels_first(match, x) if number is None else None
        if number is None and first is None:
            return None
        operands.append(number if first is None and number is not None else first)  # type: ignore[arg-type]
        shape = shape if first is None else first.shape
    if not shape:
        return None
    inner = [v if isinstance(v, Value) else _filled(match, node, v, shape) for v in operands]
    return _channels_last(match, node, match.settled(match.emit(node, node.op, *inner)))


def _filled(match: Matching, node: Node, number: float, shape: tuple[int, ...]) -> Value:
    dtype = node.inputs[0].type.dtype
    return match.emit(node, Broadcast(shape, ()), match.emit(node, Full(number, (), dtype)))


def padded(match: Matching, node: Node) -> Value | None:
    """Match padding of images."""
    first = _channels_first(match, node.inputs[0])
    if first is None or not isinstance(node.op, Pad):
        return None
    order = (0, first.type.rank - 1, *range(1, first.type.rank - 1))
    op = replace(
        node.op,
        low=tuple(node.op.low[i] for i in order),
        high=tuple(node.op.high[i] for i in order),
        interior=tuple(node.op.interior[i] for i in order) if node.op.interior else (),
    )
    return _channels_last(match, node, match.emit(node, op, first))


def conv_bias(match: Matching, node: Node) -> Value | None:
    """Match a convolution and a bias of each channel that is added to it."""
    for image, spread in (node.inputs, node.inputs[::-1]):
        first = _channels_first(match, image)
        made = match.maker(first, "conv") if first is not None else None
        if made is None or first is None or len(made.inputs) > 2:
            continue
        bias = _vector(match, node, spread, first)
        if bias is not None:
            return _channels_last(match, node, match.emit(node, made.op, *made.inputs, bias))
    return None


def batch_norm(match: Matching, node: Node) -> Value | None:
    """Match x * s + (bias - mean * s) and (x - mean) * s + bias, s = r * weight of each channel.

    r = rsqrt(variance + epsilon); all four are parameters.
    """
    for left, right in (node.inputs, node.inputs[::-1]):
        product = match.maker(left, "mul")
        for x, scale in (product.inputs, product.inputs[::-1]) if product is not None else ():
            factor = match.maker(match.through(scale, *_SPREAD), "mul")
            parts = _bias_and_mean(match, x, right, factor) if factor is not None else None
            if factor is None or parts is None:
                continue
            source, bias, mean = parts
            found = _weight_and_variance(match, factor)
            first = _channels_first(match, source)
            if found is None or first is None:
                continue
            weight, variance, epsilon = found
            vectors = [_vector(match, node, v, first) for v in (weight, bias, mean, variance)]
            if None not in vectors:
                operands = (first, *(v for v in vectors if v is not None))
                made = match.settled(match.emit(node, BatchNorm(epsilon), *operands))
                return _channels_last(match, node, made)
    return None


def _bias_and_mean(
    match: Matching, x: Value, added: Value, factor: Node
) -> tuple[Value, Value, Value] | None:
    """Return what is normalised, the bias and the mean, in either way of writing it."""
    centred = match.maker(x, "sub")
    if centred is not None:
        return centred.inputs[0], added, centred.inputs[1]
    offset = match.maker(match.through(added, *_SPREAD), "sub")
    shift = match.maker(match.through(offset.inputs[1], *_SPREAD), "mul") if offset else None
    if offset is None or shift is None:
        return None
    for mean, scale in (shift.inputs, shift.inputs[::-1]):
        if match.through(scale, *_SPREAD) is factor.outputs[0]:
            return x, offset.inputs[0], mean
    return None


def _weight_and_variance(match: Matching, factor: Node) -> tuple[Value, Value, float] | None:
    for part, weight in (factor.inputs, factor.inputs[::-1]):
        root = match.maker(match.through(part, *_SPREAD), "rsqrt")
        total = match.with_number(root.inputs[0], "add") if root is not None else None
        if total is not None:
            return weight, total[0], total[1]
    return None


def _vector(match: Matching, node: Node, value: Value, x: Value) -> Value | None:
    """Return the parameter [C] that a value spreads over the channels of x."""
    source = match.through(value, *_SPREAD)
    is_weight = source in match.parameters and source.type.elements == x.shape[1]
    return match.reshape(node, source, x.shape[1]) if is_weight else None

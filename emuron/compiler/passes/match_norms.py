"""Layer and RMS normalisation and softmax, found in their pieces."""

from __future__ import annotations

from collections.abc import Iterator

from emuron.compiler.graph import Node, Value
from emuron.compiler.ops.normalize import LayerNorm, RmsNorm
from emuron.compiler.ops.reduction import Reduce
from emuron.compiler.ops.softmax import Softmax
from emuron.compiler.passes.matching import Matching, is_close

_UNIT = ("broadcast", "reshape")
"""What spreads one number of each row over the row."""


def _is_row_reduction(match: Matching, value: Value, kind: str, x: Value) -> Node | None:
    """Return the reduction over the last dimension of a tensor of x's shape that a value is."""
    node = match.maker(match.through(value, *_UNIT), "reduce")
    if node is None or not isinstance(node.op, Reduce) or node.inputs[0].shape != x.shape:
        return None
    return node if (node.op.kind, node.op.axes) == (kind, (x.type.rank - 1,)) else None


def _mean_of(match: Matching, value: Value, like: Value) -> Value | None:
    """Return what a value is the mean of, along the last dimension of tensors shaped as `like`."""
    if not like.shape:
        return None
    found = _is_row_reduction(match, value, "mean", like)
    if found is not None:
        return found.inputs[0]
    scaled = match.through(value, *_UNIT)
    for name in ("div", "mul"):
        parts = match.with_number(scaled, name)
        factor = like.shape[-1] if name == "div" else 1 / like.shape[-1]
        if parts is not None and is_close(parts[1], factor):
            total = _is_row_reduction(match, parts[0], "sum", like)
            return total.inputs[0] if total is not None else None
    return None


def _is_square(match: Matching, value: Value, of: Value) -> bool:
    number, factors = match.product(value)
    return number == 1 and factors == (of, of)


def _shifted_root(match: Matching, value: Value) -> tuple[Value, float] | None:
    """Return v and epsilon if a value is 1 / sqrt(v + epsilon)."""
    root = match.maker(match.through(value, *_UNIT), "rsqrt")
    return match.with_number(match.through(root.inputs[0], *_UNIT), "add") if root else None


def _operand_orders(node: Node) -> Iterator[tuple[Value, Value]]:
    x, y = node.inputs
    yield x, y
    if node.op.name in ("mul", "add"):
        yield y, x


# RMS normalisation


def rms_norm(match: Matching, node: Node) -> Value | None:
    """Match x * rsqrt(mean(x * x) + epsilon), over the last dimension."""
    for x, scale in _operand_orders(node):
        found = _shifted_root(match, scale)
        squares = _mean_of(match, found[0], x) if found else None
        if found is not None and squares is not None and _is_square(match, squares, x):
            return match.emit(node, RmsNorm(found[1]), x)
    return None


def weighted_rms_norm(match: Matching, node: Node) -> Value | None:
    """Match rms_norm(x) * weight, the narrow x in place of its float32 copy."""
    for normal, stretched in _operand_orders(node):
        found = match.maker(match.through(normal, "cast"), "rms_norm")
        if found is None or len(found.inputs) > 1 or normal.shape != node.outputs[0].shape:
            continue
        x = found.inputs[0]
        narrow = match.maker(x, "cast")
        if x.type != node.outputs[0].type and narrow is not None:
            x = narrow.inputs[0]
        weight = match.vector(node, stretched) if x.type == node.outputs[0].type else None
        if weight is not None:
            return match.emit(node, found.op, x, weight)
    return None


# Layer normalisation


def layer_norm(match: Matching, node: Node) -> Value | None:
    """Match (x - mean(x)) * r and (x - mean(x)) * (r * weight), r = rsqrt(variance + epsilon)."""
    for centred, scale in _operand_orders(node):
        difference = match.maker(centred, "sub")
        if difference is None:
            continue
        x = difference.inputs[0]
        if _mean_of(match, difference.inputs[1], x) is not x:
            continue
        found = _normalizer(match, node, scale, x)
        if found is not None:
            epsilon, weight = found
            operands = () if weight is None else (weight,)
            return match.emit(node, LayerNorm(epsilon), x, *operands)
    return None


def _normalizer(
    match: Matching, node: Node, value: Value, x: Value
) -> tuple[float, Value | None] | None:
    """Return epsilon and the weight if a value is r, or r * weight."""
    plain = _shifted_root(match, value)
    if plain is not None:
        return (plain[1], None) if _is_variance(match, plain[0], x) else None
    scaled = match.maker(match.through(value, *_UNIT), "mul")
    for part, weight in _operand_orders(scaled) if scaled is not None else ():
        found = _shifted_root(match, part)
        if found is None or not _is_variance(match, found[0], x):
            continue
        held = match.vector(node, weight)
        if held is not None:
            return found[1], held
    return None


def _is_variance(match: Matching, value: Value, x: Value) -> bool:
    """Tell mean((x - mean(x))²), or mean(x²) - mean(x)² with or without a floor of 0."""
    squares = _mean_of(match, value, x)
    if squares is not None:
        number, factors = match.product(squares)
        centred = match.maker(factors[0], "sub") if factors else None
        same = len(factors) == 2 and factors[0] is factors[1] and number == 1
        return (
            same
            and centred is not None
            and centred.inputs[0] is x
            and _mean_of(match, centred.inputs[1], x) is x
        )
    node = match.maker(match.through(value, *_UNIT, "relu"), "sub")
    if node is None:
        return False
    squares = _mean_of(match, node.inputs[0], x)
    means = match.maker(match.through(node.inputs[1], *_UNIT), "mul")
    return (
        squares is not None
        and _is_square(match, squares, x)
        and means is not None
        and all(_mean_of(match, m, x) is x for m in means.inputs)
    )


def weighted_layer_norm(match: Matching, node: Node) -> Value | None:
    """Match layer_norm(x) * weight."""
    for normal, stretched in _operand_orders(node):
        found = match.maker(normal, "layer_norm")
        if found is None or len(found.inputs) > 1:
            continue
        weight = match.vector(node, stretched)
        if weight is not None:
            return match.emit(node, found.op, *found.inputs, weight)
    return None


def biased_layer_norm(match: Matching, node: Node) -> Value | None:
    """Match layer_norm(x, weight) + bias."""
    for normal, stretched in _operand_orders(node):
        found = match.maker(normal, "layer_norm")
        if found is None or len(found.inputs) != 2:
            continue
        bias = match.vector(node, stretched)
        if bias is not None:
            return match.emit(node, found.op, *found.inputs, bias)
    return None


def spread_layer_norm(match: Matching, node: Node) -> Value | None:
    """Match x * s + (bias - mean(x) * s), s = r * weight, as batch normalisation is written."""
    for left, right in _operand_orders(node):
        product, offset = match.maker(left, "mul"), match.maker(right, "sub", "add")
        if product is None or offset is None:
            continue
        for x, scale in _operand_orders(product):
            found = _normalizer(match, node, scale, x)
            bias = _bias_of_shift(match, node, offset, x, scale) if found is not None else None
            if found is not None and found[1] is not None and bias is not None:
                return match.emit(node, LayerNorm(found[0]), x, found[1], bias)
    return None


def _bias_of_shift(
    match: Matching, node: Node, offset: Node, x: Value, scale: Value
) -> Value | None:
    """Return the bias if a sum is bias - mean(x) * scale, or bias + -mean(x) * scale."""
    for bias, shift in _operand_orders(offset):
        product = match.maker(match.through(shift, *_UNIT), "mul")
        if product is None:
            continue
        for mean, other in _operand_orders(product):
            if match.through(other, *_UNIT) is not match.through(scale, *_UNIT):
                continue
            turned = match.maker(match.through(mean, *_UNIT), "neg")
            middle = mean if turned is None else turned.inputs[0]
            negative = (turned is not None) != (offset.op.name == "sub")
            if negative and _mean_of(match, middle, x) is x:
                return match.vector(node, bias)
    return None


# Softmax


def softmax(match: Matching, node: Node) -> Value | None:
    """Match e / sum(e), e = exp(x - max(x)) or exp(x), over the last dimension."""
    e, total = node.inputs
    made = match.maker(match.through(e, "cast"), "exp")
    summed = _is_row_reduction(match, match.through(total, "cast", *_UNIT), "sum", e)
    if made is None or summed is None:
        return None
    if match.through(summed.inputs[0], "cast") is not made.outputs[0]:
        return None
    x = made.inputs[0]
    difference = match.maker(x, "sub")
    highest = match.through(difference.inputs[1], *_UNIT) if difference is not None else x
    top = match.maker(highest, "reduce")
    if difference is not None and top is not None and _is_row_maximum(match, top, difference):
        x = difference.inputs[0]
    return match.emit(node, Softmax(), x) if x.type == node.outputs[0].type else None


def _is_row_maximum(match: Matching, top: Node, difference: Node) -> bool:
    """Tell whether a reduction is the maximum of the rows that it is subtracted from."""
    of, rows = top.inputs[0], difference.inputs[0]
    same = match.through(of, "reshape") is match.through(rows, "reshape")
    is_last = isinstance(top.op, Reduce) and (top.op.kind, top.op.axes) == (
        "max",
        (of.type.rank - 1,),
    )
    return same and is_last and of.shape[-1] == rows.shape[-1]

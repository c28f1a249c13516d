"""Patterns that bring what frameworks write in different ways to one form, before composites."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, Node, Value
from emuron.compiler.ops.binary import Mul
from emuron.compiler.ops.creation import Full
from emuron.compiler.ops.reduction import Reduce
from emuron.compiler.ops.shaping import Permute
from emuron.compiler.ops.unary import Neg, Relu, Rsqrt
from emuron.compiler.passes.matching import Matching
from emuron.errors import EmuronError
from emuron.numerics.dtypes import bool_

_MOST_KERNEL_RANK = 4
"""Products with more dimensions come from group sizes of 1, which say nothing."""

_NEUTRAL = {"add": 0.0, "mul": 1.0, "max": -math.inf, "min": math.inf}
_NEUTRAL_RIGHT = {"sub": 0.0, "div": 1.0, "pow": 1.0}


def fold_numbers(match: Matching, node: Node) -> Value | None:
    """Compute an element-wise operator of operands that are one number each everywhere."""
    numbers = [match.number(v) for v in node.inputs]
    (output,) = node.outputs
    if not numbers or None in numbers or not output.type.elements:
        return None
    single = [replace(v, type=v.type.with_shape()) for v in node.inputs]
    fills = [
        Node(Full(n, (), v.type.dtype), (), (v,), v.name)
        for n, v in zip(numbers, single, strict=True)
        if n is not None
    ]
    result = replace(output, type=output.type.with_shape())
    last = Node(node.op, tuple(single), (result,), node.name)
    graph = Graph("number", (), (), (*fills, last), (result,), ("y",))
    try:
        found = float(Evaluator(graph).run({})["y"])
    except EmuronError:
        return None
    return match.emit(node, Full(found, output.shape, output.type.dtype))


def drop_neutral(match: Matching, node: Node) -> Value | None:
    """Leave out x + 0, x - 0, x * 1, x / 1, max(x, -infinity) and the like."""
    name = node.op.name
    found = match.with_number(node.outputs[0], name)
    if found is None:
        return None
    neutral = _NEUTRAL.get(name, _NEUTRAL_RIGHT.get(name))
    return found[0] if found[1] == neutral else None


def square(match: Matching, node: Node) -> Value | None:
    """Write x ** 2 and x ** 0.5 by their own operators."""
    found = match.with_number(node.outputs[0], "pow")
    if found is not None and found[1] == 2:
        return match.emit(node, Mul(), found[0], found[0])
    return None


def negate(match: Matching, node: Node) -> Value | None:
    """Write 0 - x and x * -1 as -x."""
    if node.outputs[0].type.dtype.kind != "float":
        return None
    if node.op.name == "sub":
        return (
            match.emit(node, Neg(), node.inputs[1]) if match.number(node.inputs[0]) == 0 else None
        )
    found = match.with_number(node.outputs[0], "mul")
    return match.emit(node, Neg(), found[0]) if found is not None and found[1] == -1 else None


def relu(match: Matching, node: Node) -> Value | None:
    """Write the maximum of x and 0 as relu."""
    found = match.with_number(node.outputs[0], "max")
    is_float = node.outputs[0].type.dtype.kind == "float"
    return match.emit(node, Relu(), found[0]) if found and found[1] == 0 and is_float else None


def inverse_root(match: Matching, node: Node) -> Value | None:
    """Write 1 / sqrt(x) and x / sqrt(y) by rsqrt."""
    root = match.maker(match.through(node.inputs[-1], "broadcast", "reshape"), "sqrt")
    if root is None:
        return None
    if node.op.name == "reciprocal" and node.inputs[-1] is root.outputs[0]:
        return match.emit(node, Rsqrt(), root.inputs[0])
    if node.op.name != "div":
        return None
    inverse = match.emit(node, Rsqrt(), root.inputs[0])
    spread = _spread_again(match, node, node.inputs[1], root.outputs[0], inverse)
    if match.number(node.inputs[0]) == 1:
        return spread
    return match.emit(node, Mul(), node.inputs[0], spread)


def _spread_again(match: Matching, node: Node, value: Value, of: Value, by: Value) -> Value:
    """Return what `value` is of `of`, through views, made of `by` in its place."""
    if value is of:
        return by
    view = match.maker(value, "broadcast", "reshape")
    assert view is not None
    return match.emit(node, view.op, _spread_again(match, node, view.inputs[0], of, by))


def choose(match: Matching, node: Node) -> Value | None:
    """Take the side of a select whose condition is known; truth chosen by truth is the truth."""
    known = match.number(node.inputs[0])
    if known is not None:
        return node.inputs[1 if known else 2]
    is_truth = node.outputs[0].type.dtype == bool_
    sides = [match.number(v) for v in node.inputs[1:]] if is_truth else []
    return node.inputs[0] if sides == [1, 0] else None


def mean(match: Matching, node: Node) -> Value | None:
    """Write sum(x) / n and sum(x) * (1 / n) as a mean."""
    found = match.with_number(node.outputs[0], node.op.name)
    total = match.maker(found[0], "reduce") if found is not None else None
    if found is None or total is None or not isinstance(total.op, Reduce):
        return None
    x = total.inputs[0]
    count = math.prod(x.shape[a] for a in total.op.axes)
    factor = np.float32(found[1] if node.op.name == "div" else 1 / found[1] if found[1] else 0)
    if total.op.kind != "sum" or abs(factor - count) > count * 2.0**-20:
        return None
    return match.emit(node, replace(total.op, kind="mean"), x)


def join_permutes(match: Matching, node: Node) -> Value | None:
    """Write two permutes in turn as one, or none; one that moves no data is a reshape."""
    assert isinstance(node.op, Permute)
    x, axes = node.inputs[0], node.op.axes
    if match.maker(x, "permute") is not None or axes == tuple(range(x.type.rank)):
        return match.permute(node, x, *axes)
    kept = [i for i, n in enumerate(x.shape) if n != 1]
    order = [kept.index(a) for a in axes if a in kept]
    if order == sorted(order):
        return match.reshape(node, x, *node.outputs[0].shape)
    if x.type.rank <= _MOST_KERNEL_RANK or len(kept) == x.type.rank:
        return None
    narrow = match.reshape(node, x, *(x.shape[i] for i in kept))
    return match.reshape(node, match.permute(node, narrow, *order), *node.outputs[0].shape)


def join_reshapes(match: Matching, node: Node) -> Value | None:
    """Write two reshapes in turn as one, or none."""
    if node.inputs[0].shape == node.outputs[0].shape:
        return node.inputs[0]
    if match.maker(node.inputs[0], "reshape") is None:
        return None
    return match.reshape(node, node.inputs[0], *node.outputs[0].shape)


def reshape_after(match: Matching, node: Node) -> Value | None:
    """Write an operator along the last dimension of a reshape that keeps it before the reshape."""
    before = match.maker(node.inputs[0], "reshape")
    if before is None or before.inputs[0].shape[-1:] != node.outputs[0].shape[-1:]:
        return None
    made = match.emit(node, node.op, before.inputs[0])
    return match.reshape(node, made, *node.outputs[0].shape)


def turn_matmul(match: Matching, node: Node) -> Value | None:
    """Write xT @ yT as (y @ x)T: what follows then sees rows as rows."""
    swapped = []
    for x in node.inputs:
        before = match.maker(x, "permute")
        if before is None or not isinstance(before.op, Permute):
            return None
        if before.op.axes[-1] > before.op.axes[-2]:
            return None
        swapped.append(before)
    last = (*range(node.outputs[0].type.rank - 2), -1, -2)
    axes = tuple(a % len(last) for a in last)
    x, y = (match.permute(node, n.outputs[0], *axes) for n in swapped)
    return match.permute(node, match.settled(match.emit(node, node.op, y, x)), *axes)


def drop_same(match: Matching, node: Node) -> Value | None:
    """Leave out a cast to the same dtype and a slice of everything."""
    return node.inputs[0] if node.inputs[0].type == node.outputs[0].type else None

"""How each kind of operator runs on split operands; an operator without a rule runs whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from emuron.compiler.graph import Node, Value
from emuron.compiler.ops import binary, collectives, contraction, shaping
from emuron.compiler.passes.parallel_plan import is_elementwise
from emuron.compiler.passes.partitioner import Partitioner
from emuron.compiler.passes.sharding import PADDING, Split

Rule = Callable[[Partitioner, Node, Any], bool]


def apply_rule(p: Partitioner, node: Node) -> bool:
    """Append what a node becomes on split operands; False where it is to run whole."""
    rule = RULES.get(node.op.name) or (_elementwise if is_elementwise(node) else None)
    return rule is not None and rule(p, node, node.op)


def _linear(p: Partitioner, node: Node, op: contraction.Linear) -> bool:
    x, weight, *lines = node.inputs
    if not p.is_parameter(weight):
        return False
    split = p.split_of(x)
    if split is not None and split.dim == x.type.rank - 1:
        _by_inputs(p, node, op, split)
        return True
    columns = p.columns.get(node)
    if columns is None:
        return False
    parts = [p.split(v, columns.at(0)) for v in (weight, *lines)]
    if any(part is None for part in parts):
        return False
    made = p.emit(op, [p.whole(x), *(v for v in parts if v is not None)])
    p.set(node, made, columns)
    return True


def _by_inputs(p: Partitioner, node: Node, op: contraction.Linear, split: Split) -> None:
    """Append partial sums over a rank's inputs, their total, and the bias added to it once."""
    x, weight, *lines = node.inputs
    scale, bias = (lines[:1], lines[1:]) if op.scaled else ([], lines)
    operands = [p.found[x][0], p.shard(weight, split.at(1)), *(p.whole(v) for v in scale)]
    partial = p.one(op, operands, "partial")
    total = p.one(collectives.AllReduce(p.ranks), [partial], "all_reduce")
    if bias:
        last = (total.type.rank - 1,)
        line = p.one(shaping.Broadcast(total.shape, last), [p.whole(bias[0])], "bias")
        total = p.one(binary.Add(), [total, line], "biased")
    p.set(node, [total], None)


def _elementwise(p: Partitioner, node: Node, op: Any) -> bool:
    split = _first_split(p, node)
    return split is not None and _all_split(p, node, op, split)


def _all_split(p: Partitioner, node: Node, op: Any, split: Split) -> bool:
    """Run a node on parts of all its operands, if all can be had."""
    parts = [p.split(v, split) for v in node.inputs]
    if any(part is None for part in parts):
        return False
    p.set(node, p.emit(op, [v for v in parts if v is not None]), split)
    return True


def _first_split(p: Partitioner, node: Node) -> Split | None:
    return next((s for v in node.inputs if (s := p.split_of(v)) is not None), None)


def _along_last(p: Partitioner, node: Node, op: Any) -> bool:
    """Run norms and softmax on parts unless the last dimension, which they sum, is split."""
    x, *weights = node.inputs
    split = p.split_of(x)
    if split is None or split.dim == x.type.rank - 1:
        return False
    p.set(node, p.emit(op, [p.found[x][0], *(p.whole(w) for w in weights)]), split)
    return True


def _reshape(p: Partitioner, node: Node, op: shaping.Reshape) -> bool:
    (x,) = node.inputs
    split = p.split_of(x)
    found = None if split is None else split.reshaped(x.shape, op.shape)
    if found is None:
        return False
    shape = list(op.shape)
    shape[found.dim] = found.local
    p.set(node, p.emit(replace(op, shape=tuple(shape)), [p.found[x][0]]), found)
    return True


def _permute(p: Partitioner, node: Node, op: shaping.Permute) -> bool:
    (x,) = node.inputs
    split = p.split_of(x)
    if split is None:
        return False
    p.set(node, p.emit(op, [p.found[x][0]]), split.at(op.axes.index(split.dim)))
    return True


def _broadcast(p: Partitioner, node: Node, op: shaping.Broadcast) -> bool:
    (x,) = node.inputs
    split = p.split_of(x)
    if split is None:
        return False
    found = split.at(op.dims[split.dim])
    shape = list(op.shape)
    shape[found.dim] = found.local
    p.set(node, p.emit(replace(op, shape=tuple(shape)), [p.found[x][0]]), found)
    return True


def _slice(p: Partitioner, node: Node, op: shaping.Slice) -> bool:
    (x,) = node.inputs
    split = p.split_of(x)
    if split is None or node.outputs[0].shape[split.dim] != split.size:
        return False
    stops = list(op.stops)
    stops[split.dim] = split.local
    p.set(node, p.emit(replace(op, stops=tuple(stops)), [p.found[x][0]]), split)
    return True


def _concat(p: Partitioner, node: Node, op: shaping.Concat) -> bool:
    split = _first_split(p, node)
    return split is not None and split.dim != op.axis and _all_split(p, node, op, split)


def _take(p: Partitioner, node: Node, op: Any) -> bool:
    """Split a large embedding over its features: ranks look up their part, then all gather."""
    table, index = node.inputs
    large = table.type.rank == 2 and table.type.elements >= p.table_elements
    if op.axis != 0 or not (large and p.is_parameter(table)) or p.ranks == 1:
        return False
    split = Split.even(1, table.shape[1], p.ranks)
    found = split.at(node.outputs[0].type.rank - 1)
    rows = p.one(op, [p.shard(table, split), p.whole(index)], "rows")
    p.set(node, [p.gather(rows, found)], None)
    return True


def _scatter(p: Partitioner, node: Node, op: Any) -> bool:
    x, update, index = node.inputs
    split = p.split_of(update)
    if split is None or split.dim == op.axis:
        return False
    cache = p.split(x, split)
    if cache is None:
        return False
    p.set(node, p.emit(op, [cache, p.found[update][0], p.whole(index)]), split)
    return True


def _rope(p: Partitioner, node: Node, op: Any) -> bool:
    x, cos, sin = node.inputs
    split = p.split_of(x)
    if split is None or split.dim != 1:
        return False
    p.set(node, p.emit(op, [p.found[x][0], p.whole(cos), p.whole(sin)]), split)
    return True


def _attention(p: Partitioner, node: Node, op: Any) -> bool:
    q, k, v, *others = node.inputs
    splits = [p.split_of(value) for value in (q, k, v)]
    if any(split is None or split.dim != 1 for split in splits):
        return False
    queries, keys, values = (split for split in splits if split is not None)
    share = q.shape[1] // k.shape[1]
    if keys != values or not _heads_meet(queries, keys, share):
        return False
    rest = [_mask(p, value, queries) for value in others]
    if any(part is None for part in rest):
        return False
    operands = [p.found[value][0] for value in (q, k, v)]
    p.set(node, p.emit(op, [*operands, *(v for v in rest if v is not None)]), queries)
    return True


def _mask(p: Partitioner, value: Value, queries: Split) -> Value | None:
    """Return a mask, split where it has heads; positions as they are."""
    if value.type.rank == 4 and value.shape[1] > 1:
        return p.split(value, queries)
    return p.whole(value)


def _heads_meet(queries: Split, keys: Split, share: int) -> bool:
    """Tell whether each query head of a rank has its key head in the place where it looks."""
    if queries.unit != 1 or keys.unit != 1 or queries.local % keys.local:
        return False
    here = queries.local // keys.local
    return all(
        head == PADDING or keys_of[place // here] == head // share
        for heads, keys_of in zip(queries.parts, keys.parts, strict=True)
        for place, head in enumerate(heads)
    )


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "linear": _linear,
        "softmax": _along_last,
        "layer_norm": _along_last,
        "rms_norm": _along_last,
        "reshape": _reshape,
        "permute": _permute,
        "broadcast": _broadcast,
        "slice": _slice,
        "concat": _concat,
        "take": _take,
        "scatter": _scatter,
        "rope": _rope,
        "attention": _attention,
    }
)
"""The rule of each operator that is not elementwise, by name."""

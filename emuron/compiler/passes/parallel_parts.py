"""Parts of values that are whole on every rank, computed part by part again.

A mask or a bias of attention is made of numbers, repetitions and weights: a rank computes its
heads of it from its part of the weights, where a whole one would force the attention to be whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from emuron.compiler.graph import Node, Value
from emuron.compiler.ops import shaping
from emuron.compiler.passes.parallel_plan import is_elementwise
from emuron.compiler.passes.sharding import Split, local_type

if TYPE_CHECKING:
    from emuron.compiler.passes.partitioner import Partitioner

Remake = Callable[["Partitioner", Node, Any, Split], "Value | None"]


def remake(p: Partitioner, node: Node, wanted: Split) -> Value | None:
    """Return a rank's part of a node's output, None where the ranks cannot compute it."""
    rule = _REMADE.get(node.op.name) or (_elementwise if is_elementwise(node) else None)
    return None if rule is None else rule(p, node, node.op, wanted)


def _full(p: Partitioner, node: Node, op: Any, wanted: Split) -> Value | None:
    return p.one(replace(op, shape=local_type(node.outputs[0], wanted).shape), [], "full")


def _broadcast(p: Partitioner, node: Node, op: Any, wanted: Split) -> Value | None:
    (source,), dims = node.inputs, op.dims
    place = dims.index(wanted.dim) if wanted.dim in dims else None
    repeats = place is None or source.shape[place] == 1
    part = p.whole(source) if repeats else p.split(source, wanted.at(dims.index(wanted.dim)))
    shape = local_type(node.outputs[0], wanted).shape
    return None if part is None else p.one(shaping.Broadcast(shape, dims), [part], "spread")


def _permute(p: Partitioner, node: Node, op: Any, wanted: Split) -> Value | None:
    part = p.split(node.inputs[0], wanted.at(op.axes[wanted.dim]))
    return None if part is None else p.one(op, [part], "part")


def _reshape(p: Partitioner, node: Node, op: Any, wanted: Split) -> Value | None:
    before = wanted.reshaped(node.outputs[0].shape, node.inputs[0].shape)
    part = None if before is None else p.split(node.inputs[0], before)
    shape = local_type(node.outputs[0], wanted).shape
    return None if part is None else p.one(replace(op, shape=shape), [part], "part")


def _take(p: Partitioner, node: Node, op: Any, wanted: Split) -> Value | None:
    """Look up a part of the features of a table."""
    table, index = node.inputs
    feature = wanted.dim - index.type.rank + 1
    if op.axis != 0 or feature < 1:
        return None
    part = p.split(table, wanted.at(feature))
    return None if part is None else p.one(op, [part, p.whole(index)], "part")


def _elementwise(p: Partitioner, node: Node, op: Any, wanted: Split) -> Value | None:
    parts = [p.split(value, wanted) for value in node.inputs]
    found = [part for part in parts if part is not None]
    return p.one(op, found, "part") if len(found) == len(parts) else None


_REMADE: Mapping[str, Remake] = MappingProxyType(
    {
        "full": _full,
        "broadcast": _broadcast,
        "permute": _permute,
        "reshape": _reshape,
        "take": _take,
    }
)

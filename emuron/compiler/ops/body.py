"""Evaluates a graph within an operator: what a composite stands for, the body of a loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from emuron.compiler.graph import Array, Graph, Node, Value
from emuron.compiler.ops.context import EvalContext


def run_graph(ev: EvalContext, graph: Graph, stored: Sequence[Array]) -> tuple[Array, ...]:
    """Return the stored outputs of a graph without parameters, given its stored inputs.

    Every node rounds as it does in a graph of its own.
    """
    values: dict[Value, Array] = dict(zip(graph.inputs, stored, strict=True))
    for node in graph.nodes:
        types = tuple(v.type for v in node.inputs)
        inner = dataclasses.replace(ev, types=types, owned=frozenset())
        operands = (_read(inner, node, i, values[v]) for i, v in enumerate(node.inputs))
        outputs = node.op.evaluate(inner, *operands)
        for value, found in zip(node.outputs, outputs, strict=True):
            moved = node.op.takes_storage(types)
            values[value] = found if moved else inner.store(found, value.type.dtype)
    return tuple(values[v] for v in graph.outputs)


def _read(ev: EvalContext, node: Node, index: int, stored: Array) -> Array:
    if node.op.takes_storage(ev.types):
        return stored
    working = ev.backend.widen(stored, ev.types[index].dtype)
    return ev.operand_like(working, index) if index in node.op.contracts else working

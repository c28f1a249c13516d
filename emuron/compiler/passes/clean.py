"""Passes that drop what nobody reads and merge what is computed twice."""

from __future__ import annotations

from dataclasses import replace

from emuron.compiler.graph import Graph, Node, Value, op_text


def drop_dead_nodes(graph: Graph) -> Graph:
    """Return the graph without nodes and parameters that no output depends on."""
    needed: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    parameters = tuple(p for p in graph.parameters if p.value in needed)
    return replace(graph, nodes=tuple(reversed(kept)), parameters=parameters)


def share_equal_nodes(graph: Graph) -> Graph:
    """Return the graph in which equal ops on equal operands of one layer are computed once."""
    seen: dict[tuple[object, ...], tuple[Value, ...]] = {}
    stands_for: dict[Value, Value] = {}
    protected = set(graph.outputs)
    kept: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(stands_for.get(v, v) for v in node.inputs)
        key = (op_text(node.op), inputs, node.scope)
        first = seen.get(key)
        if first is not None and not protected.intersection(node.outputs):
            stands_for.update(zip(node.outputs, first, strict=True))
            continue
        seen.setdefault(key, node.outputs)
        kept.append(replace(node, inputs=inputs))
    return replace(graph, nodes=tuple(kept))

"""The pass that puts decompositions in the place of composites without a kernel."""

from __future__ import annotations

from dataclasses import replace

from emuron.compiler.graph import Graph, Node, Value
from emuron.compiler.ops.composite import Composite, decomposition


def expand_composites(graph: Graph) -> Graph:
    """Return the graph without composites; their parts take over their scope and source."""
    if not any(_expandable(node) for node in graph.nodes):
        return graph
    stands_for: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(stands_for.get(v, v) for v in node.inputs)
        node = replace(node, inputs=inputs)
        nodes += _expanded(node, stands_for) if _expandable(node) else [node]
    outputs = tuple(stands_for.get(v, v) for v in graph.outputs)
    return expand_composites(replace(graph, nodes=tuple(nodes), outputs=outputs))


def _expandable(node: Node) -> bool:
    return isinstance(node.op, Composite) and node.op.expandable()


def _expanded(node: Node, stands_for: dict[Value, Value]) -> list[Node]:
    """Return the parts of a composite; its outputs are theirs, or come to stand for operands."""
    assert isinstance(node.op, Composite)
    body = decomposition(node.op, tuple(v.type for v in node.inputs))
    found = dict(zip(body.inputs, node.inputs, strict=True))
    for inner, own in zip(body.outputs, node.outputs, strict=True):
        if inner in found:
            stands_for[own] = found[inner]
        else:
            found[inner] = own
    parts = []
    for part in body.nodes:
        for value in part.outputs:
            found.setdefault(value, Value(f"{node.name}.{value.name}", value.type))
        parts.append(
            Node(
                part.op,
                tuple(found[v] for v in part.inputs),
                tuple(found[v] for v in part.outputs),
                f"{node.name}.{part.name}",
                ".".join(s for s in (node.scope, part.scope) if s),
                node.source,
            )
        )
    return parts

"""Checks that a graph is well formed."""

from __future__ import annotations

from emuron.compiler.graph.graph import Graph, Node, Value
from emuron.errors import UsageError


def verify(graph: Graph) -> None:
    """Check SSA form, inferred types, outputs and aliases; raise UsageError naming the node."""
    defined: set[Value] = set()
    names: set[str] = set()
    for value in (*graph.inputs, *(p.value for p in graph.parameters)):
        _define(graph, value, defined, names, "inputs and parameters")
    for node in graph.nodes:
        _verify_node(graph, node, defined)
        for value in node.outputs:
            _define(graph, value, defined, names, f"node {node.name!r}")
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        if value not in defined:
            raise UsageError(f"output {name!r} of graph {graph.name!r} is never computed ({value})")
    _verify_aliases(graph)


def _define(graph: Graph, value: Value, defined: set[Value], names: set[str], where: str) -> None:
    if value in defined or value.name in names:
        raise UsageError(f"graph {graph.name!r}: value %{value.name} is defined twice, at {where}")
    defined.add(value)
    names.add(value.name)


def _verify_node(graph: Graph, node: Node, defined: set[Value]) -> None:
    at = f"graph {graph.name!r}, node {node.name!r} in {node.scope or 'the top scope'}"
    if node.source:
        at += f" ({node.source})"
    for value in node.inputs:
        if value not in defined:
            raise UsageError(f"{at}: operand %{value.name} is used before it is computed")
    inferred = node.op.infer(*(v.type for v in node.inputs))
    found = tuple(v.type for v in node.outputs)
    if inferred != found:
        raise UsageError(
            f"{at}: {node.op.name} gives {[str(t) for t in inferred]}, "
            f"but the node declares {[str(t) for t in found]}"
        )


def _verify_aliases(graph: Graph) -> None:
    taken: set[int] = set()
    for output, source in graph.aliases.items():
        if graph.outputs[output].type != graph.inputs[source].type:
            raise UsageError(
                f"graph {graph.name!r}: output {graph.output_names[output]!r} "
                f"({graph.outputs[output].type}) cannot take the memory of input "
                f"{graph.inputs[source].name!r} ({graph.inputs[source].type}): types differ"
            )
        if source in taken:
            raise UsageError(
                f"graph {graph.name!r}: input {graph.inputs[source].name!r} is aliased twice"
            )
        taken.add(source)

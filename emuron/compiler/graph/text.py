"""The stable text form of a graph."""

from __future__ import annotations

from emuron.compiler.graph.graph import Graph, Node, Value
from emuron.compiler.graph.op import Op


def to_text(graph: Graph) -> str:
    """Return the graph as text: one line a node, grouped by scope, stable and diffable."""
    lines = [f"graph {graph.name}"]
    lines += [f"  input %{v.name}: {v.type}" for v in graph.inputs]
    lines += [f"  parameter %{p.name}: {p.type}" for p in graph.parameters]
    scope = None
    for node in graph.nodes:
        if node.scope != scope:
            scope = node.scope
            lines.append(f"  # {scope or '(top)'}")
        lines.append(f"  {_node_text(node)}")
    for index, (name, value) in enumerate(zip(graph.output_names, graph.outputs, strict=True)):
        source = graph.aliases.get(index)
        alias = "" if source is None else f"  (alias of %{graph.inputs[source].name})"
        lines.append(f"  output {name} = %{value.name}: {value.type}{alias}")
    return "\n".join(lines) + "\n"


def op_text(op: Op) -> str:
    """Return an op with its attributes, as `layer_norm{epsilon=1e-12}`."""
    attributes = ", ".join(f"{k}={_attribute_text(v)}" for k, v in op.attributes().items())
    return f"{op.name}{{{attributes}}}" if attributes else op.name


def _attribute_text(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ",".join(_attribute_text(v) for v in value) + "]"
    if isinstance(value, Graph):
        return "{" + "; ".join(line.strip() for line in to_text(value).splitlines()) + "}"
    return str(value)


def _node_text(node: Node) -> str:
    outputs = ", ".join(_typed(v) for v in node.outputs)
    inputs = ", ".join(f"%{v.name}" for v in node.inputs)
    source = f"  // {node.source}" if node.source else ""
    return f"{outputs} = {op_text(node.op)}({inputs}){source}"


def _typed(value: Value) -> str:
    return f"%{value.name}: {value.type}"

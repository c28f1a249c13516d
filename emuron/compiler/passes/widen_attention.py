"""The pass that takes attention apart where a head is wider than the partitions."""

from __future__ import annotations

from dataclasses import replace

from emuron.compiler.graph import Graph, Node
from emuron.compiler.ops.attention import Attention
from emuron.compiler.ops.wide_attention import WideAttention

MOST_HEAD_SIZE = 128
"""Elements of a head that the attention kernel takes: they lie on the partitions, 128 of them."""


def widen_attention(graph: Graph) -> Graph:
    """Return the graph with `wide_attention` where heads are too wide for the kernel."""
    return replace(graph, nodes=tuple(_widened(node) for node in graph.nodes))


def _widened(node: Node) -> Node:
    op = node.op
    if not isinstance(op, Attention) or op.window or op.softcap or op.sinks:
        return node
    if node.inputs[0].shape[3] <= MOST_HEAD_SIZE:
        return node
    return replace(node, op=WideAttention(op.scale, op.causal, op.masked, op.positioned))

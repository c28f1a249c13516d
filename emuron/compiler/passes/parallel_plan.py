"""Plans which linear layers are split over their outputs, and how."""

from __future__ import annotations

from collections.abc import Iterator

from emuron.compiler.graph import Graph, Node, Value
from emuron.compiler.ops.attention import Attention
from emuron.compiler.ops.binary import Binary, Relation, Select
from emuron.compiler.ops.shaping import Cast
from emuron.compiler.ops.softmax import Softmax
from emuron.compiler.ops.unary import Unary
from emuron.compiler.passes.sharding import HeadLayout, Split

_TO_HEADS = frozenset({"reshape", "permute", "rope", "scatter", "rms_norm", "layer_norm", "cast"})
"""What may stand between a linear layer and the attention whose heads it makes."""


def is_elementwise(node: Node) -> bool:
    """Tell whether each element of a node's output depends on the same element of its operands."""
    op = node.op
    return isinstance(op, Unary | Binary | Relation | Select | Cast) and not isinstance(op, Softmax)


def plan_linears(graph: Graph, ranks: int) -> dict[Node, Split]:
    """Return the split of the outputs of each linear layer that is to be split over them."""
    producer = {v: node for node in graph.nodes for v in node.outputs}
    planned: dict[Node, Split] = {}
    for node in graph.nodes:
        if isinstance(node.op, Attention):
            for linear, split in _of_attention(node, producer, ranks):
                planned.setdefault(linear, split)
    users: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            users.setdefault(value, []).append(node)
    ends = set(graph.outputs)
    for node in graph.nodes:
        if node.op.name == "linear" and node not in planned:
            value = node.outputs[0]
            if value in ends or _feeds_linear(value, users):
                last = value.type.rank - 1
                planned[node] = Split.even(last, value.shape[-1], ranks)
    return planned


def _of_attention(
    node: Node, producer: dict[Value, Node], ranks: int
) -> Iterator[tuple[Node, Split]]:
    """Yield the linear layers of queries, keys and values, if all three come from such."""
    heads, key_heads = node.inputs[0].shape[1], node.inputs[1].shape[1]
    layout = HeadLayout(heads, key_heads, ranks)
    found = []
    for value, count, parts in zip(
        node.inputs[:3],
        (heads, key_heads, key_heads),
        (layout.queries, layout.keys, layout.keys),
        strict=True,
    ):
        linear = _source(value, producer)
        if linear is None or linear.outputs[0].shape[-1] % count:
            return
        made = linear.outputs[0]
        split = Split(made.type.rank - 1, made.shape[-1], made.shape[-1] // count, parts)
        found.append((linear, split))
    yield from found


def _source(value: Value, producer: dict[Value, Node]) -> Node | None:
    """Return the linear layer that a value of heads comes from."""
    node = producer.get(value)
    while node is not None and node.op.name != "linear":
        if node.op.name == "scatter":
            value = node.inputs[1]
        elif node.op.name in _TO_HEADS or is_elementwise(node):
            value = next((v for v in node.inputs if _is_made(v, producer)), node.inputs[0])
        else:
            return None
        node = producer.get(value)
    return node


def _is_made(value: Value, producer: dict[Value, Node]) -> bool:
    """Tell whether a value is computed, not a weight, a number or the repetition of one."""
    node = producer.get(value)
    return node is not None and node.op.name not in ("broadcast", "full", "constant")


def _feeds_linear(value: Value, users: dict[Value, list[Node]]) -> bool:
    """Tell whether a linear layer contracts a value, elementwise operators between them."""
    seen, left = {value}, [value]
    while left:
        for node in users.get(left.pop(), ()):
            if node.op.name == "linear":
                return True
            if is_elementwise(node) and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                left.append(node.outputs[0])
    return False

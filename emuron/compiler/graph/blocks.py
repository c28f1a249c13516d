"""Splits a graph into layers and tells which layers are the same program."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from emuron.compiler.graph.graph import Graph, Node, Value
from emuron.compiler.graph.text import op_text


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive nodes of one layer with the values that enter and leave it.

    Blocks with equal `hash` compute the same function of `inputs` (activations, graph inputs and
    parameters, in order of first use) into `outputs`: one can stand for the other by position.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    hash: str


def layer_name(scope: str) -> str:
    """Return the scope up to its first number: `encoder.layer.3` of `encoder.layer.3.attention`."""
    parts = scope.split(".")
    for index, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: index + 1])
    return parts[0]


def split_blocks(graph: Graph) -> tuple[Block, ...]:
    """Cut the nodes, kept in order, into maximal runs of one layer."""
    runs: list[tuple[str, list[Node]]] = []
    for node in graph.nodes:
        name = layer_name(node.scope)
        if not runs or runs[-1][0] != name:
            runs.append((name, []))
        runs[-1][1].append(node)
    last_use = _last_use(graph, [nodes for _, nodes in runs])
    return tuple(
        _block(graph, name, nodes, index, last_use) for index, (name, nodes) in enumerate(runs)
    )


def block_hash(
    nodes: Sequence[Node], outputs: Iterable[Value] = (), parameters: Iterable[Value] = ()
) -> str:
    """Hash ops, types, attributes and wiring of `nodes`, whatever their names.

    `outputs` are the values that leave the block; `parameters` mark the inputs that are weights,
    so that a weight never stands for an activation.
    """
    weights = set(parameters)
    numbers: dict[Value, int] = {}
    lines: list[str] = []
    for node in nodes:
        for value in node.inputs:
            if value not in numbers:
                numbers[value] = len(numbers)
                kind = "parameter" if value in weights else "input"
                lines.append(f"{kind} {numbers[value]} {value.type}")
        for value in node.outputs:
            numbers[value] = len(numbers)
        reads = [numbers[v] for v in node.inputs]
        writes = [(numbers[v], str(v.type)) for v in node.outputs]
        lines.append(f"{writes} = {op_text(node.op)}{reads}")
    lines.append(f"outputs {[numbers.get(v, str(v.type)) for v in outputs]}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _last_use(graph: Graph, runs: list[list[Node]]) -> dict[Value, int]:
    last = {v: index for index, nodes in enumerate(runs) for node in nodes for v in node.inputs}
    last.update({v: len(runs) for v in graph.outputs})
    return last


def _block(
    graph: Graph, name: str, nodes: list[Node], index: int, last_use: dict[Value, int]
) -> Block:
    inside = {v for node in nodes for v in node.outputs}
    inputs = tuple(dict.fromkeys(v for node in nodes for v in node.inputs if v not in inside))
    outputs = tuple(v for node in nodes for v in node.outputs if last_use.get(v, index) > index)
    weights = tuple(p.value for p in graph.parameters)
    return Block(name, tuple(nodes), inputs, outputs, block_hash(nodes, outputs, weights))

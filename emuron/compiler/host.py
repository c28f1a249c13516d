"""Operators that the host computes between two programs: their work, and their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, Node, Value
from emuron.compiler.ops import Autocast
from emuron.numerics.rounding import in_dtype
from emuron.runtime.executable import HostOp, HostPart

_ENCLOSED = "lies between operators on the host"


def place_of(node: Node) -> str:
    """Return where a node comes from: the model's source line, else its layer."""
    return node.source or node.scope or node.name


def work(node: Node, reason: str = _ENCLOSED) -> HostOp:
    """Return what a node asks of the host that computes it."""
    inputs, outputs = (tuple(v.type for v in values) for values in (node.inputs, node.outputs))
    moved = sum(t.size_bytes for t in (*inputs, *outputs))
    return HostOp(node.op.name, place_of(node), node.op.flops(inputs, outputs), moved, reason)


def host_part(graph: Graph, cast: Autocast, reasons: Mapping[Node, str]) -> HostPart:
    """Return a part that evaluates a graph as operator fidelity does, so that bits are the same."""
    return HostPart(
        graph.name,
        tuple(work(node, reasons.get(node, _ENCLOSED)) for node in graph.nodes),
        tuple(v.name for v in graph.inputs),
        _Evaluation(graph, Evaluator(graph, "numpy", cast)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Evaluation:
    """Takes and returns values as the device stores them."""

    graph: Graph
    evaluator: Evaluator

    def __call__(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        inputs = {v.name: _in_type(stored[v.name], v) for v in self.graph.inputs}
        return self.evaluator.run(inputs)


def _in_type(array: np.ndarray, value: Value) -> np.ndarray:
    array = np.asarray(array)
    is_float = value.type.dtype.kind == "float"
    return in_dtype(array, value.type.dtype) if is_float else array

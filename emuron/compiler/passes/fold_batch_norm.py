"""Folds batch norms by known moments into the weights of the convolutions before them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from emuron.compiler.graph import Graph, Node, Parameter, TensorType, Value
from emuron.compiler.ops.channel_norm import BatchNorm
from emuron.compiler.ops.convolution import Conv
from emuron.numerics.dtypes import float32
from emuron.numerics.rounding import in_dtype


@dataclass(frozen=True, slots=True, eq=False)
class _Scale:
    """Reads scale[c] = weight / sqrt(variance + epsilon) of a norm, in float32."""

    epsilon: float
    weight: Parameter
    variance: Parameter

    def __call__(self) -> np.ndarray:
        inverse = 1 / np.sqrt(_loaded(self.variance) + np.float32(self.epsilon))
        return np.asarray(_loaded(self.weight) * inverse, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _FoldedWeight:
    """Reads a convolution's weight with each output channel scaled."""

    conv: Conv
    weight: Parameter
    scale: _Scale

    def __call__(self) -> np.ndarray:
        weight, scale = _loaded(self.weight), self.scale()
        if not self.conv.transposed:
            return np.asarray(weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)))
        groups = self.conv.groups
        split = weight.reshape(groups, -1, *weight.shape[1:])
        by_group = scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
        return np.asarray((split * by_group).reshape(weight.shape))


@dataclass(frozen=True, slots=True, eq=False)
class _FoldedBias:
    """Reads bias − mean·scale, plus the convolution's own bias scaled."""

    scale: _Scale
    bias: Parameter
    mean: Parameter
    own: Parameter | None

    def __call__(self) -> np.ndarray:
        own = np.float32(0) if self.own is None else _loaded(self.own)
        return np.asarray(_loaded(self.bias) + (own - _loaded(self.mean)) * self.scale())


def _loaded(parameter: Parameter) -> np.ndarray:
    return in_dtype(parameter.load(), float32)


def fold_batch_norm(graph: Graph) -> Graph:
    """Return the graph without the batch norms that follow a convolution alone.

    The convolution takes their scale into its weight and their shift into its bias. All must be
    parameters, and the convolution's result must go nowhere else.
    """
    fold = _Folding(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        made = fold.replaced(node)
        if made is not None:
            nodes.append(made)
    if not fold.made:
        return graph
    return replace(graph, nodes=tuple(nodes), parameters=(*graph.parameters, *fold.made.values()))


class _Folding:
    def __init__(self, graph: Graph) -> None:
        self.parameters = {p.value: p for p in graph.parameters}
        self.made: dict[str, Parameter] = {}
        uses = Counter(v for node in graph.nodes for v in node.inputs)
        uses.update(graph.outputs)
        producer = {v: node for node in graph.nodes for v in node.outputs}
        self.norms: dict[Node, Node] = {}  # by the convolution that takes them in
        for node in graph.nodes:
            conv = producer.get(node.inputs[0]) if isinstance(node.op, BatchNorm) else None
            if conv is not None and self._folds(conv, node, uses):
                self.norms[conv] = node
        self.gone = set(self.norms.values())

    def _folds(self, conv: Node, norm: Node, uses: Counter[Value]) -> bool:
        weights = (*conv.inputs[1:], *norm.inputs[1:])
        alone = uses[conv.outputs[0]] == 1
        return isinstance(conv.op, Conv) and alone and all(v in self.parameters for v in weights)

    def replaced(self, node: Node) -> Node | None:
        """Return a node as it stands in the new graph, None if it is gone."""
        if node in self.gone:
            return None
        norm = self.norms.get(node)
        if norm is None:
            return node
        assert isinstance(node.op, Conv)
        assert isinstance(norm.op, BatchNorm)
        weight, *own = (self.parameters[v] for v in node.inputs[1:])
        gamma, beta, mean, variance = (self.parameters[v] for v in norm.inputs[1:])
        scale = _Scale(norm.op.epsilon, gamma, variance)
        folded = _FoldedWeight(node.op, weight, scale)
        shift = _FoldedBias(scale, beta, mean, own[0] if own else None)
        name = f"{weight.name}, {gamma.name}"
        given = (weight, gamma, beta, mean, variance, *own)
        known = all(p.loader is not None for p in given)
        operands = [
            self._parameter(f"{name} folded", weight.type, folded if known else None),
            self._parameter(f"{name} shift", beta.type, shift if known else None),
        ]
        return replace(node, inputs=(node.inputs[0], *operands), outputs=norm.outputs)

    def _parameter(
        self, name: str, type: TensorType, loader: _FoldedWeight | _FoldedBias | None
    ) -> Value:
        if name not in self.made:  # layers that share their weights share these too
            self.made[name] = Parameter(Value(name, type), loader)
        return self.made[name].value

"""Lays weights out as the graph reads them, and gives products with weights their own operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

import numpy as np

from emuron.compiler.graph import Graph, Node, Parameter, TensorType, Value
from emuron.compiler.ops.contraction import Linear
from emuron.compiler.ops.shaping import Permute, Reshape
from emuron.compiler.passes.clean import drop_dead_nodes
from emuron.compiler.passes.matching import Matching, Pattern


def fold_weights(graph: Graph) -> Graph:
    """Return the graph in which products of rows with a weight matrix are `linear`.

    A permute or reshape of a parameter becomes a parameter that is laid out so when it is read;
    x @ weight becomes linear, and a bias that is added to it joins it.
    """
    match = _Folding(graph, _PATTERNS)
    for node in graph.nodes:
        match.visit(node)
    outputs = tuple(match.stands_for.get(v, v) for v in graph.outputs)
    parameters = tuple(match.parameters.values())
    folded = replace(graph, nodes=tuple(match.nodes), outputs=outputs, parameters=parameters)
    return drop_dead_nodes(folded)


@dataclass(slots=True, eq=False)
class _Folding(Matching):
    """A matching that also makes parameters; `turned` are the matrices that are transposes."""

    turned: dict[Value, Value] = field(default_factory=dict)

    def transposed(self, held: Parameter) -> Value:
        """Return the transpose of a matrix; that of a transpose is the matrix itself."""
        if held.value not in self.turned:
            type = held.type.with_shape(*held.type.shape[::-1])
            value = self.parameter(held, "T", type, np.transpose)
            self.turned |= {held.value: value, value: held.value}
        return self.turned[held.value]

    def parameter(self, held: Parameter, suffix: str, type: TensorType, lay: _Layout) -> Value:
        """Return a parameter whose data is that of another, laid out by `lay`."""
        name = f"{held.name}.{suffix}"
        known = next((v for v in self.parameters if v.name == name), None)
        if known is not None:
            return known
        loader = partial(_laid_out, held, lay) if held.loader is not None else None
        value = Value(name, type)
        self.parameters[value] = Parameter(value, loader)
        return value


_Layout = Callable[[np.ndarray], np.ndarray]


def _laid_out(held: Parameter, lay: _Layout) -> np.ndarray:
    return lay(held.load())


def _view_of_parameter(match: Matching, node: Node) -> Value | None:
    """Match a permute or reshape of a parameter."""
    held = match.parameters.get(node.inputs[0])
    if held is None or not isinstance(match, _Folding):
        return None
    type = node.outputs[0].type
    if isinstance(node.op, Permute):
        if node.op.axes == (1, 0):
            return match.transposed(held)
        suffix = f"permute_{'_'.join(map(str, node.op.axes))}"
        return match.parameter(held, suffix, type, partial(np.transpose, axes=node.op.axes))
    assert isinstance(node.op, Reshape)
    suffix = f"reshape_{'_'.join(map(str, type.shape))}"
    return match.parameter(held, suffix, type, partial(_reshaped, type.shape))


def _reshaped(shape: tuple[int, ...], array: np.ndarray) -> np.ndarray:
    return array.reshape(shape)


def _linear(match: Matching, node: Node) -> Value | None:
    """Match x @ weight of a matrix that is a parameter."""
    x, weight = node.inputs
    held = match.parameters.get(weight)
    if held is None or weight.type.rank != 2 or not isinstance(match, _Folding):
        return None
    return match.emit(node, Linear(), x, match.transposed(held))


def _bias(match: Matching, node: Node) -> Value | None:
    """Match linear(x, weight) + bias, a vector that is a parameter."""
    for product, spread in (node.inputs, node.inputs[::-1]):
        found = match.maker(match.through(product, "reshape"), "linear")
        if found is None or len(found.inputs) > 2 or not product.shape:
            continue
        if found.outputs[0].shape[-1] != product.shape[-1]:
            continue
        source = match.through(spread, "broadcast", "reshape")
        bias = match.vector(node, spread) if source in match.parameters else None
        if bias is None or bias.type.dtype != found.outputs[0].type.dtype:
            continue
        made = match.emit(node, Linear(), *found.inputs, bias)
        return match.reshape(node, made, *product.shape)
    return None


_PATTERNS: Mapping[str, tuple[Pattern, ...]] = MappingProxyType(
    {
        "add": (_bias,),
        "matmul": (_linear,),
        "permute": (_view_of_parameter,),
        "reshape": (_view_of_parameter,),
    }
)

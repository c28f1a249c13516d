"""Lays weights out as products read them, and gives products with weights their own operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from emuron.compiler.graph import Graph, Node, Op, Parameter, TensorType, Value
from emuron.compiler.ops.contraction import Linear
from emuron.compiler.ops.convolution import Conv
from emuron.compiler.ops.shaping import Broadcast, Permute, Reshape, Slice
from emuron.compiler.passes.clean import drop_dead_nodes
from emuron.compiler.passes.matching import Matching, Pattern


def fold_weights(graph: Graph) -> Graph:
    """Return the graph in which weights of products and convolutions are parameters as they lie.

    Where a weight is a permuted, reshaped or sliced parameter, it becomes a parameter that is laid
    out so when it is read; x @ weight becomes linear, and a bias that is added to it joins it. So
    does a convolution whose windows lie side by side: a product of patches.
    """
    match = _Folding(graph, _PATTERNS)
    for node in graph.nodes:
        match.visit(node)
    outputs = tuple(match.stands_for.get(v, v) for v in graph.outputs)
    parameters = tuple(match.parameters.values())
    folded = replace(graph, nodes=tuple(match.nodes), outputs=outputs, parameters=parameters)
    return drop_dead_nodes(folded)


_VIEWS = ("permute", "reshape", "slice")
_LEAST_INPUTS = 128  # elements of a patch that fill the partitions


@dataclass(slots=True, eq=False)
class _Folding(Matching):
    """A matching that also makes parameters, by what they are views of."""

    laid_out: dict[tuple[Value, tuple[Op, ...]], Value] = field(default_factory=dict)

    def weight(self, value: Value, *views: Op) -> Value | None:
        """Return the parameter that views make of the one a value is, through more of them."""
        chain = list(views)
        while (node := self.maker(value, *_VIEWS)) is not None:
            chain.insert(0, node.op)
            value = node.inputs[0]
        held = self.parameters.get(value)
        return None if held is None else self._view(held, _without_inverses(chain))

    def _view(self, held: Parameter, chain: tuple[Op, ...]) -> Value:
        """Return the parameter that is `held` through a chain of views."""
        key = (held.value, chain)
        if chain and key not in self.laid_out:
            type = held.type
            for op in chain:
                (type,) = op.infer(type)
            self.laid_out[key] = self._declared(held, chain, type)
        return self.laid_out[key] if chain else held.value

    def _declared(self, held: Parameter, chain: tuple[Op, ...], type: TensorType) -> Value:
        value = Value(".".join([held.name, *(_suffix(op) for op in chain)]), type)
        loader = partial(_laid_out, held, chain) if held.loader is not None else None
        self.parameters[value] = Parameter(value, loader)
        return value


def _without_inverses(chain: list[Op]) -> tuple[Op, ...]:
    """Return a chain of views without transposes that undo each other."""
    kept: list[Op] = []
    for op in chain:
        before = kept[-1] if kept else None
        if isinstance(op, Permute) and isinstance(before, Permute):
            kept.pop()
            axes = tuple(before.axes[a] for a in op.axes)
            if axes != tuple(range(len(axes))):
                kept.append(Permute(axes))
        else:
            kept.append(op)
    return tuple(kept)


def _suffix(op: Op) -> str:
    """Return what a view adds to a parameter's name."""
    if isinstance(op, Permute):
        return "T" if op.axes == (1, 0) else f"permute_{_listed(op.axes)}"
    if isinstance(op, Reshape):
        return f"reshape_{_listed(op.shape)}"
    assert isinstance(op, Slice)
    return f"slice_{_listed(op.starts)}_to_{_listed(op.stops)}_by_{_listed(op.steps)}"


def _listed(numbers: tuple[int, ...]) -> str:
    return "_".join(map(str, numbers))


_APPLY: Mapping[type[Op], Callable[[np.ndarray, dict[str, Any]], np.ndarray]] = MappingProxyType(
    {
        Permute: lambda x, a: np.transpose(x, a["axes"]),
        Reshape: lambda x, a: np.reshape(x, a["shape"]),
        Slice: lambda x, a: x[tuple(map(slice, a["starts"], a["stops"], a["steps"]))],
    }
)


def _laid_out(held: Parameter, chain: tuple[Op, ...]) -> np.ndarray:
    array = held.load()
    for op in chain:
        array = _APPLY[type(op)](array, op.attributes())
    return array


def _linear(match: Matching, node: Node) -> Value | None:
    """Match x @ weight of a matrix that is a parameter."""
    x, weight = node.inputs
    if weight.type.rank != 2 or not isinstance(match, _Folding):
        return None
    held = match.weight(weight, Permute((1, 0)))
    return None if held is None else match.emit(node, Linear(), x, held)


def _weight(match: Matching, node: Node) -> Value | None:
    """Match a convolution or linear layer whose weight is a view of a parameter."""
    weight = node.inputs[1]
    if weight in match.parameters or not isinstance(match, _Folding):
        return None
    held = match.weight(weight)
    operands = (node.inputs[0], held, *node.inputs[2:])
    return None if held is None else match.emit(node, node.op, *(v for v in operands if v))


def _patches(match: Matching, node: Node) -> Value | None:
    """Match a convolution of few channels whose windows lie side by side: an image in patches."""
    x, weight, *bias = node.inputs
    kernel, patch = weight.shape[2:], prod(weight.shape[1:])
    if not isinstance(match, _Folding) or not isinstance(node.op, Conv):
        return None
    one, held = (1,) * len(kernel), match.parameters.get(weight)
    alone = Conv(kernel, ((0, 0),) * len(kernel), one, one)
    if held is None or node.op != alone or patch < _LEAST_INPUTS or 2 * x.shape[1] > _LEAST_INPUTS:
        return None
    if any(size % length for size, length in zip(x.shape[2:], kernel, strict=True)):
        return None
    counts = node.outputs[0].shape[2:]
    split = [part for pair in zip(counts, kernel, strict=True) for part in pair]
    places = [range(first, 2 + 2 * len(kernel), 2) for first in (2, 3)]
    rows = match.reshape(node, x, *x.shape[:2], *split)
    rows = match.permute(node, rows, 0, *places[0], 1, *places[1])
    rows = match.reshape(node, rows, x.shape[0], *counts, patch)
    laid_out = match.weight(weight, Reshape((weight.shape[0], patch)))
    assert laid_out is not None
    made = match.emit(node, Linear(), rows, laid_out, *bias)
    return match.permute(node, made, 0, len(kernel) + 1, *range(1, len(kernel) + 1))


def _bias(match: Matching, node: Node) -> Value | None:
    """Match linear(x, weight) + bias, a vector that is a parameter."""
    for product, spread in (node.inputs, node.inputs[::-1]):
        found = match.maker(match.through(product, "reshape"), "linear")
        if found is None or len(found.inputs) > 2 or not product.shape:
            continue
        bias = _bias_vector(match, node, product, spread, found.outputs[0].shape[-1])
        if bias is None or bias not in match.parameters:
            continue
        if bias.type.dtype == found.outputs[0].type.dtype:
            made = match.emit(node, Linear(), *found.inputs, bias)
            return match.reshape(node, made, *product.shape)
    return None


def _bias_vector(
    match: Matching, node: Node, product: Value, spread: Value, outputs: int
) -> Value | None:
    """Return the vector that `spread` adds to each row, also where rows are split into heads."""
    if product.shape[-1] == outputs:
        return match.vector(node, spread)
    copied = match.maker(spread, "broadcast")
    source = copied.inputs[0] if copied is not None else spread
    if copied is None or not isinstance(copied.op, Broadcast) or source.type.elements != outputs:
        return None
    ranks = len(copied.op.dims)
    aligned = copied.op.dims == tuple(range(product.type.rank - ranks, product.type.rank))
    whole = [n for n in source.shape if n != 1] == _trailing(product.shape, outputs)
    if not aligned or not whole or not isinstance(match, _Folding):
        return None
    return match.weight(source, Reshape((outputs,)))


def _trailing(shape: tuple[int, ...], elements: int) -> list[int]:
    """Return the last sizes of a shape that hold so many elements, without 1s; [] if none do."""
    sizes: list[int] = []
    for size in reversed(shape):
        if prod(sizes) >= elements:
            break
        sizes.insert(0, size)
    return [n for n in sizes if n != 1] if prod(sizes) == elements else []


_PATTERNS: Mapping[str, tuple[Pattern, ...]] = MappingProxyType(
    {"add": (_bias,), "conv": (_weight, _patches), "linear": (_weight,), "matmul": (_linear,)}
)

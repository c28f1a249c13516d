"""Stores the weights of linear layers in 8 bits, a scale for each output: weight-only quantisation.

A weight w[o, i] is stored as q[o, i] = w[o, i] / scale[o], rounded to the stored dtype, where
scale[o] is the largest |w[o, i]| of its row over the largest number of that dtype. The product is
taken of x and q, and multiplied by the scale as it leaves PSUM (`linear` with `scaled`): sums as
exact as those of a dequantised weight, of which there is no copy. Activations are not quantised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from emuron.compiler.graph import Graph, Node, Parameter, TensorType, Value
from emuron.compiler.ops.contraction import Linear
from emuron.errors import UnknownNameError
from emuron.numerics.dtypes import DType, float8_e4m3, float32, int8
from emuron.numerics.rounding import in_dtype


def quantize_weights_to_int8(graph: Graph) -> Graph:
    """Return the graph with the weights of its linear layers as int8, from -127 to 127."""
    return _quantized(graph, int8)


def quantize_weights_to_fp8(graph: Graph) -> Graph:
    """Return the graph with the weights of its linear layers as float8_e4m3, up to 240."""
    return _quantized(graph, float8_e4m3)


WEIGHT_FORMATS: Mapping[str, Callable[[Graph], Graph]] = MappingProxyType(
    {"int8": quantize_weights_to_int8, "fp8": quantize_weights_to_fp8}
)
"""The pass for each value of `--weights`."""


def weight_passes(weights: str) -> tuple[Callable[[Graph], Graph], ...]:
    """Return the passes that store weights as `weights`, "" as they are; else UnknownNameError."""
    if weights and weights not in WEIGHT_FORMATS:
        raise UnknownNameError("weight format", weights, WEIGHT_FORMATS)
    return (WEIGHT_FORMATS[weights],) if weights else ()


def _quantized(graph: Graph, to: DType) -> Graph:
    """Return the graph with parameters that only linear layers multiply by stored as `to`.

    A matrix that is also a table of embeddings stays as it is: a copy would take more memory.
    """
    kept = {v for node in graph.nodes for i, v in enumerate(node.inputs) if not _weighs(node, i)}
    kept.update(graph.outputs)
    read = {node.inputs[1] for node in graph.nodes if _weighs(node, 1)}
    made = {
        p.value: _stored(p, to) for p in graph.parameters if p.value in read and p.value not in kept
    }
    nodes = tuple(_rewired(node, made) for node in graph.nodes)
    parameters = tuple(q for p in graph.parameters for q in made.get(p.value, (p,)))
    return replace(graph, nodes=nodes, parameters=parameters)


def _weighs(node: Node, operand: int) -> bool:
    """Tell whether an operand is the weight of a linear layer in floating point."""
    return operand == 1 and isinstance(node.op, Linear) and not node.op.scaled


def _rewired(node: Node, made: Mapping[Value, tuple[Parameter, Parameter]]) -> Node:
    if not _weighs(node, 1) or node.inputs[1] not in made:
        return node
    x, weight, *bias = node.inputs
    stored, scale = made[weight]
    return replace(node, op=Linear(scaled=True), inputs=(x, stored.value, scale.value, *bias))


def _stored(weight: Parameter, to: DType) -> tuple[Parameter, Parameter]:
    """Return the parameters that hold a weight in 8 bits, and the scale of its rows."""
    known = weight.loader is not None
    stored = Value(f"{weight.name} as {to}", weight.type.with_dtype(to))
    scale = Value(f"{weight.name} scale", TensorType(weight.type.shape[:1], float32))
    return (
        Parameter(stored, _Quantized(weight, to) if known else None),
        Parameter(scale, _Scale(weight, to) if known else None),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Scale:
    """Reads scale[o] = max over i of |w[o, i]| / the largest number of `to`."""

    weight: Parameter
    to: DType

    def __call__(self) -> np.ndarray:
        return _scale_of(in_dtype(self.weight.load(), float32), self.to)


@dataclass(frozen=True, slots=True, eq=False)
class _Quantized:
    """Reads w[o, i] / scale[o] as `to`."""

    weight: Parameter
    to: DType

    def __call__(self) -> np.ndarray:
        weight = in_dtype(self.weight.load(), float32)
        return in_dtype(weight / _scale_of(weight, self.to)[:, None], self.to)


def _scale_of(weight: np.ndarray, to: DType) -> np.ndarray:
    """Return the scale of each row, float32; the smallest normal number for rows of zeros."""
    largest = np.abs(weight).max(axis=1, initial=0)
    return np.asarray(np.maximum(largest / np.float32(to.max), np.finfo(np.float32).tiny))

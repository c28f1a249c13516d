"""The SSA tensor graph: values, nodes, parameters and the graph that holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from emuron.compiler.graph.op import Op
from emuron.compiler.graph.tensor_type import TensorType
from emuron.errors import UnknownNameError, UsageError


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor in the graph; two values are equal only if they are the same object."""

    name: str
    type: TensorType

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.type.shape

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A named weight; its data is read when asked for, and never held by the graph."""

    value: Value
    loader: Callable[[], np.ndarray] | None = None

    @property
    def name(self) -> str:
        """Name of the weight, as in the model's file."""
        return self.value.name

    @property
    def type(self) -> TensorType:
        """Type the graph uses it in; the file may hold another dtype."""
        return self.value.type

    def load(self) -> np.ndarray:
        """Return the stored array as its source holds it (shape checked, dtype the source's)."""
        if self.loader is None:
            raise UsageError(
                f"parameter {self.name!r} has no data: this graph was built from shapes alone and "
                "can be timed but not run; load a folder with weights, or use random weights"
            )
        array = self.loader()
        if tuple(array.shape) != self.type.shape:
            raise UsageError(
                f"parameter {self.name!r} has shape {list(array.shape)} where the graph expects "
                f"{list(self.type.shape)}; check that the weights belong to this config"
            )
        return array


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One application of an op; `scope` names the layer, `source` the line it came from."""

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    name: str
    scope: str = ""
    source: str = ""

    def __repr__(self) -> str:
        return f"{self.name} = {self.op.name}({', '.join(v.name for v in self.inputs)})"


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A functional, statically shaped SSA graph; `aliases` maps output index to input index."""

    name: str
    inputs: tuple[Value, ...]
    parameters: tuple[Parameter, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...]
    aliases: dict[int, int] = field(default_factory=dict)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Distinct scopes of the nodes, in order of first appearance."""
        return tuple(dict.fromkeys(node.scope for node in self.nodes))

    def nodes_in(self, scope: str) -> tuple[Node, ...]:
        """Return the nodes whose scope is `scope` or lies within it."""
        inside = scope + "."
        return tuple(n for n in self.nodes if n.scope == scope or n.scope.startswith(inside))

    def input(self, name: str) -> Value:
        """Return the input called `name`; raise UnknownNameError otherwise."""
        for value in self.inputs:
            if value.name == name:
                return value
        raise UnknownNameError("graph input", name, tuple(v.name for v in self.inputs))

    @property
    def state_bytes(self) -> int:
        """Bytes of the inputs whose memory outputs take over (a KV cache)."""
        return sum(self.inputs[i].type.size_bytes for i in self.aliases.values())

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters in the dtypes that the graph uses."""
        return sum(p.type.size_bytes for p in self.parameters)

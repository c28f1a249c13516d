"""What is known of a graph's values while a front end builds it: constants and what follows."""

from __future__ import annotations

from functools import partial

import numpy as np

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, Node, Parameter, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.ops.creation import MOST_CONSTANT_ELEMENTS
from emuron.errors import EmuronError, OutOfBoundsError, UnsupportedOpError
from emuron.numerics.dtypes import DType, dtype

_NARROWED = {"int64": "int32", "uint64": "uint32", "float64": "float32"}
_MOST_FOLDED_ELEMENTS = 1 << 16
_MOST_FOLDED_DEPTH = 200


def narrowed(source: object) -> DType:
    """Return the dtype that stands for a source's: 64 bits become 32; complex is refused."""
    name = str(np.dtype(source)) if not isinstance(source, str) else source  # type: ignore[call-overload]
    if name.startswith("complex"):
        raise UnsupportedOpError(f"{name} numbers have no place on the chip; use pairs of floats")
    return dtype(_NARROWED.get(name, name))


def narrow(array: np.ndarray, what: str) -> np.ndarray:
    """Return an array in the dtype that stands for its own; raise OutOfBoundsError beyond it."""
    to = narrowed(array.dtype)
    if array.dtype == to.np:
        return array
    if array.dtype.kind in "iu" and array.size and (array.min() < to.min or array.max() > to.max):
        raise OutOfBoundsError(f"{what} holds integers beyond 32 bits, which the chip lacks")
    return array.astype(to.np)


class KnownValues:
    """The constants of a growing graph: written into it where needed, computed where asked for."""

    def __init__(self, b: GraphBuilder) -> None:
        """Follow the graph that `b` builds."""
        self.b = b
        self._arrays: dict[Value, np.ndarray | None] = {}
        self._long: dict[Value, Parameter] = {}

    def value(self, array: np.ndarray, name: str = "constant") -> Value:
        """Return a value of the graph that holds `array`; long data becomes a parameter."""
        array = narrow(np.asarray(array), name)
        type = TensorType(array.shape, dtype(array.dtype))
        first = array.reshape(-1)[:1].tolist()
        if array.size == 1 or (array.size and bool((array == first[0]).all())):
            value = self.b.full(first[0], type.shape, type.dtype)
        elif 0 < array.size <= MOST_CONSTANT_ELEMENTS:
            value = self.b.constant(array.reshape(-1).tolist(), type)
        else:
            loader = partial(np.asarray, array)
            value = self.b.parameter(f"{name}.{len(self._long)}", type, loader)
            self._long[value] = Parameter(value, loader)
        self._arrays[value] = array
        return value

    def array(self, value: Value) -> np.ndarray | None:
        """Return what a value is if it follows from constants alone and is small, else None."""
        if value not in self._arrays:
            self._arrays[value] = self._computed(value)
        return self._arrays[value]

    def _computed(self, value: Value) -> np.ndarray | None:
        nodes: dict[Node, None] = {}
        if not self._follows(value, nodes, _MOST_FOLDED_DEPTH):
            return None
        used = {v for node in nodes for v in node.inputs}
        parameters = tuple(p for v, p in self._long.items() if v in used)
        graph = Graph("constant", (), parameters, tuple(nodes), (value,), ("value",))
        try:
            return np.asarray(Evaluator(graph).run({})["value"])
        except EmuronError:
            return None

    def _follows(self, value: Value, nodes: dict[Node, None], depth: int) -> bool:
        """Collect, in order, the nodes that make a value; tell whether all are of constants."""
        node = self.b.maker(value)
        if value in self._long or node in nodes:
            return True
        refused = self._arrays.get(value, value) is None
        if node is None or refused or not depth or value.type.elements > _MOST_FOLDED_ELEMENTS:
            return False
        if not all(self._follows(v, nodes, depth - 1) for v in node.inputs):
            self._arrays[value] = None
            return False
        nodes[node] = None
        return True

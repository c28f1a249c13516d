"""Records nodes one by one into a Graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np

from emuron.compiler.graph.graph import Graph, Node, Parameter, Value
from emuron.compiler.graph.op import Op
from emuron.compiler.graph.tensor_type import TensorType
from emuron.compiler.graph.verify import verify
from emuron.errors import EmuronError, UsageError


class NodeBuilder:
    """Grows a graph: inputs, parameters, nodes, outputs; `finish` freezes and verifies it."""

    def __init__(self, name: str) -> None:
        """Start an empty graph called `name`."""
        self.name = name
        self._inputs: list[Value] = []
        self._parameters: dict[str, Parameter] = {}
        self._nodes: list[Node] = []
        self._makers: dict[Value, Node] = {}
        self._outputs: dict[str, Value] = {}
        self._aliases: dict[int, int] = {}
        self._counts: Counter[str] = Counter()
        self._reserved: frozenset[str] = frozenset()
        self._scope: tuple[str, ...] = ()
        self._source = ""

    def input(self, name: str, type: TensorType) -> Value:
        """Declare a graph input."""
        if any(v.name == name for v in self._inputs):
            raise UsageError(f"graph {self.name!r} already has an input called {name!r}")
        value = Value(name, type)
        self._inputs.append(value)
        return value

    def parameter(
        self, name: str, type: TensorType, loader: Callable[[], np.ndarray] | None = None
    ) -> Value:
        """Declare the weight `name`, or return it if declared before with the same type."""
        known = self._parameters.get(name)
        if known is None:
            known = self._parameters[name] = Parameter(Value(name, type), loader)
        elif known.type != type:
            raise UsageError(f"parameter {name!r} is used both as {known.type} and as {type}")
        return known.value

    def append(self, op: Op, *inputs: Value, name: str = "") -> tuple[Value, ...]:
        """Append a node and return its outputs; type errors name the node's scope and source."""
        label = self._label(name or op.name)
        try:
            types = op.infer(*(v.type for v in inputs))
        except EmuronError as error:
            where = ".".join(self._scope) or self.name
            at = f" ({self._source})" if self._source else ""
            raise UsageError(f"{op.name} in {where}{at}: {error}") from error
        names = [label] if len(types) == 1 else [f"{label}.{i}" for i in range(len(types))]
        outputs = tuple(Value(n, t) for n, t in zip(names, types, strict=True))
        scope = ".".join(self._scope)
        node = Node(op, inputs, outputs, label, scope, self._source)
        self._nodes.append(node)
        self._makers.update(dict.fromkeys(outputs, node))
        return outputs

    def maker(self, value: Value) -> Node | None:
        """Return the node that computes a value; None for an input or a parameter."""
        return self._makers.get(value)

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names, those of inputs and parameters to come, from being given to nodes."""
        self._reserved = self._reserved.union(names)

    def _label(self, stem: str) -> str:
        while True:
            self._counts[stem] += 1
            label = f"{stem}_{self._counts[stem]}"
            if label not in self._reserved:
                return label

    def inputs_behind(self, value: Value) -> tuple[Value, ...]:
        """Return the graph's inputs that a value depends on."""
        needed = {value}
        for node in reversed(self._nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
        return tuple(v for v in self._inputs if v in needed)

    def inline(self, body: Graph, operands: Sequence[Value]) -> tuple[Value, ...]:
        """Append the nodes of another graph, applied to `operands`, and return its outputs."""
        found = dict(zip(body.inputs, operands, strict=True))
        for node in body.nodes:
            with self.scope(node.scope) if node.scope else nullcontext():
                made = self.append(node.op, *(found[v] for v in node.inputs))
            found.update(zip(node.outputs, made, strict=True))
        return tuple(found[v] for v in body.outputs)

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Nest the nodes added within under the layer `name`."""
        before = self._scope
        self._scope = (*before, name)
        try:
            yield
        finally:
            self._scope = before

    @contextmanager
    def at(self, source: str) -> Iterator[None]:
        """Mark the nodes added within as coming from the source line `source`."""
        before, self._source = self._source, source
        try:
            yield
        finally:
            self._source = before

    def output(self, name: str, value: Value, alias: Value | None = None) -> None:
        """Declare an output; `alias` is the graph input whose memory it takes over (KV cache)."""
        if name in self._outputs:
            raise UsageError(f"graph {self.name!r} already has an output called {name!r}")
        if alias is not None:
            self._aliases[len(self._outputs)] = next(
                i for i, v in enumerate(self._inputs) if v is alias
            )
        self._outputs[name] = value

    def finish(self) -> Graph:
        """Freeze and verify the graph."""
        graph = Graph(
            self.name,
            tuple(self._inputs),
            tuple(self._parameters.values()),
            tuple(self._nodes),
            tuple(self._outputs.values()),
            tuple(self._outputs),
            dict(self._aliases),
        )
        verify(graph)
        return graph

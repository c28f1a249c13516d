"""One rank's graph while it grows: operands whole or split, gathered where both do not meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from emuron.compiler.graph import Graph, Node, Op, Parameter, Value
from emuron.compiler.ops import collectives, shaping
from emuron.compiler.passes.parallel_parts import remake
from emuron.compiler.passes.parallel_plan import plan_linears
from emuron.compiler.passes.sharding import PADDING, ShardLoader, Split, local_type


@dataclass(eq=False)
class Partitioner:
    """Grows one rank's graph node by node; `rules` ask it for operands, whole or split."""

    graph: Graph
    ranks: int
    table_elements: int
    nodes: list[Node] = field(default_factory=list)
    found: dict[Value, tuple[Value, Split | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns = plan_linears(self.graph, self.ranks)
        self.producer = {v: node for node in self.graph.nodes for v in node.outputs}
        self._parameters = {p.value: p for p in self.graph.parameters}
        self._shards: dict[tuple[Value, Split], Value] = {}
        self._gathered: dict[Value, Value] = {}
        self._parts: dict[tuple[Value, Split], Value | None] = {}
        self._state = {self.graph.inputs[i] for i in self.graph.aliases.values()}
        self._at: Node | None = None

    def begin(self, node: Node) -> None:
        """Let what is appended from here on stand for a node."""
        self._at = node

    def set(self, node: Node, values: Iterable[Value], split: Split | None) -> None:
        """State what a node's outputs have become."""
        for old, new in zip(node.outputs, values, strict=True):
            self.found[old] = (new, split)

    def emit(self, op: Op, inputs: Sequence[Value], part: str = "") -> tuple[Value, ...]:
        """Append an operator in the place of the current node and return its outputs."""
        at = self._at
        assert at is not None
        types = op.infer(*(v.type for v in inputs))
        name = at.name if op is at.op or not part else f"{at.name}.{part}"
        if part:
            name = f"{name}.{len(self.nodes)}"
        names = [name] if len(types) == 1 else [f"{name}.{i}" for i in range(len(types))]
        outputs = tuple(Value(n, t) for n, t in zip(names, types, strict=True))
        self.nodes.append(Node(op, tuple(inputs), outputs, name, at.scope, at.source))
        return outputs

    def one(self, op: Op, inputs: Sequence[Value], part: str) -> Value:
        """Append an operator of one output and return it."""
        return self.emit(op, inputs, part)[0]

    def split_of(self, value: Value) -> Split | None:
        """Return how a value is split, None where it is whole."""
        return self.found[value][1] if value in self.found else None

    def is_parameter(self, value: Value) -> bool:
        """Whether a value is a weight."""
        return value in self._parameters

    def whole(self, value: Value) -> Value:
        """Return a value as every rank has it whole, gathered if it is split."""
        if value not in self.found:
            self.found[value] = (value, None)
        local, split = self.found[value]
        if split is None:
            return local
        if value not in self._gathered:
            self._gathered[value] = self.gather(local, split)
        return self._gathered[value]

    def gather(self, local: Value, split: Split) -> Value:
        """Gather what is split and bring it into order, without padding and copies."""
        together = self.one(collectives.AllGather(self.ranks, split.dim), [local], "all_gather")
        places = np.concatenate([split.places(rank) for rank in range(self.ranks)])
        first = np.zeros(split.size, np.int64)
        kept = np.flatnonzero(places != PADDING)[::-1]
        first[places[kept]] = kept
        starts = [0, *(np.flatnonzero(np.diff(first) != 1) + 1), split.size]
        runs = [
            self._range(together, split.dim, int(first[a]), int(b - a)) for a, b in pairwise(starts)
        ]
        if len(runs) == 1:
            return runs[0]
        return self.one(shaping.Concat(split.dim), runs, "ordered")

    def _range(self, value: Value, dim: int, start: int, count: int) -> Value:
        if count == value.shape[dim]:
            return value
        starts, stops = [0] * value.type.rank, list(value.shape)
        starts[dim], stops[dim] = start, start + count
        op = shaping.Slice(tuple(starts), tuple(stops), (1,) * value.type.rank)
        return self.one(op, [value], "part")

    def split(self, value: Value, wanted: Split) -> Value | None:
        """Return a rank's part of a value, None where only a whole or another part is at hand."""
        known = self.found.get(value)
        if known is not None and known[1] is not None:
            return known[0] if known[1] == wanted else None
        if value in self._parameters:
            return self.shard(value, wanted)
        if value in self._state and known is None:
            self.found[value] = (Value(value.name, local_type(value, wanted)), wanted)
            return self.found[value][0]
        return self._remade(value, wanted)

    def shard(self, value: Value, split: Split) -> Value:
        """Return a rank's part of a weight."""
        key = (value, split)
        if key not in self._shards:
            others = sum(known is value for known, _ in self._shards)
            name = f"{value.name}.{others}" if others else value.name
            self._shards[key] = Value(name, local_type(value, split))
        return self._shards[key]

    def _remade(self, value: Value, wanted: Split) -> Value | None:
        """Return a part of what every rank can compute part by part, made once."""
        key = (value, wanted)
        if key not in self._parts:
            node = self.producer.get(value)
            self._parts[key] = None if node is None else remake(self, node, wanted)
        return self._parts[key]

    def finish(self) -> tuple[Graph, dict[str, Split]]:
        """Return one rank's graph, and the splits of inputs and outputs that are not whole."""
        graph, splits = self.graph, dict[str, Split]()
        states = {o: graph.inputs[i] for o, i in graph.aliases.items()}
        outputs = []
        for index, value in enumerate(graph.outputs):
            split = self.split_of(value)
            if split is not None and index in states and self.split_of(states[index]) == split:
                splits[graph.output_names[index]] = split
                outputs.append(self.found[value][0])
            else:
                outputs.append(self.whole(value))
        for value in graph.inputs:
            if (split := self.split_of(value)) is not None:
                splits[value.name] = split
        made = replace(
            graph,
            name=f"{graph.name}_tp{self.ranks}",
            inputs=tuple(self.found.get(v, (v, None))[0] for v in graph.inputs),
            parameters=self._used_parameters(outputs),
            nodes=tuple(self.nodes),
            outputs=tuple(outputs),
        )
        return made, splits

    @property
    def shards(self) -> dict[Value, tuple[Parameter, Split]]:
        """Of each split weight of the rank's graph: what it is a part of, and how."""
        return {v: (self._parameters[w], split) for (w, split), v in self._shards.items()}

    def _used_parameters(self, outputs: Sequence[Value]) -> tuple[Parameter, ...]:
        used = {v for node in self.nodes for v in node.inputs} | set(outputs)
        kept = [p for p in self.graph.parameters if p.value in used]
        for value, (source, split) in self.shards.items():
            loader = None if source.loader is None else ShardLoader(source.load, split, 0)
            kept.append(Parameter(value, loader))
        return tuple(kept)

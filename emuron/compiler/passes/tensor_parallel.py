"""Tensor parallelism: turns a graph into the graph of one of several ranks.

As NxD and Transformers NeuronX do: linear layers go in pairs, the first split over its outputs, the
second over its inputs, whose partial sums an all-reduce adds; attention is split over heads; the
language-model head over the vocabulary; a large embedding over its features. What has no rule runs
whole on every rank, after an all-gather where its operands are split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emuron.compiler.graph import Graph, Parameter, Value
from emuron.compiler.passes.clean import drop_dead_nodes
from emuron.compiler.passes.parallel_rules import apply_rule
from emuron.compiler.passes.partitioner import Partitioner
from emuron.compiler.passes.sharding import ShardLoader, Split
from emuron.errors import UsageError

SHARDED_TABLE_ELEMENTS = 1 << 22
"""A smaller embedding is kept whole: its memory is not worth a collective."""


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """A graph laid over `ranks` ranks: the graph that each of them runs, on its own weights.

    `splits` says which inputs and outputs of `whole`, by name, are split (the KV cache); all others
    are the same on every rank. `shards` has the split of each parameter of `graph` that is split,
    with the parameter of `whole` that it is a part of.
    """

    whole: Graph
    graph: Graph
    ranks: int
    splits: Mapping[str, Split]
    shards: Mapping[Value, tuple[Parameter, Split]]

    def of_rank(self, rank: int) -> Graph:
        """Return the graph with the weights of one rank."""
        if not 0 <= rank < self.ranks:
            raise UsageError(f"rank {rank} is not one of the {self.ranks} ranks from 0 on")
        parameters = tuple(self._parameter(p, rank) for p in self.graph.parameters)
        return replace(self.graph, parameters=parameters)

    def inputs_of(self, inputs: Mapping[str, np.ndarray], rank: int) -> dict[str, np.ndarray]:
        """Return what a rank is given of the whole graph's inputs."""
        return {
            name: self.splits[name].take(array, rank) if name in self.splits else array
            for name, array in inputs.items()
        }

    def joined(self, outputs: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the whole graph's outputs from those of the ranks."""
        return {
            name: self.splits[name].join([part[name] for part in outputs])
            if name in self.splits
            else array
            for name, array in outputs[0].items()
        }

    def _parameter(self, parameter: Parameter, rank: int) -> Parameter:
        shard = self.shards.get(parameter.value)
        if shard is None or shard[0].loader is None:
            return parameter
        source, split = shard
        return Parameter(parameter.value, ShardLoader(source.load, split, rank))


def partition(graph: Graph, ranks: int, table_elements: int = SHARDED_TABLE_ELEMENTS) -> Partition:
    """Lay a graph over ranks; embeddings of at least `table_elements` elements are split.

    Raises UsageError for less than one rank.
    """
    if ranks < 1:
        raise UsageError(f"a model is spread over at least one core, not {ranks}")
    p = Partitioner(graph, ranks, table_elements)
    for node in graph.nodes:
        p.begin(node)
        if not apply_rule(p, node):
            p.set(node, p.emit(node.op, [p.whole(v) for v in node.inputs]), None)
    made, splits = p.finish()
    made = drop_dead_nodes(made)
    return Partition(graph, made, ranks, splits, p.shards)

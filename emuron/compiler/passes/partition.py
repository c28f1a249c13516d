"""Cuts a graph into parts that run on the device and parts that the host computes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from emuron.compiler.graph import Graph, Node, Value


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Nodes that run one after another at one place, as a graph of their own."""

    graph: Graph
    on_host: bool


def partition(graph: Graph, on_host: Collection[Node]) -> tuple[Part, ...]:
    """Cut a graph into as few alternating parts as its order allows; `on_host` run on the host.

    A node whose values only pass between nodes on the host goes there too. Values that cross
    become inputs and outputs of the parts under their own names.
    """
    if not on_host:
        return (Part(graph, False),)
    placed = _with_what_they_enclose(graph, set(on_host))
    runs = _alternate(graph, placed)
    return tuple(_part(graph, runs, number, placed) for number in range(len(runs)))


def _with_what_they_enclose(graph: Graph, placed: set[Node]) -> set[Node]:
    """Return the nodes on the host with those that lie between them and feed nothing else."""
    made_by = {v: node for node in graph.nodes for v in node.outputs}
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    parameters = {p.value for p in graph.parameters}
    grown = True
    while grown:
        before = len(placed)
        for node in graph.nodes:
            sources = [made_by.get(v) for v in node.inputs if v not in parameters]
            users = [user for v in node.outputs for user in readers.get(v, ())]
            if (
                not node.op.contracts
                and all(source is None or source in placed for source in sources)
                and users
                and all(user in placed for user in users)
            ):
                placed.add(node)
        grown = len(placed) > before
    return placed


def _alternate(graph: Graph, placed: Collection[Node]) -> list[list[Node]]:
    """Return runs of nodes of one place, each as long as what is computed by then allows."""
    known: set[Value] = {*graph.inputs, *(p.value for p in graph.parameters)}
    left = list(graph.nodes)
    runs: list[list[Node]] = []
    host_turn = False
    while left:
        run: list[Node] = []
        later: list[Node] = []
        for node in left:
            if (node in placed) is host_turn and known.issuperset(node.inputs):
                run.append(node)
                known.update(node.outputs)
            else:
                later.append(node)
        if run:
            runs.append(run)
        left, host_turn = later, not host_turn
    return runs


def _part(graph: Graph, runs: list[list[Node]], number: int, placed: Collection[Node]) -> Part:
    nodes = runs[number]
    inside = {v for node in nodes for v in node.outputs}
    read = dict.fromkeys(v for node in nodes for v in node.inputs if v not in inside)
    later = {v for run in runs[number + 1 :] for node in run for v in node.inputs}
    later.update(graph.outputs)
    untouched = _untouched_outputs(graph) if number == len(runs) - 1 else ()
    read.update(dict.fromkeys(untouched))
    outputs = (*(v for node in nodes for v in node.outputs if v in later), *untouched)
    parameters = tuple(p for p in graph.parameters if p.value in read)
    weights = {p.value for p in parameters}
    inputs = tuple(v for v in read if v not in weights)
    part = Graph(
        f"{graph.name}.{number}",
        inputs,
        parameters,
        tuple(nodes),
        outputs,
        tuple(v.name for v in outputs),
        _aliases(graph, inputs, outputs),
    )
    return Part(part, nodes[0] in placed)


def _untouched_outputs(graph: Graph) -> tuple[Value, ...]:
    """Return the parameters that leave the graph as they are."""
    parameters = {p.value for p in graph.parameters}
    return tuple(dict.fromkeys(v for v in graph.outputs if v in parameters))


def _aliases(graph: Graph, inputs: tuple[Value, ...], outputs: Iterable[Value]) -> dict[int, int]:
    """Return the aliases of a graph that hold within one part."""
    wanted = {graph.outputs[o]: graph.inputs[i] for o, i in graph.aliases.items()}
    places = {value: i for i, value in enumerate(inputs)}
    return {
        o: places[wanted[value]]
        for o, value in enumerate(outputs)
        if value in wanted and wanted[value] in places
    }

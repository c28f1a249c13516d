"""Dead nodes go, equal nodes are shared, and the meaning stays."""

from __future__ import annotations

import numpy as np

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.passes.clean import drop_dead_nodes, share_equal_nodes
from emuron.numerics.dtypes import float32

X = TensorType((3, 4), float32)


def graph() -> Graph:
    """Return tanh(x) + tanh(x) with the tanh taken twice, and an exp that nobody reads."""
    b = GraphBuilder("g")
    x = b.input("x", X)
    unused = b.parameter("unused", X, lambda: np.ones(X.shape, np.float32))
    b.add(x, unused)
    b.output("y", b.add(b.tanh(x), b.tanh(x)))
    return b.finish()


def names(made: Graph) -> list[str]:
    return [node.op.name for node in made.nodes]


def test_nodes_and_parameters_that_nobody_reads_are_dropped() -> None:
    cleaned = drop_dead_nodes(graph())
    assert names(cleaned) == ["tanh", "tanh", "add"]
    assert not cleaned.parameters


def test_equal_nodes_are_computed_once() -> None:
    assert names(share_equal_nodes(drop_dead_nodes(graph()))) == ["tanh", "add"]


def test_equal_nodes_of_other_layers_stay_apart() -> None:
    b = GraphBuilder("g")
    x = b.input("x", X)
    parts = []
    for i in range(2):
        with b.scope(f"layer.{i}"):
            parts.append(b.tanh(x))
    b.output("y", b.add(*parts))
    assert names(share_equal_nodes(b.finish())) == ["tanh", "tanh", "add"]


def test_an_output_is_never_merged_away() -> None:
    b = GraphBuilder("g")
    x = b.input("x", X)
    b.output("y", b.tanh(x))
    b.output("z", b.tanh(x))
    assert names(share_equal_nodes(b.finish())) == ["tanh", "tanh"]


def test_evaluate_is_unchanged() -> None:
    made = graph()
    x = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
    before = Evaluator(made, "numpy").run({"x": x})["y"]
    after = Evaluator(share_equal_nodes(drop_dead_nodes(made)), "numpy").run({"x": x})["y"]
    np.testing.assert_array_equal(before, after)

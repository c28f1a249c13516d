"""The budget of SBUF, and what a value is stored as."""

from __future__ import annotations

from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.passes.residency import Residency
from emuron.numerics.dtypes import bfloat16, float32

X = TensorType((2, 100, 64), float32)


def graph(read_twice: bool = False) -> Graph:
    """Return tanh(x) · wᵀ, the tanh also added to itself if `read_twice`."""
    b = GraphBuilder("g")
    y = b.tanh(b.input("x", X))
    weight = b.parameter("w", TensorType((32, 64), float32), lambda: None)
    b.output("z", b.linear(b.reshape(y, 200, 64), weight))
    if read_twice:
        b.output("double", b.add(y, y))
    return b.finish()


def test_the_budget_is_spent_and_given_back() -> None:
    residency = Residency(graph(), Autocast(), 100)
    assert residency.take(60)
    assert not residency.take(60)
    residency.give_back(60)
    assert residency.take(100)


def test_rows_past_128_take_another_block_of_every_partition() -> None:
    residency = Residency(graph(), Autocast(), 0)
    assert residency.bytes_of((2, 64, 64), float32) == 64 * 4
    assert residency.bytes_of((2, 100, 64), float32) == 2 * 64 * 4
    assert residency.bytes_of((2, 100, 64), bfloat16) == 2 * 64 * 2


def test_what_only_products_read_is_stored_as_they_read_it() -> None:
    made = graph()
    residency = Residency(made, Autocast("matmult"), 0)
    assert residency.stored_dtype(made.nodes[0].outputs[0]) == bfloat16
    assert residency.stored_dtype(made.outputs[0]) == float32


def test_what_a_sum_reads_too_keeps_its_dtype() -> None:
    made = graph(read_twice=True)
    residency = Residency(made, Autocast("matmult"), 0)
    assert residency.stored_dtype(made.nodes[0].outputs[0]) == float32


def test_a_value_lives_until_its_last_reader_through_views() -> None:
    made = graph()
    residency = Residency(made, Autocast(), 0)
    names = [node.op.name for node in made.nodes]
    assert residency.last_use(made.nodes[0].outputs[0]) == names.index("linear")
    assert residency.last_use(made.outputs[0]) == len(made.nodes)

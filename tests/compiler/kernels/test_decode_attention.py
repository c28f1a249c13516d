"""Attention of one token of each sequence: heads stacked on the partitions, bits of evaluate."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.pipeline import CompileOptions, compile_graph
from emuron.hardware.catalog import instance
from emuron.numerics.matmul import sums_in_order
from emuron.runtime.device import Device

INF2 = instance("inf2.xlarge")
ordered = pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")


def decode(batch: int, heads: int, key_heads: int, context: int, size: int = 64) -> Graph:
    b = GraphBuilder("decode")
    q = b.input("q", TensorType((batch, heads, 1, size), "bfloat16"))
    k, v = (
        b.input(name, TensorType((batch, key_heads, context, size), "bfloat16")) for name in "kv"
    )
    positions = b.input("positions", TensorType((batch, 1), "int32"))
    b.output("y", b.attention(q, k, v, scale=0.125, positions=positions))
    return b.finish()


def inputs_of(graph: Graph) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {
        v.name: random.standard_normal(v.shape, np.float32).astype(v.type.dtype.np)
        for v in graph.inputs
    }
    positions, context = graph.input("positions"), graph.input("k").shape[2]
    made["positions"] = random.integers(-1, context, positions.shape).astype(np.int32)
    return made


# Two heads; several of several entries with a last block of few keys; one key head for all query
# heads; more rows than partitions; fewer keys than partitions.
@ordered
@pytest.mark.parametrize(
    ("batch", "heads", "key_heads", "context"),
    [(1, 2, 2, 640), (3, 6, 2, 130), (2, 8, 1, 256), (70, 2, 2, 64), (5, 1, 1, 520)],
)
def test_stacked_heads_give_the_bits_of_evaluate(
    batch: int, heads: int, key_heads: int, context: int
) -> None:
    graph = decode(batch, heads, key_heads, context)
    program, inputs = compile_graph(graph, INF2.chip.core, CompileOptions()), inputs_of(graph)
    found = Device(INF2).run(program, inputs)["y"]
    expected = Evaluator(graph, autocast=Autocast("matmult")).run(inputs)["y"]
    np.testing.assert_array_equal(found, expected)


def test_heads_side_by_side_take_little_more_of_the_vector_engine_than_one() -> None:
    one, many = (
        Device(INF2).time(
            compile_graph(decode(batch, 4, 4, 2048, 128), INF2.chip.core, CompileOptions())
        )
        for batch in (1, 8)
    )
    assert many.busy_ps["vector"] < 2 * one.busy_ps["vector"]

"""A graph spread over ranks computes what the whole graph does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import Graph, TensorType, verify
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.passes.sharding import PADDING, HeadLayout, Split
from emuron.compiler.passes.tensor_parallel import Partition, partition
from emuron.compiler.pipeline import CompileOptions, compile_graph, optimize
from emuron.compiler.ranks import RankEvaluator, execute_ranks
from emuron.errors import UsageError
from emuron.hardware.catalog import instance
from emuron.numerics.matmul import sums_in_order
from emuron.runtime.device import Device

INF2 = instance("inf2.48xlarge")
Make = Callable[..., HFModel]
MakeInputs = Callable[..., dict[str, np.ndarray]]

REORDERED_SUM = 1e-5
"""The ranks' sums are added in another order than one core adds: a few float32 roundings."""


def ops_of(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


def assert_equal_to_whole(graph: Graph, parts: Partition, inputs: dict[str, np.ndarray]) -> None:
    verify(parts.graph)
    expected, found = Evaluator(graph).run(inputs), RankEvaluator(parts).run(inputs)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, REORDERED_SUM, REORDERED_SUM, err_msg=name)


# 4/2 over 2: a key head each; over 4: key heads replicated; over 3: converted, heads padded;
# 6/3 over 3 and 6/3 over 6: groups of two, halved; 8/1: one key head everywhere; 5/5: padded.
@pytest.mark.parametrize(
    ("heads", "key_heads", "ranks"),
    [(4, 2, 2), (4, 2, 4), (4, 2, 3), (6, 3, 3), (6, 3, 6), (6, 2, 4), (8, 1, 4), (5, 5, 4)],
)
@pytest.mark.parametrize("decoding", [False, True])
def test_a_decoder_on_all_ranks_equals_the_whole(
    llama: Make, inputs_of: MakeInputs, heads: int, key_heads: int, ranks: int, decoding: bool
) -> None:
    model = llama(num_attention_heads=heads, num_key_value_heads=key_heads, vocab_size=50)
    graph = optimize(model.decode_graph(2, 8) if decoding else model.prefill_graph(2, 5, 8))
    parts = partition(graph, ranks, table_elements=1)
    assert_equal_to_whole(graph, parts, inputs_of(graph, start=3 if decoding else 0))


@pytest.mark.parametrize("ranks", [2, 4])
def test_an_encoder_on_all_ranks_equals_the_whole(
    bert: Make, inputs_of: MakeInputs, ranks: int
) -> None:
    graph = optimize(bert().encoder_graph(2, 6))
    assert_equal_to_whole(graph, partition(graph, ranks), inputs_of(graph))


def test_integers_are_summed_to_the_same_bits_in_any_order() -> None:
    random = np.random.default_rng(0)
    arrays = {
        "x": random.integers(-4, 5, (3, 10)).astype(np.float32),
        "up": random.integers(-4, 5, (14, 10)).astype(np.float32),
        "up.bias": random.integers(-4, 5, 14).astype(np.float32),
        "down": random.integers(-4, 5, (10, 14)).astype(np.float32),
        "down.bias": random.integers(-4, 5, 10).astype(np.float32),
    }
    b = GraphBuilder("mlp")
    x = b.input("x", TensorType((3, 10), "float32"))

    def weight(name: str):
        found = arrays[name]
        return b.parameter(name, TensorType(found.shape, "float32"), partial(arrays.get, name))

    hidden = b.apply("relu", b.linear(x, weight("up"), weight("up.bias")))
    b.output("y", b.add(x, b.linear(hidden, weight("down"), weight("down.bias"))))
    graph = b.finish()
    expected = Evaluator(graph).run({"x": arrays["x"]})["y"]
    for ranks in (1, 2, 3, 4):
        parts = partition(graph, ranks)
        assert ops_of(parts.graph).count("all_reduce") == 1
        np.testing.assert_array_equal(RankEvaluator(parts).run({"x": arrays["x"]})["y"], expected)


def test_a_layer_has_two_all_reduces_and_the_logits_one_all_gather(llama: Make) -> None:
    parts = partition(optimize(llama().decode_graph(1, 8)), 2)
    assert ops_of(parts.graph).count("all_reduce") == 2 * 2
    assert ops_of(parts.graph).count("all_gather") == 1


def test_caches_are_split_over_key_heads_and_all_else_is_whole(llama: Make) -> None:
    graph = optimize(llama().decode_graph(1, 8))
    parts = partition(graph, 2)
    caches = {v.name for v in graph.inputs if "cache" in v.name}
    assert set(parts.splits) == caches
    assert parts.graph.input("key_cache.0").shape == (1, 1, 8, 32)
    assert parts.graph.aliases == graph.aliases


def test_a_rank_holds_its_share_of_the_weights(llama: Make) -> None:
    graph = optimize(llama(num_attention_heads=8, num_key_value_heads=8).decode_graph(1, 8))
    parts = partition(graph, 8, table_elements=1)
    norms = sum(p.type.size_bytes for p in graph.parameters if "norm" in p.name)
    assert parts.graph.parameter_bytes - norms == (graph.parameter_bytes - norms) // 8


def test_what_has_no_rule_runs_whole_after_a_gather() -> None:
    b = GraphBuilder("sorted")
    x = b.input("x", TensorType((2, 8), "float32"))
    weight = partial(np.ones, (6, 8), np.float32)
    up = b.linear(x, b.parameter("up", TensorType((6, 8), "float32"), weight))
    back = b.linear(up, b.parameter("down", TensorType((8, 6), "float32"), lambda: weight().T))
    b.output("sums", b.cumulative(up, 1))
    b.output("y", back)
    graph = b.finish()
    parts = partition(graph, 2)
    assert sorted(ops_of(parts.graph)) == [
        *("all_gather", "all_reduce", "cumulative", "linear", "linear")
    ]
    assert_equal_to_whole(graph, parts, {"x": np.arange(16, dtype=np.float32).reshape(2, 8)})


@pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")
def test_executed_ranks_give_the_bits_of_evaluated_ranks(
    llama: Make, inputs_of: MakeInputs
) -> None:
    graph = optimize(llama(num_hidden_layers=1).prefill_graph(1, 4, 8))
    parts = partition(graph, 2, table_elements=1)
    options, cast = CompileOptions(), Autocast("matmult")
    inputs = inputs_of(graph)
    found = execute_ranks(
        parts,
        lambda rank: compile_graph(parts.of_rank(rank), INF2, options),
        lambda meet: Device(INF2, meet=meet),
        inputs,
    )
    expected = RankEvaluator(parts, autocast=cast).run(inputs)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


def test_a_rank_of_a_decoder_is_timed_with_its_collectives(llama: Make) -> None:
    parts = partition(optimize(llama().decode_graph(1, 8)), 4)
    executable = compile_graph(parts.graph, INF2, CompileOptions())
    timing = Device(INF2).time(executable)
    floor_ps = INF2.chip.collectives.floor_us * 1e6
    assert timing.busy_ps["collective"] > 5 * floor_ps
    assert timing.total_ps > timing.busy_ps["collective"]


def test_no_ranks_are_refused(llama: Make) -> None:
    with pytest.raises(UsageError, match="at least one core, not 0"):
        partition(llama().decode_graph(1, 8), 0)
    with pytest.raises(UsageError, match="rank 2 is not one of the 2 ranks"):
        partition(llama().decode_graph(1, 8), 2).of_rank(2)


# How NxD Inference lays heads over ranks: GroupQueryAttention_QKV, REPLICATE_TO_TP_DEGREE and
# CONVERT_TO_MHA (features.md, "GQA sharding").


def test_heads_that_do_not_divide_are_padded() -> None:
    layout = HeadLayout(32, 32, 24)
    assert layout.queries[0] == layout.keys[0] == (0, 1)
    assert layout.queries[15] == (30, 31)
    assert layout.queries[16] == layout.queries[23] == (PADDING, PADDING)


def test_key_heads_are_replicated_to_more_ranks() -> None:
    layout = HeadLayout(64, 8, 24)
    assert [part[0] for part in layout.keys[:4]] == [0, 0, 0, 1]
    assert layout.queries[:3] == ((0, 1, 2), (3, 4, 5), (6, 7, PADDING))
    assert layout.queries[3] == (8, 9, 10)


def test_other_counts_give_each_query_head_its_own_key_head() -> None:
    layout = HeadLayout(64, 8, 12)
    assert layout.queries[1] == (6, 7, 8, 9, 10, 11)
    assert layout.keys[1] == (0, 0, 1, 1, 1, 1)


def test_parts_join_to_the_whole_without_padding_and_copies() -> None:
    split = Split(1, 5, 2, ((0,), (2,), (1,), (1,)))
    whole = np.arange(10.0).reshape(2, 5)
    parts = [split.take(whole, rank) for rank in range(4)]
    np.testing.assert_array_equal(parts[1], [[4, 0], [9, 0]])
    np.testing.assert_array_equal(split.join(parts), whole)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_bias_of_heads_is_computed_head_by_head(ranks: int) -> None:
    random = np.random.default_rng(0)
    heads, size, length = 4, 8, 5

    def weight(name: str, *shape: int):
        array = random.standard_normal(shape, np.float32)
        return b.parameter(name, TensorType(shape, "float32"), lambda: array)

    b = GraphBuilder("biased")
    x = b.input("x", TensorType((2, length, 16), "float32"))
    places = b.input("places", TensorType((length, length), "int32"))
    bias = b.permute(b.take(weight("table", 7, heads), places), 2, 0, 1)
    bias = b.reshape(b.mul(bias, 2.0), 1, heads, length, length)

    def project(name: str):
        y = b.linear(x, weight(name, heads * size, 16))
        return b.permute(b.reshape(y, 2, length, heads, size), 0, 2, 1, 3)

    y = b.attention(project("q"), project("k"), project("v"), bias, scale=0.5)
    merged = b.reshape(b.permute(y, 0, 2, 1, 3), 2, length, heads * size)
    b.output("y", b.linear(merged, weight("o", 16, heads * size)))
    graph = b.finish()
    parts = partition(graph, ranks)
    assert "all_gather" not in ops_of(parts.graph)
    inputs = {
        "x": random.standard_normal((2, length, 16), np.float32),
        "places": random.integers(0, 7, (length, length)).astype(np.int32),
    }
    assert_equal_to_whole(graph, parts, inputs)

"""Layers that repeat become one segment; others stay apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emuron.compiler.compile import compile_model
from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import TensorType
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.passes.repeats import find_repeats
from emuron.compiler.pipeline import optimize
from emuron.numerics.dtypes import float32

Make = Callable[..., HFModel]


@pytest.mark.parametrize("layers", [2, 5])
def test_the_layers_of_an_encoder_are_one_segment(bert: Make, layers: int) -> None:
    segments = find_repeats(optimize(bert(num_hidden_layers=layers).encoder_graph(1, 16)))
    assert [s.count for s in segments if s.count > 1] == [layers]
    (repeated,) = (s for s in segments if s.count > 1)
    assert len(repeated.carried) == 1


def test_a_decoder_carries_its_activations_and_has_caches_of_each_layer(llama: Make) -> None:
    segments = find_repeats(optimize(llama(num_hidden_layers=3).decode_graph(1, 32)))
    (repeated,) = (s for s in segments if s.count > 1)
    apart = [
        value.name
        for position, value in enumerate(repeated.blocks[0].inputs)
        if position not in repeated.carried and position not in repeated.invariant
    ]
    assert repeated.count == 3
    assert {"key_cache.0", "value_cache.0"} <= set(apart)


def test_every_node_is_in_exactly_one_segment(llama: Make) -> None:
    graph = optimize(llama(num_hidden_layers=4).prefill_graph(1, 16))
    found = [n for s in find_repeats(graph) for block in s.blocks for n in block.nodes]
    assert found == list(graph.nodes)


def test_equal_layers_that_skip_a_neighbour_are_not_one_segment() -> None:
    b = GraphBuilder("crossed")
    x = b.input("x", TensorType((4, 8), float32))
    values = [x]
    for i in range(3):
        with b.scope(f"layer.{i}"):
            values.append(b.add(b.tanh(values[-1]), values[max(0, i - 1)]))
    b.output("y", values[-1])
    segments = find_repeats(b.finish())
    assert sum(s.count for s in segments) == 3
    assert all(
        b.inputs[p] is a.outputs[q]
        for s in segments
        for p, q in s.carried.items()
        for a, b in zip(s.blocks, s.blocks[1:], strict=False)
    )


@pytest.mark.parametrize("layers", [2, 3])
def test_layers_that_end_in_a_view_hand_on_what_they_wrote(layers: int) -> None:
    b = GraphBuilder("views")
    x = b.input("x", TensorType((1, 16, 8), float32))
    weight = b.input("weight", TensorType((8, 8), float32))
    left = []
    for i in range(layers):
        state = b.input(f"state.{i}", TensorType((1, 8), float32))
        with b.scope(f"layer.{i}"):
            rows = b.matmul(b.reshape(x, 16, 8), weight)
            x = b.reshape(b.add(rows, b.reshape(x, 16, 8)), 1, 16, 8)
            both = b.concat([b.tanh(state), state], 1)
            left.append(b.slice(both, 1, 1, 9))
    b.output("y", b.layer_norm(x, epsilon=1e-5))
    for i, value in enumerate(left):
        b.output(f"state.{i}.left", value)
    model = compile_model(b.finish(), on="inf2.xlarge")
    random = np.random.default_rng(0)
    inputs = {v.name: random.standard_normal(v.shape, np.float32) for v in model.graph.inputs}
    executed = model.run(inputs, fidelity="instruction")
    for name, array in model.run(inputs).items():
        np.testing.assert_allclose(executed[name], array, atol=1e-5, rtol=1e-5)

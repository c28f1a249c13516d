"""Building, verifying, printing and splitting graphs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from emuron.compiler.graph import (
    Graph,
    Node,
    Parameter,
    TensorType,
    Value,
    block_hash,
    split_blocks,
    to_text,
    verify,
)
from emuron.compiler.ops import GraphBuilder, find_op
from emuron.compiler.ops.binary import Add
from emuron.compiler.ops.unary import Relu
from emuron.errors import UnknownNameError, UsageError
from emuron.numerics.dtypes import bfloat16, float32

ROW = TensorType((2, 4), float32)


def _two_layers(name: str = "net", epsilons: tuple[float, float] = (1e-5, 1e-5)) -> Graph:
    b = GraphBuilder(name)
    x = b.input("x", ROW)
    for i, epsilon in enumerate(epsilons):
        with b.scope(f"layer.{i}"):
            weight = b.parameter(f"layer.{i}.weight", TensorType((4, 4), float32))
            y = b.linear(x, weight)
            with b.scope("norm"):
                x = b.layer_norm(b.add(x, y), epsilon=epsilon)
    with b.scope("head"), b.at("net.py:7"):
        b.output("y", b.tanh(x))
    return b.finish()


def test_text_shows_types_attributes_scopes_and_sources():
    assert to_text(_two_layers()) == (
        "graph net\n"
        "  input %x: float32[2,4]\n"
        "  parameter %layer.0.weight: float32[4,4]\n"
        "  parameter %layer.1.weight: float32[4,4]\n"
        "  # layer.0\n"
        "  %linear_1: float32[2,4] = linear(%x, %layer.0.weight)\n"
        "  # layer.0.norm\n"
        "  %add_1: float32[2,4] = add(%x, %linear_1)\n"
        "  %layer_norm_1: float32[2,4] = layer_norm{epsilon=1e-05}(%add_1)\n"
        "  # layer.1\n"
        "  %linear_2: float32[2,4] = linear(%layer_norm_1, %layer.1.weight)\n"
        "  # layer.1.norm\n"
        "  %add_2: float32[2,4] = add(%layer_norm_1, %linear_2)\n"
        "  %layer_norm_2: float32[2,4] = layer_norm{epsilon=1e-05}(%add_2)\n"
        "  # head\n"
        "  %tanh_1: float32[2,4] = tanh(%layer_norm_2)  // net.py:7\n"
        "  output y = %tanh_1: float32[2,4]\n"
    )


def test_scopes_are_listed_in_order_and_select_their_nodes():
    graph = _two_layers()
    assert graph.scopes == ("layer.0", "layer.0.norm", "layer.1", "layer.1.norm", "head")
    assert [n.op.name for n in graph.nodes_in("layer.1")] == ["linear", "add", "layer_norm"]


def test_equal_layers_have_one_hash_whatever_their_names():
    first, second, head = split_blocks(_two_layers())
    assert (first.name, second.name, head.name) == ("layer.0", "layer.1", "head")
    assert first.hash == second.hash != head.hash
    assert [v.name for v in second.inputs] == ["layer_norm_1", "layer.1.weight"]
    assert [v.name for v in second.outputs] == ["layer_norm_2"]


def test_another_attribute_gives_another_hash():
    first, second, _ = split_blocks(_two_layers(epsilons=(1e-5, 1e-6)))
    assert first.hash != second.hash


def test_a_hash_tells_weights_from_activations_and_sees_what_leaves():
    node = _two_layers().nodes[0]
    plain = block_hash([node])
    assert block_hash([node], node.outputs) != plain
    assert block_hash([node], (), [node.inputs[1]]) != plain


def test_operands_are_broadcast_explicitly():
    b = GraphBuilder("g")
    x, row = b.input("x", ROW), b.input("row", TensorType((4,), float32))
    y = b.mul(b.add(x, row), 2.0)
    assert y.shape == (2, 4)
    b.output("y", y)
    names = [n.op.name for n in b.finish().nodes]
    assert names == ["broadcast", "add", "full", "mul"]


def test_shapes_that_do_not_broadcast_are_refused():
    b = GraphBuilder("g")
    x, y = b.input("x", ROW), b.input("y", TensorType((3,), float32))
    with pytest.raises(UsageError, match=r"\[1, 3\] do not broadcast"):
        b.add(x, y)


def test_a_type_error_names_op_scope_source_and_operand():
    b = GraphBuilder("g")
    x, w = b.input("x", ROW), b.parameter("w", TensorType((8, 3), float32))
    with (
        b.scope("layer.0"),
        b.at("model.py:12"),
        pytest.raises(UsageError, match=r"linear in layer.0 \(model.py:12\): weight \(float32"),
    ):
        b.linear(x, w)


def test_a_parameter_of_shapes_alone_cannot_be_loaded():
    with pytest.raises(UsageError, match="can be timed but not run"):
        Parameter(Value("w", ROW)).load()


def test_a_parameter_of_another_shape_than_declared_is_refused():
    wrong = Parameter(Value("w", ROW), lambda: np.zeros((4, 2), np.float32))
    with pytest.raises(UsageError, match=r"shape \[4, 2\].*expects \[2, 4\]"):
        wrong.load()


def test_a_parameter_is_one_value_however_often_it_is_asked_for():
    b = GraphBuilder("g")
    assert b.parameter("w", ROW) is b.parameter("w", ROW)
    with pytest.raises(UsageError, match="used both as"):
        b.parameter("w", ROW.with_dtype(bfloat16))


def test_names_of_inputs_and_outputs_are_unique():
    b = GraphBuilder("g")
    x = b.input("x", ROW)
    b.output("y", x)
    with pytest.raises(UsageError, match="input called 'x'"):
        b.input("x", ROW)
    with pytest.raises(UsageError, match="output called 'y'"):
        b.output("y", x)


def test_an_alias_joins_an_output_to_the_input_it_replaces():
    b = GraphBuilder("g")
    cache = b.input("cache", ROW)
    b.output("cache", b.silu(cache), alias=cache)
    graph = b.finish()
    assert graph.aliases == {0: 0}
    assert "(alias of %cache)" in to_text(graph)


def test_an_alias_of_another_type_is_refused():
    b = GraphBuilder("g")
    cache = b.input("cache", ROW)
    b.output("cache", b.reshape(cache, 8), alias=cache)
    with pytest.raises(UsageError, match="types differ"):
        b.finish()


def _relu_graph(*nodes: Node, outputs: tuple[Value, ...], inputs: tuple[Value, ...]) -> Graph:
    return Graph("g", inputs, (), nodes, outputs, tuple(f"y{i}" for i in range(len(outputs))))


def test_verify_refuses_use_before_definition_and_double_definition():
    x, y, z = (Value(n, ROW) for n in "xyz")
    first, second = Node(Relu(), (x,), (y,), "a"), Node(Add(), (x, y), (z,), "b")
    verify(_relu_graph(first, second, outputs=(z,), inputs=(x,)))
    with pytest.raises(UsageError, match=r"node 'b'.*%y is used before"):
        verify(_relu_graph(second, first, outputs=(z,), inputs=(x,)))
    with pytest.raises(UsageError, match="%y is defined twice"):
        verify(_relu_graph(first, first, outputs=(y,), inputs=(x,)))
    with pytest.raises(UsageError, match=r"output 'y0'.*never computed"):
        verify(_relu_graph(first, outputs=(z,), inputs=(x,)))


def test_verify_infers_every_type_again():
    x, y = Value("x", ROW), Value("y", TensorType((8,), float32))
    with pytest.raises(UsageError, match=r"relu gives.*float32\[2,4\].*declares.*float32\[8\]"):
        verify(_relu_graph(Node(Relu(), (x,), (y,), "a"), outputs=(y,), inputs=(x,)))


def test_a_graph_and_its_ops_are_frozen():
    graph = _two_layers()
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.nodes[2].op.epsilon = 0.0


def test_a_tensor_type_counts_elements_and_bytes_and_refuses_unknown_sizes():
    type = TensorType((3, 5), bfloat16)
    assert (type.rank, type.elements, type.size_bytes, str(type)) == (2, 15, 30, "bfloat16[3,5]")
    with pytest.raises(UsageError, match="static"):
        TensorType((3, -1), float32)


def test_an_unknown_operator_is_met_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="layer_norm"):
        find_op("layernorm")

"""ONNX models: reading, folding, weights, functions, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emuron.errors import UnsupportedOpError, UsageError

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from onnx import TensorProto as T  # noqa: E402
from onnx import helper  # noqa: E402

from emuron.compiler.frontends.onnx import to_graph  # noqa: E402
from emuron.compiler.frontends.onnx_call import UnknownDataError  # noqa: E402
from tests.compiler.frontends.small_onnx import (  # noqa: E402
    FLOAT,
    OPSET,
    X,
    model,
    node,
    run,
    tensor,
    value,
)


def test_a_shape_that_operators_compute_is_folded():
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "rows", axis=0),
        node("Mul", "rows two", "doubled"),
        node("Concat", "doubled rest", "wanted", axis=0),
        node("Reshape", "x wanted", "y"),
    ]
    weights = [
        tensor("zero", np.array([0])),
        tensor("two", np.array([2])),
        tensor("rest", np.array([-1])),
    ]
    graph = to_graph(model(nodes, [value("x", [3, 4])], [value("y", [6, 2])], weights))
    assert [n.op.name for n in graph.nodes] == ["reshape"]
    assert run(graph, X)[0].tolist() == X.reshape(6, 2).tolist()


def test_a_matrix_in_the_file_becomes_the_weight_of_a_linear():
    weight = np.arange(8, dtype=np.float32).reshape(4, 2)
    nodes = [node("MatMul", "x w", "y")]
    graph = to_graph(
        model(nodes, [value("x", [3, 4])], [value("y", [3, 2])], [tensor("w", weight)])
    )
    assert [n.op.name for n in graph.nodes] == ["linear"]
    assert [str(p.type) for p in graph.parameters] == ["float32[2,4]"]
    np.testing.assert_array_equal(run(graph, X)[0], X @ weight)


def test_dynamic_dimensions_are_bound_by_name_place_or_to_one():
    inputs = [value("x", ["batch", "seq", "other", 5])]
    source = model([node("Relu", "x", "y")], inputs, [value("y", None)])
    assert to_graph(source, batch=2, sequence=7).inputs[0].shape == (2, 7, 1, 5)
    assert to_graph(source, sizes={"other": 3}).inputs[0].shape == (1, 1, 3, 5)
    assert to_graph(source, shapes={"x": (4, 4, 4, 5)}).inputs[0].shape == (4, 4, 4, 5)
    with pytest.raises(UsageError, match=r"takes \['batch', 'seq', 'other', 5\]"):
        to_graph(source, shapes={"x": (4, 4, 4, 6)})


def test_a_fixed_batch_refuses_another():
    source = model([node("Relu", "x", "y")], [value("x", [1, 4])], [value("y", None)])
    with pytest.raises(UsageError, match="fixed at a batch of 1, 8 was asked for"):
        to_graph(source, batch=8)


def test_a_function_of_the_file_is_expanded_with_its_attributes():
    body = helper.make_function(
        "own",
        "Scaled",
        ["a", "left_out"],
        ["b"],
        [
            helper.make_node("Constant", [], ["factor"]),
            node("Mul", "a factor", "b"),
        ],
        [helper.make_opsetid("", OPSET)],
        ["value_float"],
    )
    body.node[0].attribute.append(
        onnx.AttributeProto(
            name="value_float", ref_attr_name="value_float", type=onnx.AttributeProto.FLOAT
        )
    )
    call = node("Scaled", "x", "y", domain="own", value_float=2.5)
    source = model([call], [value("x", [3, 4])], [value("y", None)], functions=[body])
    np.testing.assert_array_equal(run(to_graph(source), X)[0], X * np.float32(2.5))


def test_a_function_that_calls_itself_is_refused():
    body = helper.make_function(
        "own",
        "Endless",
        ["a"],
        ["b"],
        [node("Endless", "a", "b", domain="own")],
        [helper.make_opsetid("own", 1)],
    )
    call = node("Endless", "x", "y", domain="own")
    source = model([call], [value("x", [3])], [value("y", None)], functions=[body])
    with pytest.raises(UnsupportedOpError, match="nested 40 deep"):
        to_graph(source)


def test_a_shape_that_depends_on_the_inputs_names_them():
    nodes = [node("Add", "shape shape", "twice"), node("Reshape", "x twice", "y")]
    inputs = [value("x", [3, 4]), value("shape", [2], T.INT64)]
    source = model(nodes, inputs, [value("y", None)])
    with pytest.raises(UnknownDataError, match=r"Reshape .*depends on the input 'shape'") as caught:
        to_graph(source)
    assert caught.value.inputs == ("shape",)
    graph = to_graph(source, constants={"shape": np.array([3, 1])})
    assert run(graph, X)[0].tolist() == X.reshape(6, 2).tolist()


def test_an_unknown_operator_is_refused_by_name_with_its_node():
    call = node("Sparkle", "x", "y", name="/layer.1/Sparkle")
    source = model([call], [value("x", [3])], [value("y", None)])
    with pytest.raises(UnsupportedOpError, match=r"Sparkle node '/layer.1/Sparkle'.*know"):
        to_graph(source)


def test_nodes_know_their_layer_from_the_exporters_names():
    call = node("Relu", "x", "y", name="/encoder/layer.3/output/Relu")
    graph = to_graph(model([call], [value("x", [3])], [value("y", None)]))
    assert graph.nodes[0].scope == "encoder.layer.3.output"
    assert graph.nodes[0].source == "Relu node '/encoder/layer.3/output/Relu'"


def test_a_weight_may_be_called_like_a_node():
    weight = tensor("relu_1", np.ones((3, 4), np.float32))
    nodes = [node("Relu", "x", "r"), node("Add", "r relu_1", "y")]
    graph = to_graph(model(nodes, [value("x", [3, 4])], [value("y", None)], [weight]))
    np.testing.assert_array_equal(run(graph, X)[0], np.maximum(X, 0) + 1)


def test_external_data_is_mapped_from_beside_the_model(tmp_path: Path):
    weight = np.arange(800, dtype=np.float32).reshape(4, 200)
    nodes = [node("MatMul", "x w", "y")]
    source = model(nodes, [value("x", [3, 4])], [value("y", None)], [tensor("w", weight)])
    path = tmp_path / "small.onnx"
    onnx.save(source, path, save_as_external_data=True, location="small.data", size_threshold=0)
    graph = to_graph(path)
    assert isinstance(graph.parameters[0].load().base, np.memmap)
    np.testing.assert_allclose(run(graph, X)[0], X @ weight, rtol=1e-6)


def test_weights_can_be_left_out():
    weight = tensor("w", np.ones((4, 2), np.float32))
    source = model([node("MatMul", "x w", "y")], [value("x", [3, 4])], [value("y", None)], [weight])
    assert to_graph(source, weights=False).parameters[0].loader is None


def test_integers_beyond_32_bits_are_refused_where_they_would_enter_the_chip():
    nodes = [node("Add", "x big", "y")]
    weights = [tensor("big", np.array([2**40]))]
    source = model(nodes, [value("x", [1], T.INT64)], [value("y", None)], weights)
    with pytest.raises(UnsupportedOpError, match=r"Add .*no integers beyond int32"):
        to_graph(source)


def test_old_forms_of_operators_are_refused_and_unchanged_ones_are_read():
    inputs, outputs = [value("x", [3, 4])], [value("y", None)]
    old = model([node("Relu", "x", "y")], inputs, outputs, opset=9)
    assert [n.op.name for n in to_graph(old).nodes] == ["relu"]
    changed = model([node("Softmax", "x", "y")], inputs, outputs, opset=9)
    with pytest.raises(UnsupportedOpError, match="Softmax had another form in operator set 9"):
        to_graph(changed)


def test_an_operator_set_of_the_future_is_refused():
    source = model([node("Relu", "x", "y")], [value("x", [3])], [value("y", None)], opset=999)
    with pytest.raises(UnsupportedOpError, match="operator set 999; 13 to"):
        to_graph(source)


def test_text_is_refused():
    source = model([node("Identity", "x", "y")], [value("x", [3], T.STRING)], [value("y", None)])
    with pytest.raises(UnsupportedOpError, match=r"input 'x' .* is of type STRING"):
        to_graph(source)


def test_quantised_layers_give_what_the_reference_gives():
    random = np.random.default_rng(0)
    weight = random.integers(-100, 100, (4, 6)).astype(np.int8)
    weights = [
        tensor("w", weight),
        tensor("ws", random.uniform(0.01, 0.02, 6).astype(np.float32)),
        tensor("wz", np.zeros(6, np.int8)),
        tensor("xs", np.float32(0.05)),
        tensor("xz", np.uint8(120)),
    ]
    nodes = [
        node("QuantizeLinear", "x xs xz", "xq"),
        node("DequantizeLinear", "xq xs xz", "xd"),
        node("DequantizeLinear", "w ws wz", "wd", axis=1),
        node("MatMul", "xd wd", "y"),
        node("DynamicQuantizeLinear", "y", "yq ys yz"),
        node("MatMulInteger", "yq v yz", "i"),
        node("Cast", "i", "f", to=FLOAT),
        node("Mul", "f ys", "z"),
    ]
    weights.append(tensor("v", random.integers(-100, 100, (6, 3)).astype(np.int8)))
    source = model(nodes, [value("x", [3, 4])], [value("y", None), value("z", None)], weights)
    expected = onnx.reference.ReferenceEvaluator(source).run(None, {"x": X})
    graph = to_graph(source)
    assert {str(p.type.dtype) for p in graph.parameters if p.type.rank == 2} == {"int8"}
    for found, wanted in zip(run(graph, X), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-5)


def test_a_loop_of_known_steps_is_unrolled():
    body = helper.make_graph(
        [node("Add", "h x", "sum"), node("Identity", "go", "on"), node("Identity", "sum", "row")],
        "body",
        [value("step", [], T.INT64), value("go", [], T.BOOL), value("h", [3, 4])],
        [value("on", [], T.BOOL), value("sum", [3, 4]), value("row", [3, 4])],
    )
    weights = [tensor("steps", np.array(3)), tensor("yes", np.array(True))]
    call = node("Loop", "steps yes x", "last rows", body=body)
    outputs = [value("last", None), value("rows", None)]
    last, rows = run(to_graph(model([call], [value("x", [3, 4])], outputs, weights)), X)
    np.testing.assert_array_equal(last, 4 * X)
    np.testing.assert_array_equal(rows, np.stack([2 * X, 3 * X, 4 * X]))


OF_OLD_SETS = (
    *("HardSigmoid", "HardSwish", "Selu", "Softsign", "ThresholdedRelu", "Celu"),
    *("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare"),
)
"""Operators that ONNX defines by other ones only since sets 18 and 22."""


@pytest.mark.parametrize("kind", OF_OLD_SETS)
def test_operators_without_a_body_in_old_sets_are_written_here(kind: str):
    source = model([node(kind, "x", "y")], [value("x", [3, 4])], [value("y", None)], opset=14)
    (expected,) = onnx.reference.ReferenceEvaluator(source).run(None, {"x": X})
    np.testing.assert_allclose(run(to_graph(source), X)[0], expected, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("NonZero", "size depends on the values"),
        ("RandomNormalLike", "draws random numbers"),
        ("SequenceConstruct", "works on sequences"),
        ("StringNormalizer", "works on text"),
    ],
)
def test_what_no_graph_can_hold_is_refused_with_its_reason(kind: str, reason: str):
    source = model([node(kind, "x", "y")], [value("x", [3])], [value("y", None)])
    with pytest.raises(UnsupportedOpError, match=f"{kind} node .*{reason}"):
        to_graph(source)


def test_a_recurrent_layer_is_whole_and_reads_its_weights_from_the_file():
    random = np.random.default_rng(1)
    sizes = {"w": (2, 12, 4), "r": (2, 12, 3), "b": (2, 24)}
    stored = [tensor(n, random.normal(size=s).astype(np.float32)) for n, s in sizes.items()]
    call = node("LSTM", "x w r b", "y h c", hidden_size=3, direction="bidirectional")
    outputs = [value(name, None) for name in ("y", "h", "c")]
    source = model([call], [value("x", [5, 2, 4])], outputs, stored)
    x = random.normal(size=(5, 2, 4)).astype(np.float32)
    graph = to_graph(source)
    names = [n.op.name for n in graph.nodes]
    assert names.count("lstm") == 2
    assert "slice" not in names
    assert {p.name for p in graph.parameters} >= {"w[0,0:12]", "w[1,0:12]", "b[1,12:24]"}
    found, h, _ = run(graph, x)
    assert (found.shape, h.shape) == ((5, 2, 2, 3), (2, 2, 3))
    np.testing.assert_array_equal(found[-1, 0], h[0])
    np.testing.assert_array_equal(found[0, 1], h[1])
    forward = [onnx.numpy_helper.to_array(t)[0] for t in stored]
    np.testing.assert_allclose(found[:, 0], _lstm(x, *forward), rtol=1e-5, atol=1e-6)


def _lstm(x: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return every h of a forward LSTM, as the specification of the operator writes it."""
    h = c = np.zeros((x.shape[1], r.shape[1]))
    found = []
    for step in x.astype(np.float64):
        i, o, f, g = np.split(step @ w.T + h @ r.T + b[:12] + b[12:], 4, -1)
        i, o, f = (1 / (1 + np.exp(-gate)) for gate in (i, o, f))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        found.append(h)
    return np.stack(found)


def test_tables_of_the_steps_of_a_loop_stay_apart():
    body = helper.make_graph(
        [
            node("Identity", "go", "on"),
            node("Mul", "counts step", "table"),
            node("Tile", "table twice", "wide"),
            node("Cast", "wide", "reals", to=FLOAT),
            node("Add", "h reals", "sum"),
        ],
        "body",
        [value("step", [], T.INT64), value("go", [], T.BOOL), value("h", [5000])],
        [value("on", [], T.BOOL), value("sum", [5000])],
        [tensor("counts", np.arange(2500)), tensor("twice", np.array([2]))],
    )
    weights = [tensor("steps", np.array(4)), tensor("yes", np.array(True))]
    call = node("Loop", "steps yes x", "last", body=body)
    graph = to_graph(model([call], [value("x", [5000])], [value("last", None)], weights))
    x = np.zeros(5000, np.float32)
    np.testing.assert_array_equal(run(graph, x)[0], np.tile(np.arange(2500), 2) * (1 + 2 + 3))

"""ONNX files that are damaged, or mean harm: told clearly, at once and within memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emuron.errors import ModelFileError, UnsupportedOpError

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from onnx import TensorProto as T  # noqa: E402
from onnx import helper  # noqa: E402

from emuron.compiler.frontends.onnx import to_graph  # noqa: E402
from tests.compiler.frontends.small_onnx import (  # noqa: E402
    FLOAT,
    OPSET,
    model,
    node,
    tensor,
    value,
)


def test_a_cycle_names_the_node_that_waits():
    nodes = [node("Add", "x b", "a", name="first"), node("Relu", "a", "b")]
    source = model(nodes, [value("x", [3])], [value("b", None)])
    with pytest.raises(ModelFileError, match="Add node 'first': it reads 'b', which nothing"):
        to_graph(source)


def test_an_output_that_nothing_computes_is_named():
    source = model([node("Relu", "x", "y")], [value("x", [3])], [value("z", [3])])
    with pytest.raises(ModelFileError, match="nothing computes the output 'z'"):
        to_graph(source)


def test_a_declared_size_must_be_that_of_the_operators():
    source = model([node("Relu", "x", "y")], [value("x", [3])], [value("y", [4])])
    with pytest.raises(ModelFileError, match=r"declares tensor 'y' as float32\[4\]"):
        to_graph(source)


@pytest.mark.parametrize(("dims", "message"), [([3], "needs 12 bytes.*holds 8"), ([-1], "is none")])
def test_a_weight_that_lies_about_its_shape_is_refused(dims: list[int], message: str):
    weight = T(name="w", data_type=FLOAT, dims=dims, raw_data=bytes(8))
    source = model([node("Add", "x w", "y")], [value("x", [3])], [value("y", None)], [weight])
    with pytest.raises(ModelFileError, match=message):
        to_graph(source)


def test_a_huge_weight_without_data_is_refused_at_once():
    weight = T(name="w", data_type=FLOAT, dims=[1 << 40, 1 << 20])
    source = model([node("Add", "x w", "y")], [value("x", [3])], [value("y", None)], [weight])
    with pytest.raises(ModelFileError, match="needs 1152921504606846976 numbers"):
        to_graph(source)


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand"])
def test_a_huge_tensor_that_operators_make_is_never_computed(kind: str):
    operands = "shape" if kind == "ConstantOfShape" else "x shape"
    nodes = [node(kind, operands, "y")]
    weights = [tensor("shape", np.array([1 << 20, 1 << 20])), tensor("x", np.float32([1.0]))]
    source = model(nodes, [], [value("y", None)], weights)
    with pytest.raises(UnsupportedOpError, match=f"{kind} .*fits no device's memory"):
        to_graph(source)


def test_functions_that_double_at_each_level_are_refused():
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function(
            "own",
            f"Level{level}",
            ["a"],
            ["b"],
            [
                node(f"Level{level + 1}", "a", "m", domain="own"),
                node(f"Level{level + 1}", "m", "b", domain="own"),
            ]
            if level < 30
            else [node("Relu", "a", "b")],
            imports,
        )
        for level in range(31)
    ]
    call = node("Level0", "x", "y", domain="own")
    source = model([call], [value("x", [3])], [value("y", None)], functions=functions)
    with pytest.raises(UnsupportedOpError, match="more than 20000 nodes"):
        to_graph(source)


@pytest.mark.parametrize("location", ["../weights", "/etc/hostname", "", "folder/../../weights"])
def test_external_data_outside_the_folder_is_refused(location: str, tmp_path: Path):
    (tmp_path / "weights").write_bytes(bytes(12))
    weight = T(name="w", data_type=FLOAT, dims=[3], data_location=T.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    source = model([node("Add", "x w", "y")], [value("x", [3])], [value("y", None)], [weight])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "small.onnx").write_bytes(source.SerializeToString())
    with pytest.raises(ModelFileError, match=r"'w' (points outside|names no file)"):
        to_graph(tmp_path / "model" / "small.onnx")


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "weights").write_bytes(bytes(12))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").symlink_to(tmp_path / "weights")
    weight = T(name="w", data_type=FLOAT, dims=[3], data_location=T.EXTERNAL)
    weight.external_data.add(key="location", value="weights")
    source = model([node("Add", "x w", "y")], [value("x", [3])], [value("y", None)], [weight])
    (folder / "small.onnx").write_bytes(source.SerializeToString())
    with pytest.raises(ModelFileError, match="points outside"):
        to_graph(folder / "small.onnx")


def test_a_file_that_is_cut_off_is_told_so(tmp_path: Path):
    weight = tensor("w", np.ones((64, 64), np.float32))
    source = model([node("Add", "x w", "y")], [value("x", [64])], [value("y", None)], [weight])
    path = tmp_path / "small.onnx"
    path.write_bytes(source.SerializeToString()[:-2000])
    with pytest.raises(ModelFileError, match="no ONNX model, or is cut off"):
        to_graph(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", bytes(100)])
def test_what_is_no_onnx_model_is_told_so(content: bytes):
    with pytest.raises(ModelFileError, match=r"no ONNX model|no graph"):
        to_graph(content)


def test_branches_nested_without_end_are_refused():
    inner = helper.make_graph([node("Relu", "x", "r")], "g", [], [value("r", [3])])
    for _ in range(120):
        branch = node("If", "yes", "r", then_branch=inner, else_branch=inner)
        inner = helper.make_graph([branch], "g", [], [value("r", [3])])
        if inner.ByteSize() > 1 << 20:
            break
    source = model(
        [node("If", "yes", "r", then_branch=inner, else_branch=inner)],
        [value("x", [3])],
        [value("r", None)],
        [tensor("yes", np.array(True))],
    )
    assert to_graph(source).nodes[0].op.name == "relu"
    deep = _nested(300)
    with pytest.raises((ModelFileError, UnsupportedOpError), match=r"parse|deep"):
        to_graph(deep)


def _nested(depth: int) -> bytes:
    """Return the bytes of a model whose branches are nested: field 5 of a node, 6 of its graph."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)

"""TensorFlow's SavedModels and frozen graphs, against what TensorFlow 2.21 gave for them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.frontends import tensorflow
from emuron.compiler.frontends.protobuf_wire import parse, schema
from emuron.compiler.frontends.tensorflow import Signature, Tensor
from emuron.compiler.graph import Graph
from emuron.errors import EmuronError, ModelFileError, UnknownNameError, UnsupportedOpError

FIXTURES = Path(__file__).parent / "fixtures"
SMALL = FIXTURES.parents[2] / "journeys" / "fixtures"
MODEL = tensorflow.load(FIXTURES / "tensorflow_ops.pb")
EXPECTED = np.load(FIXTURES / "tensorflow_ops.npz")
OUTPUTS = sorted(n for n in EXPECTED.files if n.startswith("out_"))
FLOAT32_ERROR = 2e-5
"""Sums of up to 36 float32 products in another order; functions within a few units."""

TABLE_ERROR = 3e-3
"""TensorFlow takes cubic weights from a table of 1024 places: off by up to 1/2048 in each of two
dimensions, where the kernel's slope is at most 1.5 and four elements of up to 3 are weighed."""


def _only(name: str) -> Graph:
    """Return the graph of one node of the file and of what it needs."""
    inputs = MODEL.signatures["serving_default"].inputs
    one = Signature(inputs, {name: Tensor(name, 0, None)})
    return replace(MODEL, signatures={"one": one}).graph()


@pytest.mark.parametrize("name", OUTPUTS, ids=lambda n: n.removeprefix("out_"))
def test_an_operator_gives_what_tensorflow_gave(name):
    graph = _only(name)
    given = {v.name: EXPECTED[v.name] for v in graph.inputs}
    found, expected = Evaluator(graph).run(given)[name], EXPECTED[name]
    assert found.shape == expected.shape
    error = TABLE_ERROR if "Bicubic" in name else FLOAT32_ERROR
    np.testing.assert_allclose(found, expected, atol=error, rtol=error)


def test_unknown_sizes_are_those_asked_for():
    graph = tensorflow.load(SMALL / "tensorflow_encoder").graph(3, 7)
    assert graph.input("ids").shape == (3, 7)
    assert graph.outputs[0].shape == (3, 7, 32)
    assert {n.scope for n in graph.nodes if n.op.name == "gelu"} == {"Gelu", "Gelu_1"}


def test_shapes_alone_have_no_data():
    graph = tensorflow.load(SMALL / "tensorflow_cnn", weights=False).graph(1)
    assert graph.parameters
    assert all(p.loader is None for p in graph.parameters)


def test_what_a_model_has_not_is_named():
    model = tensorflow.load(SMALL / "tensorflow_encoder")
    with pytest.raises(UnknownNameError, match="signature 'serve'"):
        model.graph(task="serve")
    with pytest.raises(UnknownNameError, match="input 'tokens'"):
        model.graph(shapes={"tokens": (1, 2)})


# Wire format


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def test_numbers_are_read_packed_and_one_by_one():
    of = schema(ints=(1, "ints"), floats=(2, "floats"), one=(3, "int"), text=(4, "string"))
    data = (
        _field(1, b"\x01\x96\x01" + b"\xff" * 9 + b"\x01")
        + b"\x08\x05"
        + _field(2, np.float32([0.5, -2]).tobytes())
        + b"\x18\x96\x01"
        + _field(4, b"ab")
        + _field(9, b"unknown")
    )
    found = parse(memoryview(data), of, "data")
    assert found["ints"].tolist() == [1, 150, -1, 5]
    assert found["floats"].tolist() == [0.5, -2]
    assert (found["one"], found["text"]) == (150, "ab")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x05ab", "field of 5 bytes exceeds the 2"),
        (b"\x0b", "wire type 3"),
        (b"\xff" * 12, "does not end"),
        (_field(1, b"\xff"), "does not end"),
        (_field(2, b"abc"), "whole numbers of 4 bytes"),
        (_field(3, b"a"), "no whole number"),
    ],
)
def test_malformed_messages_are_refused(data, message):
    of = schema(ints=(1, "ints"), floats=(2, "floats"), one=(3, "int"))
    with pytest.raises(ModelFileError, match=message):
        parse(memoryview(data), of, "data")


def test_deep_nesting_is_refused():
    inner = schema()
    inner.fields[1] = tensorflow_field = schema(x=(1, inner)).fields[1]
    data = b""
    for _ in range(60):
        data = (
            b"\x0a" + (len(data).to_bytes(1, "little") if len(data) < 128 else b"\x80\x01") + data
        )
    assert tensorflow_field.name == "x"
    with pytest.raises(ModelFileError, match=r"nest more than 48 deep|exceeds"):
        parse(memoryview(data), inner, "data")


# Damaged models


def test_files_that_are_no_model_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be read"):
        tensorflow.load(tmp_path)
    for name, content in (("text", b"hello"), ("pickle", b"\x80\x04\x95"), ("empty", b"")):
        path = tmp_path / f"{name}.pb"
        path.write_bytes(content)
        with pytest.raises(ModelFileError):
            tensorflow.load(path)


def _copy(tmp_path: Path, name: str = "tensorflow_cnn") -> Path:
    folder = tmp_path / name
    shutil.copytree(SMALL / name, folder)
    return folder


@pytest.mark.parametrize(
    ("file", "cut", "message"),
    [
        ("saved_model.pb", 1000, "damaged"),
        ("variables/variables.index", 40, "index is damaged"),
        ("variables/variables.data-00000-of-00001", 3000, "the file has"),
    ],
)
def test_truncated_files_are_refused(file, cut, message, tmp_path):
    path = _copy(tmp_path) / file
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ModelFileError, match=message):
        tensorflow.load(path.parents[len(Path(file).parts) - 1])


def test_a_graph_that_depends_on_itself_is_refused(tmp_path):
    def node(name: str, op: str, source: str) -> bytes:
        fields = _field(1, name.encode()) + _field(2, op.encode()) + _field(3, source.encode())
        return _field(1, fields)

    path = tmp_path / "cycle.pb"
    path.write_bytes(node("a", "Relu", "b") + node("b", "Relu", "a") + node("c", "Relu", "a"))
    with pytest.raises(ModelFileError, match="depends on itself"):
        tensorflow.load(path).graph()
    path.write_bytes(node("a", "FancyOp", "") + node("c", "Relu", "a"))
    with pytest.raises(EmuronError, match=r"FancyOp at 'a'|read and does not exist"):
        tensorflow.load(path).graph()


def test_training_batch_norm_and_strings_are_refused_by_name():
    training = [n for n in MODEL.graph_def["node"] if n["op"] == "FusedBatchNormV3"]
    (attribute,) = (a for a in training[0]["attr"] if a["key"] == "is_training")
    before = dict(attribute["value"])
    attribute["value"]["b"] = True
    try:
        with pytest.raises(UnsupportedOpError, match=r"FusedBatchNormV3 at .* export for serving"):
            _only("out_FusedBatchNormV3")
    finally:
        attribute["value"].clear()
        attribute["value"].update(before)


def test_no_mutation_of_the_files_ends_in_another_error(tmp_path):
    random = np.random.default_rng(4)
    folder = _copy(tmp_path)
    files = [folder / "saved_model.pb", folder / "variables" / "variables.index"]
    contents = [f.read_bytes() for f in files]
    for _ in range(40):
        for path, content in zip(files, contents, strict=True):
            damaged = bytearray(content)
            for place in random.integers(0, len(damaged), 3):
                damaged[place] = random.integers(0, 256)
            path.write_bytes(damaged)
        try:
            tensorflow.load(folder).graph(1)
        except EmuronError:
            continue

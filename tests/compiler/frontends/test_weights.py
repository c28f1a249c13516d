"""Reading safetensors files and refusing damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from emuron.compiler.frontends.weights import (
    FileWeights,
    NoWeights,
    RandomWeights,
    open_weights,
    read_header,
)
from emuron.compiler.graph import TensorType
from emuron.errors import ModelFileError
from emuron.numerics.dtypes import float32

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def _write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def _tensor(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "array",
    [
        MATRIX,
        MATRIX.astype(np.float16),
        MATRIX.astype(ml_dtypes.bfloat16),
        MATRIX.astype(np.int64),
        MATRIX.astype(np.int8),
        np.full((), 3.5, np.float32),
        np.zeros((0, 4), np.float32),
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)
def test_what_the_reference_library_writes_is_read_back(array, tmp_path):
    save_file({"first": np.ones(5, np.int8), "w": array}, tmp_path / "model.safetensors")
    found = read_header(tmp_path / "model.safetensors")["w"].read()
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_a_tensor_is_a_read_only_map_of_the_file(tmp_path):
    save_file({"w": MATRIX}, tmp_path / "model.safetensors")
    found = open_weights(tmp_path).loader("w", TensorType((2, 3), float32))()
    assert not found.flags.writeable
    assert isinstance(found.base, np.memmap)


def test_shards_are_found_through_their_index(tmp_path):
    save_file({"a": MATRIX}, tmp_path / "one.safetensors")
    save_file({"b": MATRIX + 1}, tmp_path / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = open_weights(tmp_path)
    np.testing.assert_array_equal(weights.tensors["b"].read(), MATRIX + 1)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "gone.safetensors"}, "'gone.safetensors' is missing"),
        ({"a": "../one.safetensors"}, "points outside the folder"),
        ({"c": "one.safetensors"}, "has no tensor 'c'"),
        (["a"], "'weight_map' must map"),
    ],
)
def test_a_wrong_index_is_refused(weight_map, message, tmp_path):
    save_file({"a": MATRIX}, tmp_path / "one.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelFileError, match=message):
        open_weights(tmp_path)


HUGE = 1 << 40
DAMAGED = [
    ({"w": _tensor([HUGE, HUGE], 0, 24)}, "needs .* bytes, its offsets span 24"),
    ({"w": _tensor([2, 3], 0, 20)}, "needs 24 bytes, its offsets span 20"),
    ({"w": _tensor([4, 3], 0, 48)}, "ends at byte"),
    ({"w": _tensor([2, -3], 0, 24)}, "not a list of sizes"),
    ({"w": _tensor([True, 6], 0, 24)}, "not a list of sizes"),
    ({"w": _tensor([2, 3], 0, 24, "F99")}, "dtype 'F99'; known: F64, F32"),
    ({"w": _tensor([2, 3], 0, 24, ["F32"])}, "known: F64"),
    ({"w": {**_tensor([2, 3], 0, 24), "data_offsets": [0]}}, "not a start and an end"),
    ({"w": 5}, "has no description"),
    ({"a": _tensor([2], 0, 8), "b": _tensor([2], 4, 12)}, "'a' and 'b' overlap"),
    ([1, 2], "must be an object, found list"),
    (b"{not json", "does not parse"),
    (b'{"a": 1, "a": 2}', "names one key twice"),
    (b"[" * 100_000, "does not parse"),
    (b"\xff\xfe", "does not parse"),
]


@pytest.mark.parametrize(("header", "message"), DAMAGED)
def test_a_damaged_header_is_refused(header, message, tmp_path):
    path = _write(tmp_path / "model.safetensors", header, bytes(24))
    with pytest.raises(ModelFileError, match=message) as caught:
        read_header(path)
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize("length", [1000, 2**63, 2**64 - 1])
def test_a_header_that_claims_more_than_the_file_holds_is_refused(length, tmp_path):
    path = _write(tmp_path / "model.safetensors", {}, length=length)
    with pytest.raises(ModelFileError, match="not a whole safetensors file"):
        read_header(path)


@pytest.mark.parametrize("kept", [0, 5, 8, 40, -1])
def test_a_truncated_file_is_refused(kept, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"w": MATRIX}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError):
        read_header(path)


def test_pickled_weights_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ModelFileError, match=r"pickle .*safe_serialization=True"):
        open_weights(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"neither model\.safetensors nor"):
        open_weights(tmp_path)


def test_a_missing_or_misshapen_weight_is_named(tmp_path):
    save_file({"w": MATRIX}, tmp_path / "model.safetensors")
    weights = open_weights(tmp_path)
    assert isinstance(weights, FileWeights)
    with pytest.raises(ModelFileError, match="weight 'v'"):
        weights.loader("v", TensorType((2, 3), float32))
    with pytest.raises(ModelFileError, match=r"'w' has shape \[2, 3\].*makes it \[3, 2\]"):
        weights.loader("w", TensorType((3, 2), float32))


def test_random_weights_depend_on_seed_and_name_alone():
    type = TensorType((4, 5), float32)
    first, again, other = (
        RandomWeights(s).loader(n, type)() for s, n in ((1, "a"), (1, "a"), (1, "b"))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, RandomWeights(2).loader("a", type)())


def test_shapes_alone_have_no_loader():
    assert NoWeights().loader("w", TensorType((2,), float32)) is None

"""The evaluator: inputs, outputs, freeing and the debugger's view."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from emuron.compiler.evaluate import Evaluator, WeightCache
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.errors import OutOfBoundsError, UsageError
from emuron.numerics.dtypes import bfloat16, float32, int32

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def _graph(weight=WEIGHT, reads: list[int] | None = None) -> Graph:
    def loader() -> np.ndarray:
        if reads is not None:
            reads.append(1)
        return weight

    b = GraphBuilder("embed")
    ids = b.input("ids", TensorType((2,), int32))
    with b.scope("lookup"):
        rows = b.take(b.parameter("table", TensorType((3, 4), float32), loader), ids)
    b.output("doubled", b.mul(rows, rows))
    b.output("rows", rows)
    return b.finish()


def test_outputs_come_by_name_and_64_bit_ids_are_narrowed():
    outputs = Evaluator(_graph()).run({"ids": np.array([2, 0])})
    np.testing.assert_array_equal(outputs["rows"], [[8, 9, 10, 11], [0, 1, 2, 3]])
    np.testing.assert_array_equal(outputs["doubled"], outputs["rows"] ** 2)


def test_a_weight_is_read_once_and_shared_through_the_cache():
    reads: list[int] = []
    cache = WeightCache()
    for _ in range(2):
        evaluator = Evaluator(_graph(reads=reads), weights=cache)
        for _ in range(2):
            evaluator.run({"ids": np.array([1, 1])})
    assert reads == [1]


def test_a_weight_stored_in_another_dtype_is_converted():
    narrow = (WEIGHT / 3).astype(ml_dtypes.bfloat16)
    rows = Evaluator(_graph(narrow)).run({"ids": np.array([1, 2])})["rows"]
    np.testing.assert_array_equal(rows, narrow[1:].astype(np.float32))


def test_autocast_all_rounds_parameters_and_inputs_too():
    b = GraphBuilder("g")
    x = b.input("x", TensorType((1,), float32))
    w = b.parameter("w", TensorType((1,), float32), lambda: np.array([2**-12 + 1], np.float32))
    b.output("difference", b.sub(x, w))
    value = np.array([1.0 + 2**-11], np.float32)
    assert Evaluator(b.finish()).run({"x": value})["difference"] == 2**-12
    rounded = Evaluator(b.finish(), autocast=Autocast("all")).run({"x": value})
    assert rounded["difference"] == 0


def test_values_are_stored_in_their_dtype_between_ops():
    b = GraphBuilder("g")
    x = b.input("x", TensorType((1,), bfloat16))
    b.output("y", b.sub(b.add(x, 1.0), 1.0))
    found = Evaluator(b.finish()).run({"x": np.array([2**-9], ml_dtypes.bfloat16)})["y"]
    assert found.dtype == ml_dtypes.bfloat16
    assert found == 0


def test_the_debugger_sees_every_value():
    values = Evaluator(_graph()).run_all({"ids": np.array([1, 1])})
    assert list(values) == ["take_1", "mul_1"]


def test_an_index_outside_names_node_and_layer():
    with pytest.raises(OutOfBoundsError, match=r"'take_1' in lookup: take: index 3 .* 0\.\.2"):
        Evaluator(_graph()).run({"ids": np.array([3, 0])})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing: \\['ids'\\]"),
        ({"ids": np.array([1, 1]), "x": np.array(0)}, "unknown: \\['x'\\]"),
        ({"ids": np.array([1])}, "shape \\[1\\].*int32\\[2\\]"),
        ({"ids": np.array([1.0, 2.0])}, "expects int32"),
        ({"ids": np.array([2**40, 0])}, "outside int32"),
    ],
)
def test_a_wrong_input_is_named(inputs, message):
    with pytest.raises(UsageError, match=message):
        Evaluator(_graph()).run(inputs)


def _cache_graph(*, read_again: bool = False) -> Graph:
    b = GraphBuilder("cache")
    cache = b.input("cache", TensorType((1, 1, 4, 2), float32))
    update = b.input("update", TensorType((1, 1, 1, 2), float32))
    at = b.input("at", TensorType((1, 1), int32))
    b.output("cache", b.scatter(cache, update, at, 2, batched=True), alias=cache)
    if read_again:
        b.output("old", b.mul(cache, 1.0))
    return b.finish()


def _cache_inputs() -> dict[str, np.ndarray]:
    update = np.array([5, 6], np.float32).reshape(1, 1, 1, 2)
    return {"cache": np.zeros((1, 1, 4, 2), np.float32), "update": update, "at": np.array([[2]])}


@pytest.mark.parametrize("donate", [True, False])
def test_a_cache_is_written_in_place_only_if_donated(donate):
    inputs = _cache_inputs()
    found = Evaluator(_cache_graph()).run(inputs, donate=donate)["cache"]
    assert found[0, 0].tolist() == [[0, 0], [0, 0], [5, 6], [0, 0]]
    assert inputs["cache"].any() == donate


def test_a_donated_cache_that_is_read_later_is_left_whole():
    outputs = Evaluator(_cache_graph(read_again=True)).run(_cache_inputs(), donate=True)
    assert not outputs["old"].any()
    assert outputs["cache"].any()


@pytest.mark.torch
def test_8_bit_floats_come_back_from_torch_in_their_own_type():
    pytest.importorskip("torch")
    b = GraphBuilder("g")
    b.output("y", b.cast(b.input("x", TensorType((3,), float32)), "float8_e4m3"))
    found = Evaluator(b.finish(), "torch").run({"x": np.array([1, 1.06, -9], np.float32)})["y"]
    assert found.dtype == ml_dtypes.float8_e4m3
    assert found.astype(float).tolist() == [1, 1, -9]


@pytest.mark.torch
def test_torch_and_numpy_agree():
    pytest.importorskip("torch")
    inputs = {"ids": np.array([2, 1])}
    ours, theirs = (Evaluator(_graph(), name).run(inputs) for name in ("numpy", "torch"))
    np.testing.assert_array_equal(ours["doubled"], theirs["doubled"])

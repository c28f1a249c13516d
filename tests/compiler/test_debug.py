"""The debugger: where values drift, and which rounding does it."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.debug import debug, relative_error
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.errors import UnknownNameError, UsageError
from emuron.numerics.dtypes import bfloat16, float32

RANDOM = np.random.default_rng(11)
WEIGHTS = [RANDOM.standard_normal((16, 16)).astype(np.float32) for _ in range(3)]
INPUTS = {"x": RANDOM.standard_normal((4, 16)).astype(np.float32)}


def layers(cast_in: int | None = None) -> Graph:
    """Three linear layers, with the model's own cast to bfloat16 after one of them."""
    b = GraphBuilder("three")
    x = b.input("x", TensorType((4, 16), float32))
    for i, weight in enumerate(WEIGHTS):
        with b.scope(f"layer.{i}"):
            w = b.parameter(f"w{i}", TensorType((16, 16), float32), lambda weight=weight: weight)
            x = b.tanh(b.linear(x, w))
            if cast_in == i:
                x = b.cast(b.cast(x, bfloat16), float32)
    b.output("y", x)
    return b.finish()


def test_a_model_without_casts_does_not_drift():
    found = debug(layers(), INPUTS, Autocast("none"))
    assert found.first is None
    assert found.culprit is None
    assert all(node.drift == 0 for node in found.nodes)


def test_the_first_layer_beyond_the_bound_and_its_casts_are_found():
    found = debug(layers(), INPUTS, Autocast("matmult"), bound=1e-3)
    assert found.first is not None
    assert (found.first.layer, found.first.op) == ("layer.0", "linear")
    assert {effect.cast for effect in found.casts} == {
        "operand 0, the value x",
        "operand 1, the weight w0",
    }
    assert all(effect.to_dtype == "bfloat16" for effect in found.casts)


def test_rounding_one_operand_is_told_from_rounding_the_other():
    b = GraphBuilder("one")
    x = b.input("x", TensorType((4, 16), float32))
    whole = np.sign(WEIGHTS[0])  # 1 and -1 lose nothing in bfloat16
    weight = b.parameter("w", TensorType((16, 16), float32), lambda: whole)
    b.output("y", b.linear(x, weight))
    found = debug(b.finish(), INPUTS, Autocast("matmult"), bound=1e-4)
    assert [effect.cast for effect in found.casts if effect.error > 0] == ["operand 0, the value x"]
    # The product is linear in x: the effect is that of rounding x, taken through the same weight.
    rounded = INPUTS["x"].astype("bfloat16").astype(np.float32)
    expected = relative_error(rounded @ whole.T, INPUTS["x"] @ whole.T)
    assert found.casts[0].error == pytest.approx(expected, rel=1e-3)


def test_a_cast_injected_into_a_layer_is_found_there_against_captured_values():
    b = layers()
    y = INPUTS["x"]
    captured = {}
    for i, weight in enumerate(WEIGHTS):
        y = np.tanh(y @ weight.T)
        captured[f"layer.{i}"] = y
    clean = debug(b, INPUTS, Autocast("none"), bound=1e-4, captured=captured)
    assert clean.first is None
    found = debug(layers(cast_in=1), INPUTS, Autocast("none"), bound=1e-4, captured=captured)
    assert found.first is not None
    assert found.culprit is not None
    assert found.first.layer == found.culprit.layer == "layer.1"
    assert found.culprit.op == "cast"
    assert found.casts[0].cast == "the model's own cast"


def test_rounding_everything_names_the_result_too():
    found = debug(layers(), INPUTS, Autocast("all"), bound=1e-4)
    assert "the result" in {effect.cast for effect in found.casts}


def test_layers_show_their_last_node_and_their_worst():
    found = debug(layers(), INPUTS, Autocast("matmult"))
    assert [layer.layer for layer in found.layers()] == ["layer.0", "layer.1", "layer.2"]
    assert all(layer.op == "tanh" for layer in found.layers())
    assert all(layer.own > 0 for layer in found.layers())


def test_a_captured_name_or_shape_that_is_not_there_is_refused():
    with pytest.raises(UnknownNameError, match=r"layer\.9"):
        debug(layers(), INPUTS, Autocast("none"), captured={"layer.9": np.zeros(1)})
    with pytest.raises(UsageError, match=r"shape \[3\]"):
        debug(layers(), INPUTS, Autocast("none"), captured={"layer.0": np.zeros(3)})
    with pytest.raises(UsageError, match="above 0"):
        debug(layers(), INPUTS, Autocast("none"), bound=0)


def test_relative_errors_of_special_values():
    nan, inf = float("nan"), float("inf")
    assert relative_error(np.array([nan, inf, 1.0]), np.array([nan, inf, 1.0])) == 0
    assert relative_error(np.array([nan]), np.array([1.0])) == inf
    assert relative_error(np.array([1.0, inf]), np.array([2.0, inf])) == 0.5
    assert relative_error(np.array([1.0]), np.array([0.0])) == inf

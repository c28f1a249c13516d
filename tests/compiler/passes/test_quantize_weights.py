"""Weights stored in 8 bits: what is stored, how far it is off, and that both fidelities agree."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import ml_dtypes
import numpy as np
import pytest

from emuron.compiler import artifact
from emuron.compiler.compile import CompiledModel, compile_model
from emuron.compiler.debug import debug
from emuron.compiler.frontends.hf import HFModel
from emuron.compiler.graph import Graph, TensorType
from emuron.compiler.ops import Autocast, GraphBuilder
from emuron.compiler.passes.quantize_weights import WEIGHT_FORMATS, weight_passes
from emuron.compiler.pipeline import optimize
from emuron.errors import UnknownNameError, UsageError
from emuron.numerics.dtypes import bfloat16, float32
from emuron.numerics.matmul import sums_in_order

Make = Callable[..., HFModel]
MakeInputs = Callable[..., dict[str, np.ndarray]]

RANDOM = np.random.default_rng(5)
WEIGHT = RANDOM.standard_normal((6, 40)).astype(np.float32) * RANDOM.uniform(0.01, 9, (6, 1))
WEIGHT = WEIGHT.astype(np.float32)
WEIGHT[3] = 0
BIAS = RANDOM.standard_normal(6).astype(np.float32)
X = RANDOM.standard_normal((5, 40)).astype(np.float32)
LARGEST = {"int8": 127.0, "fp8": 240.0}
# Half of what lies between neighbours: of integers, as a share of 127; of 3 mantissa bits, 2**-4
# of the number, at most that share of the largest in its row.
OFF_BY = {"int8": 0.5 / 127, "fp8": 2**-4}


def layer(*, data: bool = True, tied: bool = False) -> Graph:
    """A linear layer; `tied`, its weight is also the table that its input was looked up in."""
    b = GraphBuilder("layer")
    weight = b.parameter("w", TensorType((6, 40), float32), (lambda: WEIGHT) if data else None)
    bias = b.parameter("b", TensorType((6,), float32), (lambda: BIAS) if data else None)
    b.output("y", b.linear(b.input("x", TensorType((5, 40), float32)), weight, bias))
    if tied:
        b.output("table", b.tanh(weight))
    return b.finish()


def stored_by_hand(weights: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight that 8 bits stand for and the scale of its rows, number by number."""
    found, scales = np.zeros(WEIGHT.shape), []
    for o, row in enumerate(WEIGHT):
        scale = np.float32(max(abs(float(w)) for w in row)) / np.float32(LARGEST[weights])
        scales.append(float(scale))
        for i, w in enumerate(row):
            if not scale:
                continue
            number = np.float32(w) / scale
            stored = (
                round(float(number)) if weights == "int8" else number.astype(ml_dtypes.float8_e4m3)
            )
            found[o, i] = float(stored) * float(scale)
    return found, np.array(scales)


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_the_product_is_that_of_the_stored_numbers_times_their_scale(weights: str) -> None:
    made = compile_model(layer(), weights=weights, autocast="none")
    weight, _ = stored_by_hand(weights)
    exact = X.astype(float) @ weight.T + BIAS
    # Each of 41 float32 operations is off by half a unit in the last place of the sum of sizes.
    bound = 41 * 2**-24 * (np.abs(X).astype(float) @ np.abs(weight).T + np.abs(BIAS))
    assert (np.abs(made.run({"x": X})["y"] - exact) <= bound).all()


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_a_stored_weight_is_off_by_half_a_step_of_its_row_at_most(weights: str) -> None:
    (stored,) = (
        p for p in optimize(layer(), weight_passes(weights)).parameters if " as " in p.name
    )
    found = stored.load().astype(float)
    by_hand, scales = stored_by_hand(weights)
    np.testing.assert_allclose(found * scales[:, None], by_hand, rtol=2**-23)
    largest = np.abs(WEIGHT).max(axis=1, keepdims=True)
    assert (np.abs(found * scales[:, None] - WEIGHT) <= (OFF_BY[weights] + 2**-22) * largest).all()
    assert np.abs(found).max() == LARGEST[weights]


@pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")
@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
@pytest.mark.parametrize(
    ("family", "task", "type"),
    [("bert", "", "float32"), ("llama", "decode", "float32"), ("llama", "decode", "bfloat16")],
)
def test_both_fidelities_give_the_same_bits(
    weights: str,
    family: str,
    task: str,
    type: str,
    request: pytest.FixtureRequest,
    inputs_of: MakeInputs,
) -> None:
    model = request.getfixturevalue(family)(torch_dtype=type)
    made = compile_model(model, sequence=16, task=task, weights=weights)
    inputs = inputs_of(made.graph)
    executed = made.run(inputs, fidelity="instruction")
    for name, array in made.run(inputs).items():
        np.testing.assert_array_equal(array, executed[name])


@pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")
@pytest.mark.parametrize("autocast_type", ["fp8", "tf32"])
def test_int8_weights_meet_every_kind_of_operand(autocast_type: str) -> None:
    made = compile_model(layer(), weights="int8", autocast_type=autocast_type)
    executed = made.run({"x": X}, fidelity="instruction")["y"]
    np.testing.assert_array_equal(made.run({"x": X})["y"], executed)


def matrices(model: CompiledModel) -> int:
    """Return the elements of the weights of a model's linear layers."""
    nodes = (n for n in model.graph.nodes if n.op.name == "linear")
    return sum(prod(w.shape) for w in {n.inputs[1] for n in nodes})


@pytest.mark.parametrize(("type", "itemsize"), [("float32", 4), ("bfloat16", 2)])
def test_matrices_take_a_byte_a_number_and_a_scale_a_row(
    llama: Make, type: str, itemsize: int
) -> None:
    plain = compile_model(llama(torch_dtype=type), sequence=16)
    made = compile_model(llama(torch_dtype=type), sequence=16, weights="int8")
    scales = [p for p in made.graph.parameters if p.name.endswith(" scale")]
    saved = matrices(plain) * (itemsize - 1) - sum(4 * p.type.elements for p in scales)
    assert made.graph.parameter_bytes == plain.graph.parameter_bytes - saved
    (record,) = (p for p in made.passes if p.name == "quantize_weights_to_int8")
    assert record.figures["weights stored as int8"] == len(scales)
    assert record.figures["parameters before, bytes"] == plain.graph.parameter_bytes
    assert record.figures["parameters after, bytes"] == made.graph.parameter_bytes
    assert made.executable.parameter_bytes < plain.executable.parameter_bytes


def test_a_matrix_that_something_else_reads_too_stays_as_it_is() -> None:
    made = optimize(layer(tied=True), weight_passes("int8"))
    assert [p.name for p in made.parameters] == ["w", "b"]


def test_shapes_alone_can_be_timed_but_not_run() -> None:
    made = compile_model(layer(data=False), weights="fp8")
    assert made.timing.total_ps > 0
    with pytest.raises(UsageError, match="built from shapes alone"):
        made.run({"x": X})


def wide() -> Graph:
    """One row through a matrix of 16 Mi numbers: bound by reading it."""
    b = GraphBuilder("wide")
    x = b.input("x", TensorType((1, 4096), bfloat16))
    b.output("y", b.linear(x, b.parameter("w", TensorType((4096, 4096), bfloat16))))
    return b.finish()


def test_a_product_bound_by_reading_its_weight_is_faster_with_8_bits() -> None:
    plain, int8, fp8 = (
        compile_model(wide(), weights=w).timing.total_ps for w in ("", "int8", "fp8")
    )
    assert int8 < 0.75 * plain  # the casts of int8 take time of their own
    assert fp8 < 0.6 * plain


def test_ranks_of_a_spread_model_give_the_outputs_of_one_core(
    llama: Make, inputs_of: MakeInputs
) -> None:
    options = {"on": "inf2.24xlarge", "sequence": 4, "weights": "int8", "autocast": "none"}
    one, two = (compile_model(llama(num_hidden_layers=1), tp=tp, **options) for tp in (1, 2))
    inputs = inputs_of(one.graph)
    name = one.graph.output_names[0]
    whole = one.run(inputs)[name]
    # Sums over ranks are added in another order: some units in the last place of the largest.
    np.testing.assert_allclose(
        two.run(inputs)[name], whole, rtol=0, atol=1e-5 * np.abs(whole).max()
    )


@pytest.mark.parametrize("weights", WEIGHT_FORMATS)
def test_an_artifact_keeps_the_stored_weights(weights: str, tmp_path) -> None:
    made = compile_model(layer(), weights=weights)
    again = artifact.load(artifact.save(made, tmp_path / "layer.emuron"))
    assert again.options.weights == weights
    np.testing.assert_array_equal(again.run({"x": X})["y"], made.run({"x": X})["y"])


def test_the_debugger_blames_the_weight_as_stored() -> None:
    made = compile_model(layer(), weights="fp8")
    cast = Autocast("none")
    found = debug(made.graph, {"x": X}, cast, bound=1e-3, framework=made.framework)
    assert found.first is not None
    (effect,) = found.casts
    assert effect.cast == "the weight as stored, w as float8_e4m3"
    exact = X.astype(float) @ WEIGHT.T + BIAS
    stored = X.astype(float) @ stored_by_hand("fp8")[0].T + BIAS
    expected = np.linalg.norm(stored - exact) / np.linalg.norm(exact)
    assert effect.error == pytest.approx(expected, rel=1e-3)
    assert debug(made.graph, {"x": X}, cast, bound=1e-3).first is None


def test_a_weight_format_of_another_name_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="int4"):
        compile_model(layer(), weights="int4")

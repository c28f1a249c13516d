"""`compile_model(..., tp=n)`: one model on several cores of an instance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emuron.compiler import artifact
from emuron.compiler.compile import compile_model
from emuron.compiler.frontends.hf import HFModel
from emuron.errors import CapacityError, UsageError
from emuron.numerics.matmul import sums_in_order

Make = Callable[..., HFModel]
MakeInputs = Callable[..., dict[str, np.ndarray]]

BF16_ERROR = 2.0**-7
"""Partial sums that each rank rounds to bfloat16 operands' grid differ in the last bits."""


def test_ranks_give_the_outputs_of_one_core(llama: Make, inputs_of: MakeInputs) -> None:
    model = llama()
    one, four = (compile_model(model, on="inf2.24xlarge", sequence=8, tp=tp) for tp in (1, 4))
    inputs = inputs_of(one.graph)
    expected, found = one.run(inputs), four.run(inputs)
    np.testing.assert_allclose(found["logits"], expected["logits"], BF16_ERROR, BF16_ERROR)
    assert found["key_cache.0"].shape == expected["key_cache.0"].shape


@pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")
def test_both_fidelities_of_ranks_agree(llama: Make, inputs_of: MakeInputs) -> None:
    made = compile_model(llama(num_hidden_layers=1), on="inf2.24xlarge", sequence=4, tp=2)
    inputs = inputs_of(made.graph)
    operator, executed = (made.run(inputs, fidelity=f) for f in ("operator", "instruction"))
    for name, array in operator.items():
        np.testing.assert_array_equal(executed[name], array, name)


def test_what_tp_leaves_runs_copies(llama: Make) -> None:
    summary = compile_model(llama(), on="inf2.48xlarge", sequence=8, tp=8).summary()
    assert summary["workers"] == 3
    assert summary["throughput_per_s"] == pytest.approx(3e3 / summary["latency_ms"])
    assert summary["memory"]["verdict"] == "fits"


def test_memory_of_a_core_shrinks_with_more_cores(llama: Make) -> None:
    model = llama(num_attention_heads=8, num_key_value_heads=8, vocab_size=4096)
    one, eight = (compile_model(model, on="inf2.24xlarge", sequence=8, tp=tp) for tp in (1, 8))
    assert eight.memory.state_bytes == one.memory.state_bytes // 8
    assert eight.memory.weight_bytes < one.memory.weight_bytes


@pytest.mark.slow
def test_the_shape_of_gpt3_fits_24_cores() -> None:
    made = compile_model("gpt3-175b", on="inf2.48xlarge", tp=24)
    # 175 billion parameters of two bytes (GPT-3 paper, table 2.1), a 24th on each core, with the
    # tables that stay whole; 16 GiB on a core (HW inf2-arch).
    assert made.memory.weight_bytes == pytest.approx(175e9 * 2 / 24, rel=0.01)
    assert made.memory.verdict == "fits"


def test_the_shape_of_gpt3_does_not_fit_12_cores() -> None:
    with pytest.raises(CapacityError, match=r"does not fit: 27\.\d GiB of 16\.0 GiB"):
        _ = compile_model("gpt3-175b", on="inf2.24xlarge", tp=12).executable


def test_more_cores_than_there_are_are_refused_with_what_fits() -> None:
    with pytest.raises(UsageError, match=r"12 logical cores of inf2\.24xlarge.*does not fit: 325"):
        compile_model("gpt3-175b", on="inf2.24xlarge", tp=24)


def test_an_artifact_keeps_the_number_of_cores(llama: Make, tmp_path) -> None:
    made = compile_model(llama(), on="inf2.24xlarge", sequence=8, tp=2)
    artifact.save(made, tmp_path / "made")
    assert artifact.load(tmp_path / "made").tp == 2

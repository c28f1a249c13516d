"""`compile_model`: what the commands and the Python API see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from emuron.compiler.compile import CompiledModel, compile_model
from emuron.compiler.frontends.hf import HFModel
from emuron.errors import UnknownNameError
from emuron.numerics.matmul import sums_in_order

Make = Callable[..., HFModel]


@pytest.fixture(scope="module")
def compiled(bert: Make) -> CompiledModel:
    return compile_model(bert(), on="inf2.xlarge", batch=2, sequence=16)


@pytest.mark.skipif(not sums_in_order(), reason="this host's BLAS adds in another order")
def test_both_fidelities_give_the_same_bits(
    compiled: CompiledModel, inputs_of: Callable[..., dict[str, np.ndarray]]
) -> None:
    inputs = inputs_of(compiled.graph)
    operator = compiled.run(inputs)
    instruction = compiled.run(inputs, fidelity="instruction")
    for name, array in operator.items():
        np.testing.assert_array_equal(array, instruction[name])


def test_throughput_is_that_of_one_worker_a_core(compiled: CompiledModel) -> None:
    seconds = compiled.latency.total_us / 1e6
    assert compiled.throughput_per_s == pytest.approx(compiled.instance.cores * 2 / seconds)


def test_the_summary_is_what_the_parts_say(compiled: CompiledModel) -> None:
    summary = compiled.summary()
    assert summary["device_ms"] == pytest.approx(compiled.timing.total_ps / 1e9)
    assert summary["device_ms"] + summary["host_ms"] == pytest.approx(summary["latency_ms"])
    assert summary["batch"] == 2
    for costs in compiled.costs():
        million_s = 1e6 / compiled.throughput_per_s
        assert costs.usd_per_million == pytest.approx(million_s / 3600 * costs.usd_per_hour)


def test_the_trace_ends_when_the_program_does(compiled: CompiledModel) -> None:
    assert compiled.trace.total_ps == compiled.timing.total_ps
    assert compiled.trace.metadata["model"] == compiled.graph.name


def test_a_fidelity_or_an_instance_of_another_name_is_refused(
    compiled: CompiledModel, bert: Make
) -> None:
    with pytest.raises(UnknownNameError, match="exact"):
        compiled.run({}, fidelity="exact")
    with pytest.raises(UnknownNameError, match="inf9"):
        compile_model(bert(), on="inf9.xlarge")

"""The example kernels give what NumPy gives, on every generation, and show what they teach."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from emuron.nki.cases import Case, largest_error
from emuron.nki.launch import run_kernel
from emuron.trace.summary import summarize

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "kernels"


def cases_of(name: str) -> list[Case]:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.cases()


ALL = [(path.stem, case) for path in sorted(EXAMPLES.glob("*.py")) for case in cases_of(path.stem)]
CHECKED = [pytest.param(case, id=f"{name} {case.name}") for name, case in ALL if case.expected]


def test_every_example_has_a_checked_and_a_timed_case():
    for name in {name for name, _ in ALL}:
        kinds = {case.has_data for other, case in ALL if other == name}
        assert kinds == {True, False}, name


@pytest.mark.parametrize("case", CHECKED)
def test_an_example_equals_its_reference(chip, case):
    run = run_kernel(case.kernel, case.args, target=chip, collect=False)
    assert largest_error(run.outputs, case.expected(*case.args)) <= case.tolerance
    assert run.timing.total_ps > 0


def timed(step: str):
    """Return the shares of a 4096³ bf16 product on trn2, and its time in microseconds."""
    case = next(c for n, c in ALL if n == "matmul" and c.name == f"{step} 4096")
    run = run_kernel(case.kernel, case.args, target="trn2", execute=False)
    summary = summarize(run.timing.trace)
    total = summary.total_ps
    return {kind: busy / total for kind, busy in summary.kinds.items()}, total / 1e6


def test_the_best_product_keeps_the_tensor_engine_busy():
    # AGD, trn2, one core: 1801 µs, PE 1781 µs (calibration anchors of the hardware notes).
    shares, time_us = timed("optimised")
    assert shares["tensor"] >= 0.95
    assert time_us == pytest.approx(1801, rel=0.05)


def test_a_blocked_product_is_bound_by_the_tensor_engine():
    """Measured on trn2: 2451 us, of which the tensor engine works 2163 (hardware.md 2.11)."""
    shares, _ = timed("blocked")
    assert shares["tensor"] == pytest.approx(2163 / 2451, abs=0.05)
    assert max(shares, key=shares.__getitem__) == "tensor"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["tiled", "hoisted"])
def test_a_product_that_reloads_tiles_is_bound_by_dma(step):
    shares, time_us = timed(step)
    assert shares["dma"] >= 0.99
    assert shares["tensor"] < 0.7
    assert time_us > timed("blocked")[1]

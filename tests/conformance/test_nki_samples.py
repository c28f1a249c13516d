"""The current-dialect tutorials of nki-samples, from a copy: their drivers, as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.conftest import copy_of

pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.fixture
def tutorials() -> Path:
    pytest.importorskip("torch")
    return copy_of("EMURON_NKI_SAMPLES") / "src" / "nki_samples" / "tutorials"


def test_matrix_multiplication(tutorials, run_driver):
    said = run_driver(tutorials / "matrix_multiplication", "matrix_multiplication_torch.py")
    assert said.count("NKI and Torch match") == 5


def test_microscaled_matrix_multiplication(tutorials, run_driver, monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn3")
    said = run_driver(tutorials / "mxfp-matmul", "mx_toplevel.py")
    assert said.count("np.allclose pass? True") == 6
    assert "pass? False" not in said

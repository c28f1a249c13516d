"""The NKI examples of aws-neuron-sdk, from a copy: kernels against NumPy, drivers as they are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emuron.compat
import emuron.nki as nki
from tests.conformance.conftest import copy_of

pytestmark = pytest.mark.slow


@pytest.fixture
def examples() -> Path:
    return copy_of("EMURON_NEURON_SDK") / "nki" / "examples"


@pytest.fixture
def kernels(examples, monkeypatch) -> Any:
    """Return a function that imports an example's kernel module."""
    meta_path = list(sys.meta_path)
    before = set(sys.modules)
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    emuron.compat.install()

    def load(path: str) -> Any:
        spec = importlib.util.spec_from_file_location(Path(path).stem, examples / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")  # some modules set it
        return module

    yield load
    sys.meta_path[:] = meta_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "nki":
            del sys.modules[name]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("cores", [None, 1, 2])
def test_tensor_addition(kernels, rng, cores):
    kernel = kernels("tensor_addition/tensor_addition_nki_kernels.py").nki_tensor_add
    a, b = rng.normal(size=(2, 256, 1024)).astype(np.float32)
    launched = kernel if cores is None else kernel[cores]
    np.testing.assert_array_equal(nki.simulate(launched)(a, b), a + b)


@pytest.mark.parametrize("shape", [(3, 4), (37, 10)])
def test_transpose2d(kernels, shape):
    kernel = kernels("transpose2d/transpose2d_nki_kernels.py").tensor_transpose2D_kernel_
    x = np.arange(5 * shape[0] * shape[1], dtype=np.float32).reshape(5, -1)
    expected = x.reshape(5, *shape).transpose(0, 2, 1).reshape(5, -1)
    np.testing.assert_array_equal(nki.simulate(kernel)(x, shape), expected)


@pytest.mark.parametrize(
    ("name", "m", "k", "n"),
    [
        ("nki_matmul_basic_", 64, 128, 512),
        ("nki_matmul_tiled_", 4096, 1024, 2048),
        ("nki_matmul_hoist_load_", 4096, 1024, 2048),
        ("nki_matmul_block_free_dimension_", 4096, 1024, 2048),
        ("nki_matmul_fully_optimized_", 4096, 1024, 2048),
    ],
)
def test_matrix_multiplication(kernels, rng, name, m, k, n):
    module = kernels("matrix_multiplication/matrix_multiplication_nki_kernels.py")
    a = rng.random((m, k), np.float32).astype("bfloat16")
    b = rng.random((k, n), np.float32).astype("bfloat16")
    found = nki.simulate(getattr(module, name))(np.ascontiguousarray(a.T), b)
    expected = a.astype(np.float32) @ b.astype(np.float32)
    # The driver's own tolerance: a bfloat16 result of a sum in float32.
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("name", ["mamba_v1", "mamba_v2", "mamba_v3"])
def test_mamba(kernels, rng, name):
    kernel = getattr(kernels("fused_mamba/mamba_nki_kernels.py"), name)
    batch, channels, length, states = 1, 256, 512, 16
    delta, u = rng.random((2, batch, channels, length), np.float32)
    a = -rng.random((channels, states), np.float32)
    b, c = rng.random((2, batch, states, length), np.float32)
    expected = np.zeros((batch, channels, length), np.float32)
    state = np.zeros((batch, channels, states), np.float32)
    for t in range(length):
        decay = np.exp(delta[:, :, t, None] * a)
        state = decay * state + (delta[:, :, t] * u[:, :, t])[:, :, None] * b[:, None, :, t]
        expected[:, :, t] = (state * c[:, None, :, t]).sum(-1)
    found = nki.simulate(kernel)(delta, u, a, b, c)
    np.testing.assert_allclose(found, expected, atol=1e-2, rtol=1e-2)  # the driver's tolerance


@pytest.mark.torch
@pytest.mark.parametrize(
    ("folder", "script"),
    [
        ("transpose2d", "transpose2d_torch.py"),
        ("matrix_multiplication", "matrix_multiplication_torch.py"),
        ("fused_mamba", "mamba_torch.py"),
        ("average_pool2d", "average_pool2d_torch.py"),
    ],
)
def test_a_driver_finds_its_results_right(examples, run_driver, folder, script):
    pytest.importorskip("torch")
    said = run_driver(examples / folder, script)
    assert "NKI and " in said
    assert "match" in said
    assert "differ" not in said


@pytest.mark.torch
@pytest.mark.parametrize("script", ["getting_started_torch.py", "layout-pass.py"])
def test_a_getting_started_script_runs(examples, run_driver, script):
    pytest.importorskip("torch")
    assert "tensor(" in run_driver(examples, script)


@pytest.mark.torch
def test_the_script_that_violates_a_layout_is_told_so(examples, run_driver):
    pytest.importorskip("torch")
    said = run_driver(examples, "layout-violation.py", code=1)
    (error,) = [line for line in said.splitlines() if line.startswith("emuron.errors.")]
    assert "256" in error
    assert "128" in error


def test_the_simulator_example_runs(examples, run_driver):
    assert "add_kernel" in run_driver(examples / "simulate", "nki_simulate_example.py")


def test_the_mamba_script_finds_its_versions_equal(examples, run_driver):
    said = run_driver(examples / "fused_mamba", "mamba_nki_kernels.py", "--seq_len", "512")
    assert said.count("matches? True") == 2


@pytest.mark.parametrize(
    ("version", "channels", "sequence", "published_us"),
    [
        ("v1", 256, 512, 172.93),
        ("v1", 4096, 512, 2340),
        ("v2", 4096, 512, 1610),
        ("v3", 4096, 8192, 27800),
    ],
)
def test_mamba_takes_the_time_of_its_tutorial(kernels, version, channels, sequence, published_us):
    """Tutorial fused_mamba, Trainium1; v2 at 8192 is left out, whose spills no kernel writes."""
    module = kernels("fused_mamba/mamba_nki_kernels.py")
    wide, narrow = (1, channels, sequence), (1, 16, sequence)
    shapes = (wide, wide, (channels, 16), narrow, narrow)
    run = nki.run_kernel(
        getattr(module, f"mamba_{version}"),
        [nki.ShapeDtype(shape, "float32") for shape in shapes],
        target="trn1",
        execute=False,
        collect=False,
    )
    assert run.device_ps / 1e6 == pytest.approx(published_us, rel=0.15)

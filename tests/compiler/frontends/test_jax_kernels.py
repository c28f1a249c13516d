"""NKI kernels in JAX programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emuron import nki
from emuron.compiler.compile import compile_model
from emuron.errors import UsageError
from emuron.nki import isa as nisa
from emuron.nki import language as nl

pytestmark = pytest.mark.jax
jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from emuron.compiler.frontends.jax import to_graph  # noqa: E402
from emuron.compiler.frontends.jax_kernels import nki_call  # noqa: E402

X = np.random.default_rng(0).standard_normal((8, 16), np.float32)


@nki.jit
def scaled(x: Any, factor: float) -> Any:
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(tile, x)
    nisa.tensor_scalar(tile, tile, nl.multiply, factor)
    nisa.dma_copy(out, tile)
    return out


def _model(x: Any) -> Any:
    shape = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    return jnp.tanh(nki_call(scaled, x, factor=2.5, out_shape=shape))


@pytest.mark.parametrize("fidelity", ["operator", "instruction"])
def test_a_kernel_stands_in_the_graph_whole(fidelity):
    graph = to_graph(_model, (X,))
    assert [n.op.name for n in graph.nodes] == ["kernel_call", "tanh"]
    found = compile_model(_model, (X,), autocast="none").run({"x": X}, fidelity=fidelity)
    np.testing.assert_allclose(found["output"], np.tanh(X * 2.5), atol=2**-20)


def test_jax_itself_runs_the_kernel_on_the_simulator():
    np.testing.assert_allclose(_model(jnp.asarray(X)), np.tanh(X * 2.5), atol=2**-20)
    wrong = jax.ShapeDtypeStruct((8, 15), jnp.float32)
    with pytest.raises(
        UsageError, match=r"kernel returns .*\(8, 16\).* out_shape says .*\(8, 15\)"
    ):
        nki_call(scaled, jnp.asarray(X), factor=1.0, out_shape=wrong)

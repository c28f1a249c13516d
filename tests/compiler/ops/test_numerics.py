"""The rounding contract of the operators, bit by bit."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from emuron.compiler.graph import TensorType
from emuron.compiler.ops import Autocast, attention
from emuron.compiler.ops.attention import Attention
from emuron.compiler.ops.binary import Add
from emuron.compiler.ops.contraction import Linear
from emuron.compiler.ops.normalize import LayerNorm, chunk_size
from emuron.errors import UnknownNameError
from emuron.isa.normalization import bn_aggregate, bn_statistics
from emuron.numerics import matmul
from emuron.numerics.dtypes import bfloat16, bool_, float32
from emuron.numerics.numpy_backend import NUMPY


def _fused_chunks(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fused multiply-add over k within 128, chunk after chunk added in float32."""
    total = None
    for start in range(0, x.shape[1], 128):
        part = np.zeros((x.shape[0], weight.shape[0]), np.float32)
        for k in range(start, min(start + 128, x.shape[1])):
            product = np.outer(x[:, k].astype(np.float64), weight[:, k].astype(np.float64))
            part = (product + part).astype(np.float32)
        total = part if total is None else total + part
    return total


@pytest.mark.parametrize("mode", ["matmult", "all"])
@pytest.mark.parametrize("rows", [1, 7])
def test_linear_rounds_operands_adds_in_chunks_then_adds_the_bias(mode, rows, run_op):
    if not matmul.sums_in_order():
        pytest.skip("BLAS here does not sum in order")
    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((rows, 300), (20, 300)))
    bias = rng.standard_normal(20).astype(np.float32)
    types = tuple(TensorType(a.shape, float32) for a in (x, w, bias))
    (found,) = run_op(Linear(), types, [x, w, bias], autocast=Autocast(mode, "bf16"))
    near = [a.astype(ml_dtypes.bfloat16).astype(np.float32) for a in (x, w, bias)]
    expected = _fused_chunks(near[0], near[1]) + (near[2] if mode == "all" else bias)
    if mode == "all":
        expected = expected.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(found, expected)


def test_bfloat16_operands_are_left_alone_by_autocast(run_op):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((4, 40)).astype(ml_dtypes.bfloat16)
    types = (TensorType(x.shape, bfloat16),) * 2
    plain = run_op(Linear(), types, [x, x])
    cast = run_op(Linear(), types, [x, x], autocast=Autocast("matmult", "fp8"))
    np.testing.assert_array_equal(plain[0], cast[0])


def test_autocast_all_rounds_outputs_and_matmult_does_not(run_op):
    x = np.array([1.0 + 2**-12], np.float32)
    types = (TensorType((1,), float32),) * 2
    assert run_op(Add(), types, [x, x], autocast=Autocast("matmult"))[0] == 2 + 2**-11
    assert run_op(Add(), types, [x, x], autocast=Autocast("all"))[0] == 2


def test_autocast_refuses_an_unknown_mode():
    with pytest.raises(UnknownNameError, match="matmult"):
        Autocast("matmul")


def test_attention_rounds_probabilities_before_the_second_product(run_op):
    """One key has score ln 3 below the other: p = 1 and 1/3, which bfloat16 rounds."""
    q = np.zeros((1, 1, 1, 2), np.float32)
    q[..., 0] = 1
    k = np.zeros((1, 1, 2, 2), np.float32)
    k[0, 0, 1, 0] = -math.log(3)
    v = np.array([0, 3], np.float32).reshape(1, 1, 2, 1)
    types = tuple(TensorType(a.shape, float32) for a in (q, k, v))
    (found,) = run_op(Attention(1.0), types, [q, k, v], autocast=Autocast("matmult"))
    score = k[0, 0, 1, 0].astype(ml_dtypes.bfloat16).astype(np.float32)
    e = np.exp(score)
    p = e.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert found.item() == np.float32(3) * p * (np.float32(1) / (np.float32(1) + e))


def test_a_fully_masked_row_of_attention_gives_zero(run_op):
    rng = np.random.default_rng(5)
    q = rng.standard_normal((1, 1, 2, 4)).astype(np.float32)
    keep = np.array([[True, True], [False, False]]).reshape(1, 1, 2, 2)
    types = (*(TensorType(q.shape, float32),) * 3, TensorType(keep.shape, bool_))
    (found,) = run_op(Attention(1.0, masked=True), types, [q, q, q, keep])
    assert np.all(found[0, 0, 0] != 0)
    assert np.all(found[0, 0, 1] == 0)


@pytest.mark.parametrize(("n", "size"), [(1, 1), (512, 512), (768, 384), (1024, 512), (1027, 343)])
def test_rows_are_cut_into_the_fewest_equal_chunks(n, size):
    assert chunk_size(n) == size


def test_layer_norm_takes_its_statistics_from_the_vector_engine(run_op):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((3, 768)).astype(np.float32)
    stats = [bn_statistics(NUMPY, x[:, at : at + 384]) for at in (0, 384)]
    mean, variance = np.split(bn_aggregate(NUMPY, np.concatenate(stats, 1)), 2, axis=1)
    scale = np.float32(1) / np.sqrt(variance + np.float32(1e-12))
    (found,) = run_op(LayerNorm(1e-12), (TensorType(x.shape, float32),), [x])
    np.testing.assert_array_equal(found, (x - mean) * scale)


@pytest.mark.parametrize("example", Attention.examples())
def test_attention_does_not_depend_on_how_many_heads_are_done_at_once(
    example, draw, run_op, monkeypatch
):
    arrays = draw(example)
    whole = run_op(example.op, example.types, arrays)
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", 1)
    np.testing.assert_array_equal(run_op(example.op, example.types, arrays)[0], whole[0])

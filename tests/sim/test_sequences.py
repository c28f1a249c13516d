"""Straight code of an instruction gives the bits that its `compute` gives."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.sim import sequences

P, F = 128, 96

RESET = nisa.reduce_cmd.reset_reduce
ISSUES = {
    "activation": lambda d, a, b, c, r: nisa.activation(d, nl.exp, a, bias=c, scale=0.25),
    "activation with sums": lambda d, a, b, c, r: nisa.activation(
        d, nl.tanh, a, bias=c, scale=c, reduce_op=nl.add, reduce_res=r, reduce_cmd=RESET
    ),
    "gelu": lambda d, a, b, c, r: nisa.activation(d, nl.gelu, a),
    "activation_reduce": lambda d, a, b, c, r: nisa.activation_reduce(d, nl.square, a, nl.add, r),
    "two stages": lambda d, a, b, c, r: nisa.tensor_scalar(
        d, a, nl.subtract, c, reverse0=True, op1=nl.maximum, operand1=0.5
    ),
    "tensor_tensor": lambda d, a, b, c, r: nisa.tensor_tensor(d, a, b, nl.multiply),
    "comparison": lambda d, a, b, c, r: nisa.tensor_tensor(d, a, b, nl.greater),
    "scalar_tensor_tensor": lambda d, a, b, c, r: nisa.scalar_tensor_tensor(
        d, a, nl.multiply, c, nl.add, b
    ),
    "tensor_reduce": lambda d, a, b, c, r: nisa.tensor_reduce(r, nl.add, a, axis=1, negate=True),
    "logical fold": lambda d, a, b, c, r: nisa.tensor_reduce(r, nl.logical_and, a, axis=1),
    "reciprocal": lambda d, a, b, c, r: nisa.reciprocal(d, a),
    "tensor_copy": lambda d, a, b, c, r: nisa.tensor_copy(d, a),
}


def _run(issue, dtype, place, arrays):
    """Return what an instruction leaves in all tiles, issued three times on changing data."""

    def kernel(x, y, z):
        tiles = []
        for source in (x, y, z):
            tile = nl.ndarray(source.shape, source.dtype)
            nisa.dma_copy(dst=tile, src=source)
            tiles.append(tile)
        a, b, c = tiles
        other = nl.ndarray((P, F + 8), dtype)
        nisa.memset(other, 0.0)
        result = nl.ndarray((P, 1), nl.float32)
        nisa.memset(result, 0.0)
        dst = {
            "apart": other[:, 0:F],
            "same": a[:, 0:F],
            "shifted": a[:, 8 : F + 8],
            "repeated": other.ap(pattern=[[F + 8, P], [0, F]]),
        }[place]
        for _ in range(3):
            issue(dst, a[:, 0:F], b[:, 0:F], c, result)
        outs = []
        for tile in (a, other, result):
            out = nl.ndarray(tile.shape, tile.dtype, buffer=nl.shared_hbm)
            nisa.dma_copy(dst=out, src=tile)
            outs.append(out)
        return tuple(outs)

    return [out.view(np.uint8) for out in nki.simulate(kernel)(*arrays)]


@pytest.mark.parametrize("place", ["apart", "same", "shifted", "repeated"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("name", ISSUES)
def test_straight_code_equals_compute(name, dtype, place, monkeypatch):
    random = np.random.default_rng(0)
    kind = nl.float32 if dtype == "float32" else getattr(nl, dtype)
    values = [3 * random.standard_normal(s, np.float32) for s in ((P, F + 8), (P, F), (P, 1))]
    arrays = [v.astype(kind.np) for v in values[:2]] + [values[2]]
    straight = _run(ISSUES[name], dtype, place, arrays)
    monkeypatch.setattr("emuron.sim.plans.FIXED", frozenset())
    for found, expected in zip(straight, _run(ISSUES[name], dtype, place, arrays), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_last_result_goes_straight_into_an_fp32_destination(monkeypatch):
    written = []
    scatter = sequences.scatter
    monkeypatch.setattr(sequences, "scatter", lambda *a: written.append(a) or scatter(*a))

    def kernel():
        tile = nl.ndarray((P, F), nl.float32)
        nisa.memset(tile, 1.0)
        written.clear()
        for _ in range(3):
            nisa.tensor_scalar(tile, tile, nl.multiply, 2.0, op1=nl.add, operand1=1.0)
        assert len(written) == 1  # the first time, from the tape

    nki.simulate(kernel)()

"""Every operator's examples against naive float64 loops written from the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from emuron.compiler.ops import OPS, Example
from tests.compiler.ops.oracles import ORACLES, SCALAR_FUNCTIONS

CASES = [
    pytest.param(example, id=f"{name}-{i}")
    for name in sorted(OPS)
    for i, example in enumerate(OPS[name].examples())
]


def _expected(example: Example, arrays: list[np.ndarray]) -> list[np.ndarray]:
    exact = [a if a.dtype == bool or a.dtype.kind in "iu" else a.astype(float) for a in arrays]
    name = example.op.name
    if name in SCALAR_FUNCTIONS:
        found = np.vectorize(SCALAR_FUNCTIONS[name], otypes=[float])(*exact)
    else:
        found = ORACLES[name](example.op, *exact)
    return list(found) if isinstance(found, tuple) else [np.asarray(found)]


def _assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """One rounding to a short float, or a few float32 ones along a sum; integers exactly."""
    if found.dtype.kind in "biu":
        np.testing.assert_array_equal(found, np.rint(expected))
        return
    unit = {1: 2.0**-4, 2: 2.0**-8, 4: 2.0**-18}[found.dtype.itemsize]
    scale = max(float(np.abs(expected).max(initial=0)), 1e-3)
    np.testing.assert_allclose(found.astype(float), expected, rtol=unit, atol=unit * scale)


def test_every_operator_has_examples_and_an_oracle():
    assert not [name for name, cls in OPS.items() if not cls.examples()]
    assert set(OPS) == set(SCALAR_FUNCTIONS) | set(ORACLES)


@pytest.mark.parametrize("example", CASES)
def test_operator_equals_its_definition(example, draw, run_op):
    arrays = draw(example)
    outputs = run_op(example.op, example.types, arrays)
    for found, expected, type in zip(
        outputs, _expected(example, arrays), example.op.infer(*example.types), strict=True
    ):
        assert found.shape == type.shape
        assert found.dtype == type.dtype.np
        _assert_close(found, expected)


@pytest.mark.torch
@pytest.mark.parametrize("example", CASES)
def test_operator_on_torch_equals_its_definition(example, draw, run_op):
    pytest.importorskip("torch")
    arrays = draw(example)
    outputs = run_op(example.op, example.types, arrays, "torch")
    for found, expected in zip(outputs, _expected(example, arrays), strict=True):
        _assert_close(found, expected)

import math

import numpy as np

from emuron.numerics.special import erf


def test_erf_is_within_two_units_in_the_last_place():
    x = np.concatenate([np.linspace(-5, 5, 40_001), np.geomspace(1e-38, 1, 5_000)])
    x = x.astype(np.float32)
    exact = np.array([math.erf(value) for value in x.tolist()])
    ulp = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(erf(x) - exact) / ulp) <= 2


def test_erf_knows_its_limits():
    x = np.float32([0.0, -0.0, np.inf, -np.inf, 10, -10])
    assert erf(x).tolist() == [0, 0, 1, -1, 1, -1]
    assert np.signbit(erf(x)).tolist() == [False, True, False, True, False, True]
    assert np.isnan(erf(np.float32([np.nan]))).all()


def test_erf_does_not_depend_on_the_place_in_the_array():
    x = np.random.default_rng(0).standard_normal((60, 1000)).astype(np.float32)
    whole = erf(x)
    assert np.array_equal(erf(x[::3, 5:17]), whole[::3, 5:17])
    assert np.array_equal(erf(x.T), whole.T)
    assert erf(x[0, 0]).shape == ()

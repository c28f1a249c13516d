import math
from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.errors import UsageError
from emuron.numerics import dtypes
from emuron.numerics.dtypes import DTYPES, cfp8, dtype
from emuron.numerics.float_codes import encode
from emuron.numerics.rounding import NumericsPolicy, round_by_policy, round_to, widen
from tests.numerics.exact_rounding import (
    nearest_even,
    nearest_even_code,
    neighbours,
    values_by_code,
)

SMALL_FLOATS = [
    *(dtypes.float8_e3m4, dtypes.float8_e4m3, dtypes.float8_e4m3fn, dtypes.float8_e5m2),
    *(dtypes.float4_e2m1fn, cfp8(5, 20), cfp8(4, 3), cfp8(3, -2)),
]
HALF_FLOATS = [dtypes.bfloat16, dtypes.float16, dtypes.tfloat32]
FLOATS = SMALL_FLOATS + HALF_FLOATS
INTEGERS = [d for d in DTYPES.values() if d.is_integer]
BY_LIBRARY = [
    *(dtypes.bfloat16, dtypes.float16, dtypes.float8_e3m4, dtypes.float8_e4m3),
    *(dtypes.float8_e4m3fn, dtypes.float8_e5m2, dtypes.float8_e8m0fnu, dtypes.float4_e2m1fn),
]

finite_f32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def rounded(x, to, **options):
    return widen(round_to(np.float32(x), to, **options), to)


def comparable(x, to):
    """Return where ml_dtypes is an oracle: it rounds up all scales just above 2**-127."""
    return ~((x > 2.0**-127) & (x < 1.5 * 2.0**-127)) | (to != dtypes.float8_e8m0fnu)


def same(a, b):
    signs_equal = np.isnan(a) | (np.signbit(a) == np.signbit(b))
    return np.array_equal(a, b, equal_nan=True) and bool(np.all(signs_equal))


@pytest.mark.parametrize("to", SMALL_FLOATS)
def test_small_floats_round_to_nearest_even_at_every_value_and_halfway_point(to):
    values = [float(value) for value in values_by_code(to)]
    points = values + [(a + b) / 2 for a, b in pairwise(values)]
    points += [values[-1] * 2, 1e30]
    near = np.array(points, np.float32)
    near = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, -1)])
    near = np.concatenate([near, -near])
    expected = np.array([nearest_even(float(x), to) for x in near], np.float32)
    got = widen(round_to(near, to), to)
    assert same(got, expected)


@pytest.mark.parametrize("to", FLOATS)
@given(x=finite_f32)
@settings(max_examples=60, deadline=None)
def test_floats_round_to_nearest_even(to, x):
    assert np.array_equal(rounded(x, to), np.float32(nearest_even(x, to)), equal_nan=True)


@pytest.mark.parametrize("to", HALF_FLOATS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_halfway_points_of_wider_floats_go_to_the_even_code(to, data):
    values = values_by_code(to)
    code = data.draw(st.integers(1 << to.mantissa_bits, len(values) - 2))
    halfway = float((values[code] + values[code + 1]) / 2)
    expected = nearest_even(halfway, to)
    assert rounded(halfway, to) == np.float32(expected)
    assert nearest_even_code(Fraction(halfway), to) % 2 == 0


@pytest.mark.parametrize("to", BY_LIBRARY)
def test_casts_agree_with_ml_dtypes_on_random_bit_patterns(to):
    patterns = np.random.default_rng(1).integers(0, 1 << 32, 200_000, dtype=np.uint32)
    x = patterns.view(np.float32)
    with np.errstate(all="ignore"):
        expected = x.astype(to.np)
    bits = f"uint{8 * to.itemsize}"
    known = ~np.isnan(x) & comparable(x, to)
    assert np.array_equal(round_to(x, to).view(bits)[known], expected.view(bits)[known])


@pytest.mark.parametrize("to", [d for d in DTYPES.values() if d.itemsize <= 2 and d.lanes == 1])
def test_every_code_survives_widening_and_rounding(to):
    codes = np.arange(1 << (8 * to.itemsize)).astype(f"uint{8 * to.itemsize}")
    if to.kind == "bool" or to.bits == 4:
        codes = codes[: 1 << to.bits]
    values = widen(codes.view(to.np), to)
    back = round_to(values, to).view(codes.dtype)
    known = ~np.isnan(values)
    assert np.array_equal(back[known], codes[known])
    assert np.isnan(widen(back.view(to.np), to))[~known].all()


@pytest.mark.parametrize("to", [d for d in FLOATS if d.has_inf])
def test_overflow_goes_to_infinity_and_saturation_to_the_largest_value(to):
    beyond = min(to.max * 1.2, dtypes.float32.max)
    large = np.array([beyond, np.inf, -beyond, -np.inf], np.float32)
    assert same(rounded(large, to), np.float32([np.inf, np.inf, -np.inf, -np.inf]))
    clipped = rounded(large, to, overflow="saturate")
    assert same(clipped, np.float32([to.max, to.max, to.min, to.min]))


def test_e4m3fn_overflow_is_nan_unless_the_policy_saturates():
    """As ml_dtypes does; PyTorch saturates. AWS does not say which the hardware does."""
    x = np.float32([464, 465, -np.inf, np.nan])
    default = round_by_policy(x, dtypes.float8_e4m3fn)
    assert same(widen(default, dtypes.float8_e4m3fn), np.float32([448, np.nan, -np.nan, np.nan]))
    policy = NumericsPolicy(e4m3fn_overflow="saturate")
    saturated = round_by_policy(x, dtypes.float8_e4m3fn, policy)
    assert same(widen(saturated, dtypes.float8_e4m3fn), np.float32([448, 448, -448, np.nan]))
    other = round_by_policy(np.float32([1e9]), dtypes.float8_e4m3, policy)
    assert widen(other, dtypes.float8_e4m3) == np.inf


@pytest.mark.parametrize("to", [d for d in FLOATS if d.has_nan])
@pytest.mark.parametrize("rounding", ["rne", "stochastic"])
def test_nan_stays_nan_whatever_its_payload(to, rounding):
    payloads = np.uint32([0x7F800001, 0x7FFFFFFF, 0x7FC00000, 0xFF800001, 0xFFFFFFFF])
    got = rounded(payloads.view(np.float32), to, rounding=rounding)
    assert np.isnan(got).all()


@pytest.mark.parametrize("to", INTEGERS)
@given(x=finite_f32)
@settings(max_examples=60, deadline=None)
def test_integers_take_the_nearest_even_and_saturate(to, x):
    """NKI 2.32: float to integer rounds to nearest even and saturates, "to match hardware"."""
    expected = min(max(round(Fraction(x)), int(to.min)), int(to.max))
    assert int(round_to(np.float32([x]), to)[0]) == expected


@pytest.mark.parametrize("to", INTEGERS)
def test_integers_at_their_limits(to):
    x = np.float32([0.5, 1.5, 2.5, -0.5, float(to.max), -np.inf, np.inf])
    expected = [0, 2, 2, 0, int(to.max), int(to.min), int(to.max)]
    assert [int(value) for value in round_to(x, to)] == expected


def test_nan_to_an_integer_is_what_the_policy_says():
    nan = np.float32([np.nan])
    assert round_to(nan, dtypes.int8) == 0
    assert round_by_policy(nan, dtypes.int32, NumericsPolicy(nan_to_int=-(2**31))) == -(2**31)


def test_scales_round_to_the_nearest_power_of_two_and_refuse_zero():
    x = np.float32([0, -1, 2.0**-128, 2.0**-127, 1.25 * 2.0**-127, 1.5 * 2.0**-127, 0.74, 0.75])
    expected = [255, 255, 0, 0, 0, 1, 126, 127]
    assert round_to(x, dtypes.float8_e8m0fnu).view(np.uint8).tolist() == expected


def test_truth_is_not_zero():
    assert (
        round_to(np.float32([0, -0.0, 0.25, -3]), dtypes.bool_).tolist() == [False] * 2 + [True] * 2
    )


def test_wide_integers_widen_to_the_nearest_even_float32():
    stored = np.array([2**24 + 1, 2**24 + 3, 2**31 - 1], np.int32)
    assert widen(stored, dtypes.int32).tolist() == [2.0**24, 2.0**24 + 4, 2.0**31]


def test_tfloat32_ignores_the_low_bits_of_its_storage():
    assert widen(np.float32([1 + 2**-23]), dtypes.tfloat32) == 1


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4)])
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3", "int8", "float16", "tfloat32"])
@pytest.mark.parametrize("rounding", ["rne", "stochastic"])
def test_shapes_are_kept(shape, name, rounding):
    stored = round_to(np.ones(shape, np.float32), dtype(name), rounding=rounding)
    assert stored.shape == shape
    assert stored.dtype == dtype(name).np
    assert widen(stored, dtype(name)).shape == shape


@pytest.mark.parametrize("to", FLOATS)
def test_strided_values_round_like_contiguous_ones(to):
    x = np.random.default_rng(0).standard_normal((70, 90)).astype(np.float32)
    assert np.array_equal(rounded(x[::2, ::3], to), rounded(x, to)[::2, ::3])
    assert np.array_equal(rounded(x.T, to), rounded(x, to).T)


def test_packed_types_are_refused_with_the_way_out():
    with pytest.raises(UsageError, match="pack_x4"):
        round_to(np.zeros(4, np.float32), dtypes.float8_e5m2_x4)
    with pytest.raises(UsageError, match="unpack_x4"):
        widen(np.zeros(4, np.uint16), dtypes.float4_e2m1fn_x4)


# Stochastic rounding


@pytest.mark.parametrize("to", FLOATS)
@given(x=finite_f32, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_stochastic_rounding_gives_one_of_the_two_neighbours(to, x, seed):
    got = float(rounded(np.full(8, x), to, rounding="stochastic", seed=seed)[3])
    below, above = neighbours(abs(Fraction(x)), to)
    if above == len(values_by_code(to)) - 1:
        assert not math.isfinite(got) or abs(got) == to.max
    else:
        assert abs(Fraction(got)) in (values_by_code(to)[below], values_by_code(to)[above])


@pytest.mark.parametrize("to", FLOATS)
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("start", ["smallest", "one"])
def test_stochastic_rounding_is_unbiased(to, fraction, start):
    values = values_by_code(to)
    low = 0 if start == "smallest" else neighbours(Fraction(1), to)[0]
    below, above = float(values[low]), float(values[low + 1])
    x = np.float32(below + fraction * (above - below))
    n = 20_000
    got = widen(round_to(np.full(n, x), to, rounding="stochastic", seed=5), to)
    share = float(np.mean(got == np.float32(above)))
    expected = (float(x) - below) / (above - below)
    # Five standard deviations of a mean of n coin tosses.
    assert abs(share - expected) <= 5 * math.sqrt(expected * (1 - expected) / n)
    assert set(np.unique(got)) <= {np.float32(below), np.float32(above)}


def test_small_increments_add_up_under_stochastic_rounding():
    """AWS's rounding-modes page: fp16 1024 + 2048 * 0.5 stays 1024 to nearest, about 2048 else."""
    nearest = total = np.float32([1024])
    for step in range(2048):
        nearest = widen(round_to(nearest + np.float32(0.5), dtypes.float16), dtypes.float16)
        stored = round_to(
            total + np.float32(0.5), dtypes.float16, rounding="stochastic", counter=step
        )
        total = widen(stored, dtypes.float16)
    assert nearest == 1024
    # One step away per 0.5 on average; the standard deviation is below sqrt(2048) / 2.
    assert abs(float(total[0]) - 2048) < 5 * math.sqrt(2048) / 2


@pytest.mark.parametrize("to", [dtypes.bfloat16, dtypes.float8_e4m3, dtypes.float16])
def test_stochastic_rounding_depends_on_seed_counter_and_place_alone(to):
    x = np.random.default_rng(2).standard_normal(5000).astype(np.float32)
    first = round_to(x, to, rounding="stochastic", seed=1, counter=7)
    round_to(x, to, rounding="stochastic", seed=9, counter=9)
    assert np.array_equal(first, round_to(x, to, rounding="stochastic", seed=1, counter=7))
    assert np.array_equal(
        first[:77], round_to(x[:77], to, rounding="stochastic", seed=1, counter=7)
    )
    for seed, counter in ((2, 7), (1, 8)):
        other = round_to(x, to, rounding="stochastic", seed=seed, counter=counter)
        assert np.mean(first != other) > 0.1


def test_stochastic_rounding_keeps_infinity_and_exact_values():
    x = np.float32([np.inf, -np.inf, 0, -0.0, 1, -2, 0.5])
    for to in FLOATS:
        if to.has_inf:
            assert same(rounded(x, to, rounding="stochastic"), rounded(x, to))


# Every pattern of 32 bits

EXHAUSTIVE_BLOCK = 1 << 24


def bfloat16_by_integers(bits):
    """Round the bits of float32 to bfloat16 by integer arithmetic alone."""
    return ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@pytest.mark.slow
@pytest.mark.parametrize("to", BY_LIBRARY)
def test_all_float32_patterns_round_as_an_independent_cast_does(to):
    bits_type = f"uint{8 * to.itemsize}"
    for start in range(0, 1 << 32, EXHAUSTIVE_BLOCK):
        bits = np.arange(start, start + EXHAUSTIVE_BLOCK, dtype=np.uint32)
        x = bits.view(np.float32)
        got = round_to(x, to).view(bits_type)
        if to == dtypes.bfloat16:
            expected = bfloat16_by_integers(bits)
        elif to == dtypes.float16:
            # NumPy's cast is 25 times slower where it overflows or underflows, as most patterns do.
            expected = encode(x, to).astype(bits_type)
        else:
            with np.errstate(all="ignore"):
                expected = x.astype(to.np).view(bits_type)
        differ = np.not_equal(got, expected)
        if differ.any():
            differ &= comparable(x, to)
            assert np.isnan(x[differ]).all()
            assert not to.has_nan or np.isnan(widen(got[differ].view(to.np), to)).all()


def test_the_library_types_are_those_of_ml_dtypes():
    assert dtypes.float8_e4m3.np == ml_dtypes.float8_e4m3

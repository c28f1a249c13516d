import math

import numpy as np
import pytest

from emuron.errors import UsageError
from emuron.numerics import dtypes
from emuron.numerics.microscaling import (
    dequantize_mx,
    pack_x4,
    packed_type,
    quantize_mx,
    unpack_x4,
)
from emuron.numerics.rounding import round_to
from tests.numerics.exact_rounding import nearest_even

PACKED = [dtypes.float8_e4m3fn_x4, dtypes.float8_e5m2_x4, dtypes.float4_e2m1fn_x4]
LARGEST_EXPONENT = {"float8_e4m3fn_x4": 8, "float8_e5m2_x4": 15, "float4_e2m1fn_x4": 2}


def quantized_group(group, packed, minus_one=1):
    """Return the scale byte and the dequantised values of one group, element by element."""
    amax = max(abs(value) for value in group)
    if amax == 0:
        return 0, [0.0] * len(group)
    exponent = math.floor(math.log2(amax)) - (LARGEST_EXPONENT[packed] - minus_one)
    byte = max(exponent + 127, 0)
    scale = 2.0 ** (byte - 127)
    largest = packed.element.max
    within = [min(max(value / scale, -largest), largest) for value in group]
    return byte, [nearest_even(value, packed.element) * scale for value in within]


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("ocp_scale", [False, True])
def test_every_group_has_the_scale_and_values_that_the_formula_gives(packed, ocp_scale):
    random = np.random.default_rng(0)
    x = random.standard_normal((32, 24)) * 2.0 ** random.integers(-20, 20, (32, 24))
    x = round_to(x, dtypes.bfloat16).astype(np.float32)
    x[:8, :4] = 0
    words, scales = quantize_mx(x, packed, ocp_scale=ocp_scale)
    values = dequantize_mx(words, scales, packed)
    assert (words.shape, words.dtype, scales.shape) == ((32, 6), packed.np, (4, 6))
    for row in range(4):
        for column in range(6):
            group = np.s_[8 * row : 8 * row + 8, 4 * column : 4 * column + 4]
            given = [float(value) for value in x[group].reshape(-1)]
            byte, expected = quantized_group(given, packed, 0 if ocp_scale else 1)
            assert scales[row, column] == byte
            # With OCP's smaller scale the largest values saturate, as nki-library expects.
            assert values[group].reshape(-1).tolist() == expected


def test_the_largest_value_of_a_group_never_overflows():
    """NKI 0.5: the scale was doubled so that the largest value is not saturated."""
    x = np.full((8, 4), 1.9990234, np.float32)
    words, scales = quantize_mx(x, dtypes.float8_e4m3fn_x4)
    assert np.isfinite(dequantize_mx(words, scales, dtypes.float8_e4m3fn_x4)).all()
    assert scales.tolist() == [[127 - 7]]


def test_a_group_of_zeros_has_byte_zero():
    words, scales = quantize_mx(np.zeros((8, 8), np.float32), dtypes.float8_e5m2_x4)
    assert scales.tolist() == [[0, 0]]
    assert words.tolist() == [[0, 0]] * 8


def test_tiny_groups_clamp_the_scale_at_byte_zero():
    x = np.full((8, 4), 2.0**-126, np.float32)
    words, scales = quantize_mx(x, dtypes.float8_e4m3fn_x4)
    assert scales == 0
    assert np.array_equal(dequantize_mx(words, scales, dtypes.float8_e4m3fn_x4), x)


def test_a_nan_spoils_only_its_own_element():
    x = np.ones((8, 4), np.float32)
    x[2, 1] = np.nan
    words, scales = quantize_mx(x, dtypes.float8_e4m3fn_x4)
    values = dequantize_mx(words, scales, dtypes.float8_e4m3fn_x4)
    assert np.isnan(values[2, 1])


def test_a_nan_scale_makes_its_group_nan():
    words = np.zeros((8, 2), np.uint32)
    values = dequantize_mx(words, np.uint8([[255, 127]]), dtypes.float8_e5m2_x4)
    assert np.isnan(values[:, :4]).all()
    assert (values[:, 4:] == 0).all()


@pytest.mark.parametrize("packed", PACKED)
def test_packing_puts_the_first_element_lowest_and_unpacking_undoes_it(packed):
    element = packed.element
    codes = np.random.default_rng(1).integers(0, 1 << element.bits, (3, 8)).astype(np.uint8)
    words = pack_x4(codes.view(element.np), element)
    expected = sum(int(code) << (element.bits * lane) for lane, code in enumerate(codes[1, 4:8]))
    assert words[1, 1] == expected
    assert np.array_equal(unpack_x4(words, packed).view(np.uint8), codes)


def test_fp8_packing_is_the_byte_order_of_memory():
    codes = np.arange(16, dtype=np.uint8).reshape(2, 8)
    words = pack_x4(codes, dtypes.float8_e5m2)
    assert np.array_equal(words.view(np.uint8), codes)


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(UsageError, match="no packed form"):
        packed_type(dtypes.bfloat16)
    with pytest.raises(UsageError, match="multiple of 4"):
        pack_x4(np.zeros((2, 6), np.uint8), dtypes.float8_e5m2)
    with pytest.raises(UsageError, match="whole groups"):
        quantize_mx(np.zeros((12, 4), np.float32), dtypes.float8_e5m2_x4)
    with pytest.raises(UsageError, match="not packed"):
        unpack_x4(np.zeros(4, np.uint8), dtypes.float8_e5m2)
    with pytest.raises(UsageError, match="one scale"):
        dequantize_mx(
            np.zeros((8, 2), np.uint32), np.zeros((1, 1), np.uint8), dtypes.float8_e5m2_x4
        )

import ml_dtypes
import numpy as np
import pytest

from emuron.compat import dtypes
from emuron.errors import UsageError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_static_cast_packs_four_rounded_neighbours(name, rng):
    x = rng.uniform(-8, 8, (3, 8)).astype(np.float32)
    packed = dtypes.static_cast(x, f"{name}_x4")
    rounded = x.astype(getattr(ml_dtypes, name))  # ml_dtypes rounds to nearest even
    assert packed.shape == (3, 2)
    assert packed.view(np.uint8).tolist() == rounded.view(np.uint8).tolist()
    assert (dtypes.static_cast(packed, np.float32) == rounded.astype(np.float32)).all()


def test_static_cast_reads_the_first_of_four_small_floats_from_the_lowest_bits():
    word = np.array([0x7321], np.uint16).view(np.dtype(dtypes.float4_e2m1fn_x4))
    assert dtypes.static_cast(word, np.float32).tolist() == [0.5, 1.0, 1.5, 6.0]


def test_static_cast_rounds_float64_through_float32(rng):
    x = rng.normal(size=64)
    assert (dtypes.static_cast(x, "bfloat16") == x.astype(np.float32).astype("bfloat16")).all()


def test_static_cast_refuses_a_last_axis_that_does_not_fill_elements():
    with pytest.raises(UsageError, match="multiple of 4"):
        dtypes.static_cast(np.zeros((2, 6), np.float32), "float8_e5m2_x4")


def test_sizes_and_kinds():
    assert dtypes.sizeinbytes(dtypes.bfloat16) == 2
    assert dtypes.sizeinbytes("float8_e4m3fn_x4") == 4
    assert dtypes.is_float_type(np.float16)
    assert not dtypes.is_float_type("uint8")
    assert float(dtypes.finfo("float8_e4m3").max) == 240.0
    assert dtypes.dtype(np.float32) == "float32"


def test_packed_arrays_print_their_format_and_other_records_as_usual():
    assert str(np.zeros(2, dtypes.float8_e5m2_x4).dtype) == "float8_e5m2_x4"
    assert str(np.dtype([("a", np.uint8)])) == "[('a', 'u1')]"
    assert str(np.dtype([("float8_e5m2_x4", np.uint8)])) == "[('float8_e5m2_x4', 'u1')]"

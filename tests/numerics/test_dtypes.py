import copy
import pickle

import ml_dtypes
import numpy as np
import pytest

from emuron.errors import UnknownNameError, UsageError
from emuron.numerics import dtypes
from emuron.numerics.dtypes import DTYPES, DType, cfp8, dtype

# From NKI's table of supported data types and the OCP FP8 and MX specifications.
PUBLISHED_LARGEST = {
    "bfloat16": 3.3895313892515355e38,
    "float16": 65504,
    "float8_e3m4": 15.5,
    "float8_e4m3": 240,
    "float8_e4m3fn": 448,
    "float8_e5m2": 57344,
    "float8_e8m0fnu": 2.0**127,
    "float4_e2m1fn": 6,
}
PUBLISHED_BYTES = {
    "float32": 4,
    "tfloat32": 4,
    "bfloat16": 2,
    "float8_e4m3fn_x4": 4,
    "float8_e5m2_x4": 4,
    "float4_e2m1fn_x4": 2,
    "bool_": 1,
    "uint16": 2,
}


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_equals_its_name_and_hashes_like_it(name):
    found = dtype(name)
    assert found == name
    assert {found: 1}[name] == 1
    assert str(found) == name


@pytest.mark.parametrize("name", DTYPES)
def test_numpy_resolves_every_dtype_to_its_storage_and_back(name):
    found = dtype(name)
    storage = np.zeros(2, dtype=found).dtype
    assert storage == found.np or found.kind == "packed"
    assert storage.itemsize == found.itemsize
    assert dtype(storage) is found


@pytest.mark.parametrize("name", [name for name, row in DTYPES.items() if row.kind == "packed"])
def test_numpy_refuses_to_take_a_packed_element_for_a_number(name):
    array = np.zeros(2, dtype=dtype(name))
    with pytest.raises(TypeError, match="Cannot cast"):
        array.astype(np.float32)
    assert array.view(dtype(name).np).tolist() == [0, 0]


@pytest.mark.parametrize("name", [*DTYPES, "cfp8_e4m3_b9"])
def test_copies_and_pickles_are_the_same_object(name):
    found = dtype(name)
    assert pickle.loads(pickle.dumps(found)) is found
    assert copy.deepcopy(found) is found


@pytest.mark.parametrize(("name", "largest"), PUBLISHED_LARGEST.items())
def test_the_largest_finite_value_is_the_published_one(name, largest):
    assert dtype(name).max == largest


@pytest.mark.parametrize(("name", "itemsize"), PUBLISHED_BYTES.items())
def test_the_size_in_storage_is_the_published_one(name, itemsize):
    assert dtype(name).itemsize == itemsize


@pytest.mark.parametrize("name", PUBLISHED_LARGEST)
def test_limits_agree_with_ml_dtypes(name):
    found = dtype(name)
    info = ml_dtypes.finfo(found.np)
    assert found.max == float(info.max)
    assert found.min == float(info.min)
    assert found.smallest == float(info.smallest_subnormal)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("bf16", "bfloat16"),
        ("torch.bfloat16", "bfloat16"),
        ("nl.float8_e4m3", "float8_e4m3"),
        ("tf32", "tfloat32"),
        ("bool", "bool_"),
        (np.float16, "float16"),
        (np.dtype(">i4").newbyteorder("="), "int32"),
        (ml_dtypes.float8_e5m2, "float8_e5m2"),
        (bool, "bool_"),
    ],
)
def test_dtype_understands_aliases_and_numpy_types(given, name):
    assert dtype(given) is DTYPES[name]


@pytest.mark.torch
def test_dtype_understands_pytorch_types_by_their_name():
    torch = pytest.importorskip("torch")
    assert dtype(torch.bfloat16) is dtypes.bfloat16
    assert dtype(torch.float8_e4m3fn) is dtypes.float8_e4m3fn
    assert dtype(torch.bool) is dtypes.bool_


@pytest.mark.jax
def test_dtype_understands_jax_types():
    jnp = pytest.importorskip("jax.numpy")
    assert dtype(jnp.bfloat16) is dtypes.bfloat16
    assert dtype(jnp.zeros(1, jnp.int8).dtype) is dtypes.int8


@pytest.mark.parametrize("given", ["float64", np.float64, complex, "bfloat61", None, object()])
def test_dtype_refuses_what_the_hardware_lacks(given):
    with pytest.raises(UnknownNameError, match="Unknown dtype"):
        dtype(given)


def test_a_misspelt_name_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean bfloat16"):
        dtype("bflot16")


def test_a_dtype_is_frozen():
    with pytest.raises(AttributeError, match="frozen"):
        dtypes.float32.bits = 16


def test_cfp8_with_the_ieee_bias_has_the_range_of_the_plain_format():
    assert cfp8(4).max == dtypes.float8_e4m3.max
    assert cfp8(3) == "cfp8_e3m4"


def test_a_larger_cfp8_bias_halves_every_value():
    assert cfp8(5, 16).max == cfp8(5, 15).max / 2
    assert cfp8(5, 16).smallest == cfp8(5, 15).smallest / 2
    assert dtype("cfp8_e5m2_b16") is cfp8(5, 16)
    assert dtype("cfp8_e5m2_b-3") is cfp8(5, -3)


@pytest.mark.parametrize("arguments", [(2,), (4, 91), (5, -91)])
def test_cfp8_refuses_splits_and_biases_that_do_not_exist(arguments):
    with pytest.raises(UsageError):
        cfp8(*arguments)


def test_a_packed_type_knows_its_element():
    packed = dtypes.float4_e2m1fn_x4
    assert isinstance(packed.element, DType)
    assert packed.element is dtypes.float4_e2m1fn
    assert (packed.lanes, packed.bits, packed.kind) == (4, 16, "packed")

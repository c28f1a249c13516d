"""Element-wise functions: dtypes of results, bits, truth values."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki.language as nl


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        # nki_api §14.5: the promotion of two operands.
        (("float32", "bfloat16"), "float32"),
        (("float16", "bfloat16"), "float32"),
        (("float8_e4m3", "float8_e5m2"), "bfloat16"),
        (("float8_e4m3", "float16"), "float16"),
        (("int32", "bfloat16"), "bfloat16"),
        (("int8", "uint8"), "int16"),
        (("int8", "uint16"), "int32"),
        (("int32", "uint32"), "float32"),
        (("int8", "int16"), "int16"),
        (("uint8", "uint8"), "uint8"),
    ],
)
def test_two_tiles_give_the_dtype_of_the_promotion_table(active, kinds, wanted):
    a, b = (nl.ones((2, 4), kind) for kind in kinds)
    for made in (nl.add(a, b), nl.multiply(b, a), nl.maximum(a, b)):
        assert made.dtype == wanted
    assert nl.add(a, b, dtype=nl.float32).dtype == "float32"


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16", "int32", "int16", "uint8"])
def test_one_tile_gives_its_own_dtype(active, kind):
    tile = nl.ones((2, 4), kind)
    results = [nl.add(tile, 1), nl.equal(tile, tile), nl.greater(2, tile), nl.logical_not(tile)]
    results += [nl.negative(tile), nl.sum(tile, axis=1), nl.copy(tile), nl.zeros_like(tile)]
    assert {made.dtype for made in results} == {kind}
    assert {made.buffer for made in results} == {nl.sbuf}


INTEGERS = np.array([[1, 6, 200, 77], [255, 0, 3, 128]], np.uint8)
OTHERS = np.array([[3, 5, 7, 9], [1, 2, 4, 6]], np.uint8)


@pytest.mark.parametrize(
    ("function", "oracle"),
    [
        (nl.bitwise_and, lambda a, b: a & b),
        (nl.bitwise_or, lambda a, b: a | b),
        (nl.bitwise_xor, lambda a, b: a ^ b),
        (nl.left_shift, lambda a, b: (a << b) & 255 if b < 8 else 0),
        (nl.right_shift, lambda a, b: a >> b),
    ],
)
def test_bit_functions_work_on_the_bits(active, in_sbuf, function, oracle):
    found = active.contents(function(in_sbuf(INTEGERS), in_sbuf(OTHERS))).tolist()
    pairs = zip(INTEGERS.tolist(), OTHERS.tolist(), strict=True)
    assert found == [[oracle(a, b) for a, b in zip(*rows, strict=True)] for rows in pairs]


def test_invert_turns_every_bit(active, in_sbuf):
    found = active.contents(nl.invert(in_sbuf(INTEGERS)))
    assert found.tolist() == [[255 - int(a) for a in row] for row in INTEGERS]


@pytest.mark.parametrize("function", [nl.logical_and, nl.logical_or, nl.logical_xor])
def test_logical_functions_ask_whether_elements_are_zero(active, in_sbuf, function):
    a = np.array([[0.0, 0.0, 2.0, -1.0]], np.float32)
    b = np.array([[0.0, 3.0, 0.0, 0.5]], np.float32)
    words = {"logical_and": all, "logical_or": any, "logical_xor": lambda p: p[0] != p[1]}
    pairs = [(bool(x), bool(y)) for x, y in zip(a[0], b[0], strict=True)]
    wanted = [float(words[function.__name__](pair)) for pair in pairs]
    assert active.contents(function(in_sbuf(a), in_sbuf(b))).tolist() == [wanted]


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("function", [nl.add, nl.subtract, nl.multiply, nl.maximum, nl.greater])
def test_a_column_stands_for_its_rows_on_either_side(active, in_sbuf, function, kind):
    rows = np.array([[1, -2, 3], [4, 5, -6]])
    column = np.array([[2], [-3]])
    plain = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "maximum": max,
        "greater": lambda a, b: a > b,
    }[function.__name__]
    tile, narrow = (in_sbuf(x.astype(np.dtype(kind))) for x in (rows, column))
    for left, right, swapped in ((tile, narrow, False), (narrow, tile, True)):
        found = active.contents(function(left, right)).astype(int).tolist()
        wanted = [
            [int(plain(c, int(x)) if swapped else plain(int(x), c)) for x in row]
            for row, (c,) in zip(rows, column.tolist(), strict=True)
        ]
        assert found == wanted


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        # nki_api §8.2: each function is one or a few instructions.
        (lambda x: nl.add(x, x), ["tensor_tensor"]),
        (lambda x: nl.add(x, 2.0), ["tensor_scalar"]),
        (lambda x: nl.exp(x), ["activation"]),
        (lambda x: nl.reciprocal(x), ["reciprocal"]),
        (lambda x: nl.rsqrt(x), ["tensor_scalar"]),
        (lambda x: nl.divide(x, x), ["reciprocal", "tensor_tensor"]),
        (lambda x: nl.sum(x, axis=1), ["tensor_reduce"]),
        (lambda x: nl.copy(x), ["tensor_copy"]),
        (lambda x: nl.transpose(x), ["nc_transpose"]),
        (lambda x: nl.zeros((2, 4), nl.float32), ["memset"]),
        (lambda x: nl.expand_dims(x, 1), []),
    ],
)
def test_a_function_is_the_instructions_that_it_is_said_to_be(active, call, wanted):
    tile = nl.ones((2, 4), nl.float32)
    before = active.rows
    call(tile)
    forms = [active.program.forms[f] for block, _ in active.program.leaves() for f in block.form]
    assert [form.mnemonic for form in forms[before:]] == wanted

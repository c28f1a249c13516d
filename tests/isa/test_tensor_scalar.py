from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    places,
    shapes,
)
from tests.isa.test_alu import PYTHON


def _refused(bench, nki, match, **named):
    with pytest.raises(HardwareLimitError, match=match):
        bench.form(nki, **named)


def test_right_shift_is_logical_for_signed_integers_too(bench):
    # NKI: an arithmetic right shift is not supported.
    dst = bench.empty((1, 1), "int32")
    data = bench.tile([[-1]], "int32")
    bench.run("tensor_scalar", dst=dst, data=data, op0="right_shift", operand0=28.0)
    assert bench.read(dst)[0, 0] == 15


@pytest.mark.parametrize("reverse0", [False, True])
@pytest.mark.parametrize("reverse1", [False, True])
def test_tensor_scalar_applies_two_stages_with_either_order(bench, reverse0, reverse1):
    x, column = integers((4, 5)), integers((4, 1), 1)
    dst = bench.empty((4, 5))
    bench.run(
        "tensor_scalar",
        dst=dst,
        data=bench.tile(x),
        op0="subtract",
        operand0=bench.tile(column),
        reverse0=reverse0,
        op1="subtract",
        operand1=3.0,
        reverse1=reverse1,
    )
    for p in range(4):
        for i in range(5):
            first = column[p, 0] - x[p, i] if reverse0 else x[p, i] - column[p, 0]
            assert bench.values(dst)[p, i] == (3 - first if reverse1 else first - 3)


def test_mixed_operator_classes_are_refused(bench):
    named = {"dst": bench.empty((4, 5), "int32"), "data": bench.empty((4, 5), "int32")}
    more = {"op0": "bitwise_and", "operand0": 1.0, "op1": "add", "operand1": 1.0}
    _refused(bench, "tensor_scalar", "mix bit-vector and arithmetic", **named, **more)


def test_a_missing_operand_is_refused(bench):
    named = {"dst": bench.empty((4, 5)), "data": bench.empty((4, 5))}
    _refused(bench, "tensor_scalar", "operand0 is missing", **named, op0="add")


def test_the_scalar_engine_has_few_operators(trn2):
    named = {"dst": trn2.empty((4, 5)), "data": trn2.empty((4, 5)), "engine": "scalar"}
    match = "the scalar engine cannot run op0=maximum"
    _refused(trn2, "tensor_scalar", match, **named, op0="maximum", operand0=1.0)


ARITHMETIC = ["add", "subtract", "multiply", "maximum", "minimum", "less", "not_equal"]


@on_every_generation(
    "tensor_scalar",
    examples=20,
    ops=st.tuples(st.sampled_from(ARITHMETIC), st.sampled_from([None, *ARITHMETIC])),
    reverse=st.tuples(st.booleans(), st.booleans()),
    column=st.booleans(),
    shape=shapes,
    kind=st.sampled_from(KINDS),
    where=places,
    lay=st.tuples(layouts, layouts),
)
def test_it_equals_python_element_by_element(core, ops, reverse, column, shape, kind, where, lay):
    bench = Bench(core)
    x, y = small(shape, kind), integers((shape[0], 1), 2)
    dst = bench.room(shape, lay[0])
    bench.run(
        "tensor_scalar",
        dst=dst,
        data=bench.lay(x, lay[1], kind, where),
        op0=ops[0],
        operand0=bench.tile(y) if column else 5.0,
        reverse0=reverse[0],
        op1=ops[1],
        operand1=None if ops[1] is None else 2.0,
        reverse1=reverse[1],
    )
    for p in range(shape[0]):
        for i in range(shape[1]):
            sides = [int(x[p, i]), int(y[p, 0]) if column else 5]
            value = PYTHON[ops[0]](*sides[:: -1 if reverse[0] else 1])
            if ops[1] is not None:
                value = PYTHON[ops[1]](*[value, 2][:: -1 if reverse[1] else 1])
            assert bench.seen(dst)[p, i] == value


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"op0": "square", "engine": "vector"}, "exists from NeuronCore-v4 on"),
        ({"op0": "multiply", "operand0": 2.0, "engine": "scalar"}, "exists from NeuronCore-v3 on"),
        ({"op0": "rsqrt", "engine": "vector"}, "rsqrt does not exist on the vector engine"),
    ],
)
def test_operators_and_engines_of_later_generations_are_refused(trn1, more, match):
    tiles = {"dst": trn1.empty((4, 5)), "data": trn1.empty((4, 5))}
    with pytest.raises(HardwareLimitError, match=match):
        trn1.form("tensor_scalar", **tiles, **more)


def test_square_and_relu_stand_first(trn3):
    tiles = {"dst": trn3.empty((4, 5)), "data": trn3.tile(integers((4, 5)))}
    trn3.run("tensor_scalar", **tiles, op0="relu", op1="add", operand1=1.0)
    expected = [[max(v, 0) + 1 for v in row] for row in trn3.read(tiles["data"])]
    np.testing.assert_array_equal(trn3.values(tiles["dst"]), expected)
    with pytest.raises(HardwareLimitError, match="stand in the first stage"):
        trn3.form("tensor_scalar", **tiles, op0="add", operand0=1.0, op1="square")

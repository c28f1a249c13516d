from __future__ import annotations

import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers


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

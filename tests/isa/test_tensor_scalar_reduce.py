from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from tests.isa.bench import integers
from tests.isa.test_alu import PYTHON


@pytest.mark.parametrize("op", ["add", "multiply", "maximum", "minimum"])
def test_tensor_scalar_reduce_goes_on_from_the_registers(bench, op):
    x = integers((4, 5), low=-2, high=3)
    result = bench.empty((4, 1))
    named = {"dst": bench.empty((4, 5)), "data": bench.tile(x), "op0": "add", "operand0": 1.0}
    bench.run("tensor_scalar_reduce", **named, reduce_op=op)
    bench.run(
        "tensor_scalar_reduce",
        **named,
        reduce_op=op,
        reduce_cmd="reduce",
        reduce_res=result,
        reduce_res_negate=True,
    )
    twice = [[v + 1 for v in row] * 2 for row in x.tolist()]
    expected = [-reduce(PYTHON[op], row) for row in twice]
    np.testing.assert_array_equal(bench.values(result)[:, 0], expected)


def test_tensor_scalar_reduce_starts_from_the_number_given(bench):
    result = bench.empty((4, 1))
    bench.run(
        "tensor_scalar_reduce",
        dst=bench.empty((4, 5)),
        data=bench.tile(np.ones((4, 5))),
        op0="multiply",
        operand0=2.0,
        reduce_op="add",
        reduce_cmd="load_reduce",
        reduce_init=100.0,
        reduce_res=result,
    )
    np.testing.assert_array_equal(bench.values(result), 110)

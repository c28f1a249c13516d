from __future__ import annotations

import numpy as np

from tests.isa.bench import integers


def test_scalar_tensor_tensor_combines_a_column_and_a_tile(bench):
    x, y, column = integers((4, 5)), integers((4, 5), 1), integers((4, 1), 2)
    dst = bench.empty((4, 5))
    bench.run(
        "scalar_tensor_tensor",
        dst=dst,
        data=bench.tile(x),
        op0="multiply",
        operand0=bench.tile(column),
        op1="subtract",
        operand1=bench.tile(y),
        reverse1=True,
    )
    expected = [[y[p, i] - x[p, i] * column[p, 0] for i in range(5)] for p in range(4)]
    np.testing.assert_array_equal(bench.values(dst), expected)

from __future__ import annotations

import numpy as np

from tests.isa.bench import integers


def test_activation_reduce_starts_anew_each_time(bench):
    x = integers((8, 5))
    total = bench.empty((8, 1))
    for _ in range(2):
        bench.run(
            "activation_reduce",
            dst=bench.empty((8, 5)),
            op="relu",
            data=bench.tile(x),
            reduce_op="add",
            reduce_res=total,
        )
    np.testing.assert_array_equal(bench.values(total)[:, 0], [sum(max(v, 0) for v in r) for r in x])


def test_activation_may_write_its_sum_over_its_own_input(bench):
    # NKI 0.6: reduce_res may alias; everything is read before anything is written.
    x = integers((8, 1))
    data = bench.tile(x)
    bench.run(
        "activation_reduce",
        dst=bench.empty((8, 1)),
        op="square",
        data=data,
        reduce_op="add",
        reduce_res=data,
    )
    np.testing.assert_array_equal(bench.values(data), x * x)

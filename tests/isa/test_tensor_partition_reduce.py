from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    shapes,
)
from tests.isa.test_alu import PYTHON


@pytest.mark.parametrize("op", ["add", "average", "maximum", "bitwise_or", "bitwise_and"])
def test_partition_reduce_folds_the_partitions(bench, op):
    x = integers((7, 5), low=0)
    kind = "int32" if op.startswith("bit") else "float32"
    dst = bench.empty((1, 5), kind)
    bench.run("tensor_partition_reduce", dst=dst, op=op, data=bench.tile(x, kind))
    columns = x.T.astype(int).tolist()
    if op == "average":
        np.testing.assert_allclose(bench.values(dst)[0], [sum(c) / 7 for c in columns], rtol=1e-6)
    else:
        np.testing.assert_array_equal(
            bench.values(dst)[0], [reduce(PYTHON[op], c) for c in columns]
        )


@on_every_generation(
    "tensor_partition_reduce",
    op=st.sampled_from(["add", "maximum"]),
    shape=shapes,
    kind=st.sampled_from(KINDS),
    lay=st.tuples(layouts, layouts),
)
def test_it_folds_each_column(core, op, shape, kind, lay):
    bench = Bench(core)
    x = small(shape, kind)
    dst = bench.room((1, shape[1]), lay[0])
    bench.run("tensor_partition_reduce", dst=dst, op=op, data=bench.lay(x, lay[1], kind))
    for i in range(shape[1]):
        assert bench.seen(dst)[0, i] == reduce(PYTHON[op], [int(v) for v in x[:, i]])


def test_limits_and_cost(bench):
    data = bench.empty((64, 100))
    form = bench.form("tensor_partition_reduce", dst=bench.empty((1, 100)), op="add", data=data)
    assert form.cost.cycles == 150 + 6 * 100  # assumed: halves the partitions six times
    with pytest.raises(HardwareLimitError, match=r"dst .* must be \[1, 100\]"):
        bench.form("tensor_partition_reduce", dst=bench.empty((2, 100)), op="add", data=data)
    with pytest.raises(HardwareLimitError, match="op=multiply is not possible"):
        bench.form("tensor_partition_reduce", dst=bench.empty((1, 100)), op="multiply", data=data)

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from tests.isa.bench import integers
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

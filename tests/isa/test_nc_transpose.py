from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers


@pytest.mark.parametrize("kind", ["bfloat16", "float32", "int32"])
@pytest.mark.parametrize("where", ["psum", "sbuf"])
def test_nc_transpose_swaps_partitions_and_elements(bench, kind, where):
    x = integers((32, 20))
    dst = bench.empty((20, 32), kind, where)
    form = bench.run("nc_transpose", dst=dst, data=bench.tile(x, kind))
    assert form.engine == ("tensor" if where == "psum" else "vector")
    np.testing.assert_array_equal(
        bench.values(dst), [[x[p, f] for p in range(32)] for f in range(20)]
    )


def test_the_vector_engine_refuses_to_transpose_more_than_32_by_32(bench):
    with pytest.raises(HardwareLimitError, match="the limit of the vector engine is 32 x 32"):
        bench.form("nc_transpose", dst=bench.empty((33, 32)), data=bench.empty((32, 33)))


def test_nc_transpose_refuses_another_dtype(bench):
    with pytest.raises(HardwareLimitError, match="They must have the same dtype"):
        bench.form(
            "nc_transpose",
            dst=bench.empty((16, 32), where="psum"),
            data=bench.empty((32, 16), "bfloat16"),
        )

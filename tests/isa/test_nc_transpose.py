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
    shapes,
)


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


@on_every_generation(
    "nc_transpose",
    shape=shapes,
    kind=st.sampled_from(KINDS),
    where=st.sampled_from([("psum", "sbuf"), ("sbuf", "sbuf"), ("sbuf", "psum")]),
    lay=st.tuples(layouts, layouts),
)
def test_rows_become_columns(core, shape, kind, where, lay):
    bench = Bench(core)
    x = small(shape, kind)
    dst = bench.room(shape[::-1], lay[0], kind, where[0])
    bench.run("nc_transpose", dst=dst, data=bench.lay(x, lay[1], kind, where[1]))
    for p in range(shape[0]):
        for i in range(shape[1]):
            assert bench.seen(dst)[i, p] == x[p, i]


def test_a_transpose_costs_its_partitions_or_the_floor(bench):
    # ISA v2.26: max(P, min(64, F)) on the tensor engine.
    def cycles(rows, columns):
        tiles = {"dst": bench.empty((columns, rows), "bfloat16", "psum")}
        data = bench.empty((rows, columns), "bfloat16")
        return bench.form("nc_transpose", **tiles, data=data).cost.cycles

    bubble = bench.core.timing.matmul_bubble_cycles
    assert cycles(128, 100) == 128 + bubble
    assert cycles(16, 100) == 64 + bubble
    assert cycles(16, 32) == 32 + bubble

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
    seeds,
    shapes,
)


def test_n_gather_reads_each_partitions_own_indices(bench):
    x, index = integers((4, 9)), integers((4, 3, 2), 1, 0, 9)
    dst = bench.empty((4, 3, 2))
    bench.run("nc_n_gather", dst=dst, data=bench.tile(x), indices=bench.tile(index, "uint32"))
    expected = [[x[p, int(i)] for i in index[p].ravel()] for p in range(4)]
    np.testing.assert_array_equal(bench.values(dst).reshape(4, 6), expected)


def test_a_gather_beyond_the_row_is_refused(bench):
    named = {"dst": bench.empty((1, 1)), "data": bench.tile([[1.0, 2.0]])}
    with pytest.raises(HardwareLimitError, match=r"an index is 2; a partition .* has 2 elements"):
        bench.run("nc_n_gather", **named, indices=bench.tile([[2]], "uint32"))


@on_every_generation(
    "nc_n_gather",
    shape=shapes,
    count=st.integers(1, 6),
    kind=st.sampled_from(KINDS),
    seed=seeds,
    lay=st.tuples(layouts, layouts, layouts),
)
def test_each_element_is_the_one_at_its_index(core, shape, count, kind, seed, lay):
    bench = Bench(core)
    x = small(shape, kind, seed)
    index = np.random.default_rng(seed).integers(0, shape[1], (shape[0], count))
    dst = bench.room(index.shape, lay[0], kind)
    bench.run(
        "nc_n_gather",
        dst=dst,
        data=bench.lay(x, lay[1], kind),
        indices=bench.lay(index, lay[2], "uint32"),
    )
    for p in range(shape[0]):
        assert bench.seen(dst)[p].tolist() == [x[p, i] for i in index[p]]


def test_limits_and_cost(bench):
    named = {"dst": bench.empty((4, 100)), "data": bench.empty((4, 9))}
    form = bench.form("nc_n_gather", **named, indices=bench.empty((4, 100), "uint32"))
    assert form.cost.cycles == 150 + 4 * 100
    with pytest.raises(HardwareLimitError, match=r"indices .* is int32"):
        bench.form("nc_n_gather", **named, indices=bench.empty((4, 100), "int32"))

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.isa.tensor import AccessPattern, Indirection
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    shapes,
)

SBUF, HBM = "sbuf", "private_hbm"


def _rows(bench, table, index, **more):
    where = bench.tile(np.asarray(index)[:, None], more.pop("kind", "int32"))
    width = table.tensor.shape[1]
    rule = Indirection("vector", where, stride=width, limit=table.tensor.shape[0])
    return AccessPattern(table.tensor, (len(index), width), (width, 1), indirection=rule)


def _refused(bench, nki, match, **named):
    with pytest.raises(HardwareLimitError, match=match):
        bench.form(nki, **named)


def test_dma_compute_adds_its_sources(bench):
    parts = [integers((4, 6), seed) for seed in range(3)]
    dst = bench.empty((4, 6), where=HBM)
    tiles = {f"src{i}": bench.tile(part) for i, part in enumerate(parts)}
    bench.run("dma_compute", dst=dst, **tiles)
    np.testing.assert_array_equal(bench.values(dst), parts[0] + parts[1] + parts[2])


def test_dma_compute_adds_into_chosen_rows(bench):
    table, x = bench.tile(np.ones((5, 6)), where=HBM), integers((2, 6))
    rows = _rows(bench, table, [4, 0])
    bench.run("dma_compute", dst=rows, src0=rows, src1=bench.tile(x))
    expected = np.ones((5, 6))
    expected[4] += x[0]
    expected[0] += x[1]
    np.testing.assert_array_equal(bench.values(table), expected)


def test_dma_compute_refuses_scales(bench):
    tiles = {"dst": bench.empty((2, 3)), "src0": bench.empty((2, 3))}
    _refused(bench, "dma_compute", "Scales other than 1.0", **tiles, scales=(0.5,))


@on_every_generation(
    "dma_compute",
    shape=shapes,
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=16),
    where=st.sampled_from([SBUF, HBM]),
    lay=layouts,
)
def test_up_to_16_sources_are_added(core, shape, kinds, where, lay):
    bench = Bench(core)
    parts = [small(shape, kind, seed) for seed, kind in enumerate(kinds)]
    tiles = {
        f"src{i}": bench.tile(part, kind, where)
        for i, (part, kind) in enumerate(zip(parts, kinds, strict=True))
    }
    dst = bench.room(shape, lay)
    bench.run("dma_compute", dst=dst, **tiles)
    for p in range(shape[0]):
        for i in range(shape[1]):
            assert bench.seen(dst)[p, i] == sum(int(part[p, i]) for part in parts)


def test_row_indices_take_two_sources_and_unique_indices(bench):
    table, x = bench.tile(np.ones((5, 6)), where=HBM), bench.empty((2, 6))
    rows = _rows(bench, table, [4, 0])
    with pytest.raises(HardwareLimitError, match="row indices with 3 sources"):
        bench.form("dma_compute", dst=rows, src0=rows, src1=x, src2=x)
    with pytest.raises(HardwareLimitError, match="unique_indices=False"):
        bench.form("dma_compute", dst=rows, src0=rows, src1=x, unique_indices=False)


def test_it_moves_all_sources(trn2):
    tiles = {name: trn2.empty((16, 64)) for name in ("dst", "src0", "src1")}
    cost = trn2.form("dma_compute", **tiles).cost.dma
    # A4: half the rate before v4, that of a copy of the sum: two sources pass once each.
    assert (cost.bytes, cost.rate) == (2 * 4 * 16 * 64, 1.0)

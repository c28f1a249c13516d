from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from emuron.isa.tensor import AccessPattern, Indirection
from tests.isa.bench import integers

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

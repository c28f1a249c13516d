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


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 4), (2, 3, 4, 5)])
def test_dma_transpose_permutes_by_rank(bench, shape):
    x = np.arange(np.prod(shape)).reshape(shape)
    axes = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}[len(shape)]
    dst = bench.empty(tuple(shape[a] for a in axes), "int32")
    bench.run("dma_transpose", dst=dst, src=bench.tile(x, "int32", HBM))
    for place in np.ndindex(*shape):
        assert bench.read(dst)[tuple(place[a] for a in axes)] == x[place]


@pytest.mark.parametrize("later", ["trn2", "trn3"])
def test_dma_transpose_gathers_rows(later, request):
    bench = request.getfixturevalue(later)
    x = integers((40, 8))
    index = [3 * i % 40 for i in range(16)]
    src = _rows(bench, bench.tile(x, "bfloat16", HBM), index)
    dst = bench.empty((8, 16), "bfloat16")
    bench.run("dma_transpose", dst=dst, src=src)
    np.testing.assert_array_equal(bench.values(dst), np.array([x[i] for i in index]).T)


def test_dma_transpose_refuses_other_permutations(bench):
    tiles = {"dst": bench.empty((2, 4, 3)), "src": bench.empty((2, 3, 4), where=HBM)}
    _refused(bench, "dma_transpose", r"axes=\(0, 2, 1\)", **tiles, axes=(0, 2, 1))

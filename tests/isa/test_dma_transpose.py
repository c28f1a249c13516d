from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.isa.tensor import AccessPattern, Indirection
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    on_every_generation,
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


@on_every_generation(
    "dma_transpose",
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    kind=st.sampled_from(KINDS),
    where=st.tuples(st.sampled_from([SBUF, HBM]), st.sampled_from([SBUF, HBM])),
)
def test_each_element_goes_where_its_axes_go(core, shape, kind, where):
    bench = Bench(core)
    x = small(tuple(shape), kind)
    axes = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}[len(shape)]
    dst = bench.empty(tuple(shape[a] for a in axes), kind, where[0])
    bench.run("dma_transpose", dst=dst, src=bench.tile(x, kind, where[1]), axes=axes)
    for place in np.ndindex(*shape):
        assert bench.read(dst)[tuple(place[a] for a in axes)] == x[place]


@pytest.mark.parametrize("later", ["trn2", "trn3"])
@pytest.mark.parametrize("bad", [None, 5])
def test_an_index_of_several_columns_is_read_column_by_column(later, bad, request):
    # NKI: flat_indices = indices.T.flatten()[:src.shape[0]].
    bench = request.getfixturevalue(later)
    x = integers((40, 8))
    index = np.random.default_rng(0).integers(0, 40, (128, 2)).astype(np.uint32)
    if bad is not None:
        index[bad, 0] = 2**32 - 1
    rule = Indirection("vector", bench.tile(index, "uint32"), stride=8, limit=40)
    table = bench.tile(x, "bfloat16", HBM)
    src = AccessPattern(table.tensor, (144, 8), (8, 1), indirection=rule)
    dst = bench.tile(np.full((8, 144), -1), "bfloat16")
    bench.run("dma_transpose", dst=dst, src=src, oob_mode="skip")
    for r in range(144):
        row = index[r % 128, r // 128]
        expected = [-1] * 8 if row == 2**32 - 1 else x[row].tolist()
        assert bench.values(dst)[:, r].tolist() == expected


def _gathering(bench, rows=16, index=(16, 1), kind="bfloat16", width=8):
    rule = Indirection("vector", bench.empty(index, "uint32"), stride=width, limit=40)
    table = bench.empty((40, width), kind, HBM)
    src = AccessPattern(table.tensor, (rows, width), (width, 1), indirection=rule)
    return {"dst": bench.empty((width, rows), kind, HBM), "src": src}


@pytest.mark.parametrize(
    ("changes", "more", "match"),
    [
        ({"kind": "float32"}, {}, "2-byte dtype"),
        ({"width": 130}, {}, "last dimension of at most 128"),
        ({"index": (24, 1), "rows": 16}, {}, r"row indices are \[24, 1\]"),
        ({"index": (64, 2)}, {}, r"row indices are \[64, 2\]"),
        ({"rows": 8}, {}, "It gathers a multiple of 16 rows"),
        ({}, {"dge_mode": "hwdge"}, "Use dge_mode=unknown or swdge"),
    ],
)
def test_what_a_gathering_transpose_lacks_is_refused(trn2, changes, more, match):
    with pytest.raises(HardwareLimitError, match=match):
        trn2.form("dma_transpose", **_gathering(trn2, **changes), **more)


def test_a_gathering_transpose_exists_from_v3_on(trn1):
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v3 on"):
        trn1.form("dma_transpose", **_gathering(trn1))


@pytest.mark.parametrize(
    ("shape", "kind", "match"),
    [
        ((8, 64), "bfloat16", "A 2-D src has 16 rows"),
        ((16, 64), "float32", "2-byte dtype"),
        ((3, 16, 64), "bfloat16", "dimension 0 divides 16"),
        ((4, 3, 64), "bfloat16", "a multiple of 16"),
    ],
)
def test_what_hardware_descriptors_cannot_transpose_is_refused(trn2, shape, kind, match):
    tiles = {"dst": trn2.empty(shape[::-1], kind), "src": trn2.empty(shape, kind, HBM)}
    with pytest.raises(HardwareLimitError, match=match):
        trn2.form("dma_transpose", **tiles, dge_mode="hwdge")


def test_it_moves_its_bytes_slower_than_a_copy(trn2):
    tiles = {"dst": trn2.empty((64, 16), "bfloat16"), "src": trn2.empty((16, 64), "bfloat16", HBM)}
    cost = trn2.form("dma_transpose", **tiles).cost.dma
    assert (cost.bytes, cost.rate) == (2 * 16 * 64, 0.9)  # A3: 90 % from HBM

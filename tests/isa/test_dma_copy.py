from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError, OutOfBoundsError
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


def _cost(bench, dst, src, **more):
    return bench.form("dma_copy", dst=dst, src=src, **more).cost.dma


@pytest.mark.parametrize("source", [SBUF, HBM])
@pytest.mark.parametrize("target", [SBUF, HBM])
def test_dma_copy_moves_in_any_direction(bench, source, target):
    x = integers((4, 6))
    dst = bench.empty((4, 6), "bfloat16", target)
    bench.run("dma_copy", dst=dst, src=bench.tile(x, "bfloat16", source))
    np.testing.assert_array_equal(bench.values(dst), x)


def test_dma_copy_pairs_elements_in_row_major_order(bench):
    x = integers((4, 6))
    dst = bench.empty((8, 3))
    bench.run("dma_copy", dst=dst, src=bench.tile(x, where=HBM))
    np.testing.assert_array_equal(bench.values(dst), x.reshape(8, 3))


def test_dma_copy_transposes_through_strides(bench):
    x = integers((4, 6))
    src = bench.tile(x, where=HBM)
    dst = bench.empty((6, 4))
    bench.run("dma_copy", dst=dst, src=AccessPattern(src.tensor, (6, 4), (1, 6)))
    np.testing.assert_array_equal(
        bench.values(dst), [[x[p, f] for p in range(4)] for f in range(6)]
    )


def test_dma_copy_converts_through_fp32(bench):
    dst = bench.empty((1, 2), "bfloat16")
    bench.run("dma_copy", dst=dst, src=bench.tile([[2**24 + 1, 257]], "int32", HBM))
    np.testing.assert_array_equal(bench.values(dst), [[2**24, 256]])


def test_dma_copy_gathers_rows(bench):
    x = integers((10, 6))
    src = _rows(bench, bench.tile(x, where=HBM), [7, 0, 7, 3])
    dst = bench.empty((4, 6))
    bench.run("dma_copy", dst=dst, src=src)
    np.testing.assert_array_equal(bench.values(dst), [x[7], x[0], x[7], x[3]])


def test_of_equal_scatter_indices_the_last_row_stays(bench):
    x = integers((3, 6))
    table = bench.tile(np.zeros((5, 6)), where=HBM)
    bench.run("dma_copy", dst=_rows(bench, table, [4, 1, 4]), src=bench.tile(x))
    expected = np.zeros((5, 6))
    expected[1], expected[4] = x[1], x[2]
    np.testing.assert_array_equal(bench.values(table), expected)


@pytest.mark.parametrize(("kind", "bad"), [("int32", -1), ("uint32", 2**32 - 1), ("int32", 10)])
def test_skipped_rows_leave_the_destination_alone(bench, kind, bad):
    x, old = integers((10, 6)), integers((3, 6), 1)
    src = _rows(bench, bench.tile(x, where=HBM), [2, bad, 9], kind=kind)
    dst = bench.tile(old)
    bench.run("dma_copy", dst=dst, src=src, oob_mode="skip")
    np.testing.assert_array_equal(bench.values(dst), [x[2], old[1], x[9]])


def test_skipped_rows_are_not_scattered(bench):
    table = bench.tile(np.zeros((5, 6)), where=HBM)
    rows = _rows(bench, table, [5, 1])
    bench.run("dma_copy", dst=rows, src=bench.tile(np.ones((2, 6))), oob_mode="skip")
    np.testing.assert_array_equal(bench.values(table).sum(axis=1), [0, 6, 0, 0, 0])


def test_an_index_out_of_range_is_an_error_by_default(bench):
    src = _rows(bench, bench.tile(integers((10, 6)), where=HBM), [2, 10])
    match = "the index of row 1 of src is out of range; legal .* are 0 to 9"
    with pytest.raises(OutOfBoundsError, match=match):
        bench.run("dma_copy", dst=bench.empty((2, 6)), src=src)


def test_gathered_rows_may_convert(bench):
    x = integers((10, 6))
    src = _rows(bench, bench.tile(x, "bfloat16", HBM), [1, 2])
    dst = bench.empty((2, 6), "int8")
    bench.run("dma_copy", dst=dst, src=src)
    np.testing.assert_array_equal(bench.read(dst), x[1:3])


def test_dma_refuses_psum(bench):
    src = bench.empty((4, 6), where="psum")
    _refused(bench, "dma_copy", "src must lie in sbuf or", dst=bench.empty((4, 6)), src=src)


def test_dma_copy_refuses_unequal_sizes(bench):
    tiles = {"dst": bench.empty((4, 6)), "src": bench.empty((4, 5))}
    _refused(bench, "dma_copy", "has 24 elements, src .* has 20", **tiles)


def test_hardware_descriptors_need_v3_and_equal_dtypes(trn1, trn2):
    tiles = {"dst": trn1.empty((4, 6)), "src": trn1.empty((4, 6), "bfloat16", HBM)}
    _refused(trn1, "dma_copy", "hwdge does not exist", **tiles, dge_mode="hwdge")
    _refused(trn2, "dma_copy", "do not convert", **tiles, dge_mode="hwdge")


def test_a_copy_needs_one_descriptor_for_each_contiguous_run(bench):
    big = bench.empty((256, 1024), "bfloat16", HBM)
    rows = AccessPattern(big.tensor, (128, 512), (1024, 1))
    cost = _cost(bench, bench.empty((128, 512), "bfloat16"), rows)
    assert (cost.descriptors, cost.element_bytes) == (128, 1024)
    assert cost.bytes == cost.hbm_bytes == 128 * 1024
    columns = AccessPattern(big.tensor, (128, 64), (1, 1024))
    cost = _cost(bench, bench.empty((128, 64), "bfloat16"), columns)
    assert (cost.descriptors, cost.element_bytes) == (128 * 64, 2)


def test_long_runs_are_split_at_the_payload_of_a_descriptor(bench):
    a, b = (bench.empty((1, 65536), "float32", HBM) for _ in range(2))
    cost = _cost(bench, a, b)
    assert (cost.descriptors, cost.element_bytes) == (4, 65536)
    assert cost.hbm_bytes == 2 * 4 * 65536


def test_row_indices_need_software_descriptors(bench):
    src = _rows(bench, bench.tile(integers((10, 6)), where=HBM), [1, 2])
    assert _cost(bench, bench.empty((2, 6)), src).trigger == "swdge"
    assert _cost(bench, bench.empty((2, 6)), bench.empty((2, 6))).trigger == "static"


@on_every_generation(
    "dma_copy",
    examples=20,
    shape=shapes,
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    start=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    lay=st.tuples(layouts, layouts),
)
def test_any_partitions_and_strides_are_copied(core, shape, kinds, start, lay):
    bench = Bench(core)
    x = abs(small(shape, kinds[0]))
    # DMA may start at any partition.
    lay = [replace(each, start=first) for each, first in zip(lay, start, strict=True)]
    dst = bench.room(shape, lay[0], kinds[1])
    bench.run("dma_copy", dst=dst, src=bench.lay(x, lay[1], kinds[0]))
    for p in range(shape[0]):
        for i in range(shape[1]):
            assert bench.seen(dst)[p, i] == x[p, i]


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"priority": 4}, "priority=4 on NeuronCore-v4. It is 0 to 3"),
        ({"dge_mode": "hwdge", "engine": "vector"}, "engine=vector is not possible"),
        ({"oob_mode": "wrap"}, "oob_mode=wrap is not possible"),
    ],
)
def test_modes_that_do_not_exist_are_refused(trn3, more, match):
    tiles = {"dst": trn3.empty((4, 6)), "src": trn3.empty((4, 6), where=HBM)}
    _refused(trn3, "dma_copy", match, **tiles, **more)


def test_priorities_exist_from_v4_on(trn2):
    tiles = {"dst": trn2.empty((4, 6)), "src": trn2.empty((4, 6), where=HBM)}
    _refused(trn2, "dma_copy", "NeuronCore-v4 has it", **tiles, priority=0)

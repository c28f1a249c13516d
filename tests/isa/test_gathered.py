"""Tensor indirection: operands whose columns are chosen at run time (NeuronCore-v4)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError, OutOfBoundsError, UninitializedReadError
from emuron.hardware import catalog
from emuron.isa.tensor import AccessPattern, Indirection
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import KINDS, seeds


def by_columns(bench, tile, index, count, kind="uint16"):
    """The view of a whole tensor [P, N] whose columns are chosen by `index` [P, K]."""
    where = bench.tile(index, kind)
    rule = Indirection("gather", where, stride=1, limit=tile.free_size)
    shape, width = (tile.partitions, count), tile.free_size
    return AccessPattern(tile.tensor, shape, (width, 1), 0, indirection=rule)


def column(index, group, p, i):
    """Offset i of a group is index[i % group, i // group], rows counted in the group."""
    return index[p - p % group + i % group, i // group]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    groups=st.integers(1, 3),
    count=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    seed=seeds,
)
def test_a_gather_reads_the_columns_that_its_group_names(groups, count, kind, seed):
    bench = Bench(catalog.chip("trn3").core)
    rows = 16 * groups
    x = small((rows, 9), kind, seed)
    index = np.random.default_rng(seed).integers(0, 9, (rows, 3))
    dst = bench.empty((rows, count), kind)
    bench.run("tensor_copy", dst=dst, src=by_columns(bench, bench.tile(x, kind), index, count))
    for p in range(rows):
        expected = [x[p, column(index, 16, p, i)] for i in range(count)]
        assert bench.values(dst)[p].tolist() == expected


@settings(max_examples=25, deadline=None, derandomize=True)
@given(groups=st.integers(1, 3), count=st.integers(1, 16), seed=seeds)
def test_a_scatter_writes_them_and_nothing_else(groups, count, seed):
    bench = Bench(catalog.chip("trn3").core)
    rows = 16 * groups
    x, old = integers((rows, count), seed), integers((rows, 20), seed + 1)
    rng = np.random.default_rng(seed)
    index = np.concatenate([rng.permutation(20)[:16] for _ in range(groups)])[:, None]
    table = bench.tile(old)
    bench.run(
        "tensor_scalar",
        dst=by_columns(bench, table, index, count),
        data=bench.tile(x),
        op0="add",
        operand0=1.0,
    )
    for p in range(rows):
        expected = old[p].tolist()
        for i in range(count):
            expected[column(index, 16, p, i)] = x[p, i] + 1
        assert bench.values(table)[p].tolist() == expected


def test_the_tensor_engine_shares_indices_among_32_partitions(trn3):
    a, b = integers((32, 8)), integers((32, 30), 1)
    index = np.random.default_rng(0).integers(0, 30, (32, 2))
    dst = trn3.empty((8, 40), where="psum")
    moving = by_columns(trn3, trn3.tile(b, "bfloat16"), index, 40)
    trn3.run("nc_matmul", dst=dst, stationary=trn3.tile(a, "bfloat16"), moving=moving)
    for n in range(40):
        chosen = [b[k, column(index, 32, k, n)] for k in range(32)]
        expected = [sum(a[k, m] * chosen[k] for k in range(32)) for m in range(8)]
        assert trn3.values(dst)[:, n].tolist() == expected


def test_a_product_accumulates_in_the_columns_it_is_scattered_to(trn3):
    a, b, old = integers((8, 32)), integers((8, 4), 1), integers((32, 10), 2)
    index = np.arange(9, -1, -1)[np.arange(32) % 10][:, None]
    table = trn3.tile(old, where="psum")
    dst = by_columns(trn3, table, index, 4)
    named = {"stationary": trn3.tile(a), "moving": trn3.tile(b)}
    trn3.run("nc_matmul", dst=dst, **named, accumulate=True)
    expected = old.copy()
    for n in range(4):
        expected[:, 9 - n] += [sum(a[k, m] * b[k, n] for k in range(8)) for m in range(32)]
    assert trn3.values(table).tolist() == expected.tolist()
    with pytest.raises(HardwareLimitError, match="scattered with accumulate=None"):
        trn3.form("nc_matmul", dst=dst, **named)


def test_sums_of_gathered_rows_stay_with_their_lanes(trn3):
    x = integers((32, 9))
    index = np.random.default_rng(1).integers(0, 9, (32, 1))
    whole = trn3.empty((128, 5))
    dst = AccessPattern(whole.tensor, (32, 5), (5, 1), 64 * 5)
    total = trn3.empty((32, 1))
    trn3.run(
        "activation_reduce",
        dst=dst,
        op="square",
        data=by_columns(trn3, trn3.tile(x), index, 5),
        reduce_op="add",
        reduce_res=total,
    )
    for p in range(32):
        expected = sum(x[p, column(index, 16, p, i)] ** 2 for i in range(5))
        assert trn3.values(total)[p, 0] == expected


def test_only_the_chosen_columns_must_have_been_written(trn3):
    table, dst = trn3.empty((16, 6)), trn3.empty((16, 2))
    trn3.run("memset", dst=AccessPattern(table.tensor, (16, 2), (6, 1), 3), value=7.0)
    index = np.tile([[3], [4]], (8, 1))
    trn3.run("tensor_copy", dst=dst, src=by_columns(trn3, table, index, 2))
    assert (trn3.values(dst) == 7).all()
    index[1] = 5
    match = "tensor_copy reads src: .* never written at partition 0, byte 20"
    with pytest.raises(UninitializedReadError, match=match):
        trn3.run("tensor_copy", dst=dst, src=by_columns(trn3, table, index, 2))


def test_an_index_beyond_the_row_is_an_error(trn3):
    src = by_columns(trn3, trn3.tile(integers((16, 6))), np.full((16, 1), 6), 2)
    with pytest.raises(OutOfBoundsError, match=r"index of src holds 6; legal .* 0 to 5"):
        trn3.run("tensor_copy", dst=trn3.empty((16, 2)), src=src)


def test_operands_and_places_that_cannot_be_indirect_are_refused(trn3):
    zeros, tile = np.zeros((16, 1)), trn3.tile(integers((16, 6)))
    view = by_columns(trn3, tile, zeros, 2)
    two = trn3.empty((16, 2))
    with pytest.raises(HardwareLimitError, match="Operands of it that can be: none"):
        trn3.form("reciprocal", dst=two, data=view)
    with pytest.raises(HardwareLimitError, match="that can be: dst, data1"):
        trn3.form("tensor_tensor", dst=two, data1=two, data2=view, op="add")
    in_psum = by_columns(trn3, trn3.tile(integers((16, 6)), where="psum"), zeros, 2)
    with pytest.raises(HardwareLimitError, match="dst is scattered in PSUM"):
        trn3.form("activation", dst=in_psum, op="copy", data=two)


@pytest.mark.parametrize("earlier", ["trn1", "trn2"])
def test_it_exists_from_v4_on(earlier, request):
    bench = request.getfixturevalue(earlier)
    src = by_columns(bench, bench.tile(integers((16, 6))), np.zeros((16, 1)), 2)
    with pytest.raises(HardwareLimitError, match="src is gathered by an index tile"):
        bench.form("tensor_copy", dst=bench.empty((16, 2)), src=src)


def test_it_costs_what_the_columns_cost(trn3):
    src = by_columns(trn3, trn3.tile(integers((16, 6))), np.zeros((16, 32)), 512)
    form = trn3.form("tensor_copy", dst=trn3.empty((16, 512)), src=src)
    assert form.cost.cycles == 512

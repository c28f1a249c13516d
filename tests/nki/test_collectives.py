"""Collectives: each against NumPy over ranks, groups, shapes, dtypes and memories."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emuron.nki as nki
import emuron.nki.collectives as ncc
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.numerics.dtypes import dtype as to_dtype
from tests.nki.rank_kernels import (
    PAIR,
    all_to_all_v_case,
    any_dtype,
    drawn,
    floats,
    groupings,
    launch,
    mates,
    metadata_kernel,
    ranks_of,
    seeds,
    swap_rows,
    through,
)


@settings(max_examples=40, deadline=None)
@given(
    groupings, seeds, floats, st.sampled_from(["hbm", "sbuf"]), st.sampled_from([1, 2]),
    st.sampled_from([(nl.add, np.add), (nl.maximum, np.maximum), (np.minimum, np.minimum)]),
    st.sampled_from([(1, 1), (4, 6), (3, 2)]),
)  # fmt: skip
def test_all_reduce_combines_the_ranks_of_each_group(groups, seed, dtype, memory, lnc, ops, shape):
    ours, theirs = ops
    xs = drawn(seed, ranks_of(groups), shape, dtype)
    group = ncc.ReplicaGroup(groups)
    kernel = through(lambda s, d: ncc.all_reduce(s, d, group, ours), shape, memory)
    for rank, got in enumerate(launch(kernel, xs, lnc)):
        expected = xs[mates(groups, rank)[0]].astype(np.float64)
        for mate in mates(groups, rank)[1:]:
            expected = theirs(expected, xs[mate].astype(np.float64))
        assert got.astype(np.float64).tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(
    groupings, seeds, any_dtype, st.sampled_from([("hbm", 0), ("sbuf", 0), ("sbuf", 1)]),
    st.sampled_from([1, 2]),
)  # fmt: skip
def test_all_gather_puts_the_ranks_side_by_side(groups, seed, dtype, where, lnc):
    memory, dim = where
    xs = drawn(seed, ranks_of(groups), (8, 3), dtype)
    size = len(groups[0])
    shape = (8 * size, 3) if dim == 0 else (8, 3 * size)
    group = ncc.ReplicaGroup(groups)
    kernel = through(lambda s, d: ncc.all_gather(s, d, group, dim), shape, memory)
    for rank, got in enumerate(launch(kernel, xs, lnc)):
        stack = [xs[mate].view(np.uint8).reshape(8, 3, -1) for mate in mates(groups, rank)]
        expected = np.hstack(stack) if dim else np.vstack(stack)
        assert got.view(np.uint8).reshape(expected.shape).tolist() == expected.tolist()


@settings(max_examples=30, deadline=None)
@given(groupings, seeds, floats, st.sampled_from(["hbm", "sbuf"]), st.sampled_from([1, 2]))
def test_reduce_scatter_gives_each_rank_its_rows_of_the_total(groups, seed, dtype, memory, lnc):
    size = len(groups[0])
    xs = drawn(seed, ranks_of(groups), (2 * size, 5), dtype)
    group = ncc.ReplicaGroup(groups)
    kernel = through(lambda s, d: ncc.reduce_scatter(s, d, group, 0, nl.add), (2, 5), memory)
    for rank, got in enumerate(launch(kernel, xs, lnc)):
        place = mates(groups, rank).index(rank)
        total = sum(xs[mate].astype(np.float64) for mate in mates(groups, rank))
        assert got.astype(np.float64).tolist() == total[2 * place : 2 * place + 2].tolist()


@settings(max_examples=30, deadline=None)
@given(groupings, seeds, any_dtype, st.sampled_from([1, 2]))
def test_all_to_all_transposes_ranks_and_parts(groups, seed, dtype, lnc):
    size = len(groups[0])
    xs = drawn(seed, ranks_of(groups), (size, 2, 3), dtype)
    group = ncc.ReplicaGroup(groups)
    kernel = through(lambda s, d: ncc.all_to_all(s, d, group, 0), (size, 2, 3))
    for rank, got in enumerate(launch(kernel, xs, lnc)):
        mine = mates(groups, rank)
        for sender in mine:
            part = got[mine.index(sender)]
            sent = xs[sender][mine.index(rank)]
            assert part.tobytes() == sent.tobytes()


def test_a_reduction_adds_in_fp32_and_rounds_once():
    # 256 + 1 + 1 in bfloat16 steps stays 256; rounded once it is 258.
    xs = [np.full((1, 1), value, to_dtype("bfloat16").np) for value in (256, 1, 1)]
    group = ncc.ReplicaGroup([[0, 1, 2]])
    kernel = through(lambda s, d: ncc.all_reduce(s, d, group, nl.add), (1, 1))
    assert [float(got[0, 0]) for got in launch(kernel, xs)] == [258.0] * 3


def test_several_tensors_in_hbm_go_in_one_call():
    def kernel(x):
        srcs = [nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm) for _ in range(2)]
        dsts = [nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm) for _ in range(2)]
        nisa.dma_copy(srcs[0], x)
        swap_rows(srcs[1], x)
        ncc.all_reduce(srcs, dsts, PAIR, nl.add)
        return tuple(dsts)

    xs = drawn(1, 2, (2, 3), "float32")
    for a, b in launch(kernel, xs):
        assert a.tolist() == (xs[0] + xs[1]).tolist()
        assert b.tolist() == (xs[0] + xs[1])[::-1].tolist()


def test_source_and_destination_can_be_the_same():
    def kernel(x):
        both = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(both, x)
        ncc.all_reduce([both], [both], PAIR, nl.add)
        return both

    xs = drawn(2, 2, (3, 2), "float32")
    for lnc in (1, 2):
        assert [y.tolist() for y in launch(kernel, xs, lnc)] == [(xs[0] + xs[1]).tolist()] * 2


def test_a_collective_sees_what_both_cores_of_a_rank_wrote_before_it():
    def kernel(x):
        src = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        dst = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        half = nl.ds(nl.program_id() * 2, 2)
        nisa.dma_copy(src[half, :], x[half, :])
        ncc.all_reduce([src], [dst], PAIR, nl.add)
        return dst

    xs = drawn(3, 2, (4, 2), "float32")
    assert [y.tolist() for y in launch(kernel, xs, 2)] == [(xs[0] + xs[1]).tolist()] * 2


def test_each_core_of_a_rank_gathers_its_own_tile():
    def kernel(x):
        tile, whole = nl.ndarray((1, 2), x.dtype), nl.ndarray((1, 4), x.dtype)
        me = nl.program_id()
        nisa.dma_copy(tile, x[me : me + 1, :])
        ncc.all_gather([tile], [whole], PAIR, 1)
        out = nl.ndarray((2, 4), x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(out[me : me + 1, :], whole)
        return out

    xs = drawn(4, 2, (2, 2), "float32")
    for got in launch(kernel, xs, 2):
        assert got.tolist() == np.concatenate(xs, axis=1).tolist()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)), st.integers(1, 4), seeds)
def test_collective_permute_follows_the_pairs_and_leaves_other_ranks_alone(order, count, seed):
    pairs = list(zip(range(count), order[:count], strict=True))

    def kernel(x):
        src = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        dst = nl.zeros(x.shape, x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(src, x)
        ncc.collective_permute([src], [dst], pairs)
        return dst

    xs = drawn(seed, 4, (2, 3), "bfloat16")
    received = {target: xs[source] for source, target in pairs}
    for rank, got in enumerate(launch(kernel, xs)):
        assert got.tolist() == received.get(rank, np.zeros_like(got)).tolist()


@settings(max_examples=20, deadline=None)
@given(groupings, st.integers(1, 4), seeds)
def test_a_ring_brings_each_rank_the_data_of_every_other_in_turn(groups, channels, seed):
    """After k steps a rank holds the data of the rank that the library names for step k."""
    size = len(groups[0])
    group = ncc.ReplicaGroup(groups)

    def kernel(x):
        out = nl.ndarray((size, *x.shape), x.dtype, buffer=nl.shared_hbm)
        owners = nl.ndarray((size, 1), "int32", buffer=nl.shared_hbm)
        here = [nl.ndarray((1, x.shape[1]), x.dtype, buffer=nl.shared_hbm) for _ in range(channels)]
        for channel, tensor in enumerate(here):
            nisa.dma_copy(tensor, x[channel : channel + 1, :])
        for step in range(size):
            owner = ncc.collective_permute_implicit_current_processing_rank_id(step, group)
            tile = nl.ndarray((1, 1), "int32")
            nisa.register_store(tile, owner)
            nisa.dma_copy(owners[step : step + 1, :], tile)
            for channel, tensor in enumerate(here):
                nisa.dma_copy(out[step, channel : channel + 1, :], tensor)
            got = [nl.ndarray(t.shape, x.dtype, buffer=nl.shared_hbm) for t in here]
            lists = [[t] for t in here], [[t] for t in got]
            ncc.collective_permute_implicit(*lists, group, channel_ids=list(range(channels)))
            here = got
        return out, owners

    xs = drawn(seed, ranks_of(groups), (channels, 3), "float32")
    for rank, (out, owners) in enumerate(launch(kernel, xs)):
        order = [int(owner) for owner in owners[:, 0]]
        assert order[0] == rank
        assert sorted(order) == sorted(mates(groups, rank))
        assert out.tolist() == [xs[owner].tolist() for owner in order]


def test_a_reducing_ring_sends_what_two_sources_give():
    def kernel(x):
        a, b, got = (nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm) for _ in range(3))
        nisa.dma_copy(a, x)
        swap_rows(b, x)
        ncc.collective_permute_implicit_reduce(
            [[a]], [[b]], [[got]], ncc.ReplicaGroup([[0, 1, 2]]), nl.add
        )
        return got

    xs = drawn(6, 3, (2, 3), "float32")
    for rank, got in enumerate(launch(kernel, xs)):
        before = xs[(rank - 1) % 3]
        assert got.tolist() == (before + before[::-1]).tolist()


def test_rank_id_is_a_register_that_addresses():
    def kernel(x):
        out = nl.ndarray(x.shape[1:], x.dtype, buffer=nl.shared_hbm)
        columns = x.shape[2]
        pattern = [[columns, x.shape[1]], [1, columns]]
        nisa.dma_copy(out, x.ap(pattern=pattern, scalar_offset=ncc.rank_id(), indirect_dim=0))
        return out

    x = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    assert [got.tolist() for got in launch(kernel, [x] * 3)] == x.tolist()
    assert nki.simulate(kernel)(x).tolist() == x[0].tolist()


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_torch_back_end_gives_the_same(dtype):
    pytest.importorskip("torch")
    xs, metas, _, _ = all_to_all_v_case(5, 2, True)
    xs = [x.astype(to_dtype(dtype).np) for x in xs]
    moved = metadata_kernel(
        lambda s, d, m: ncc.all_to_all_v(s, d, PAIR, m, has_rdispls=True), 8, rows=4
    )
    summed = through(lambda s, d: ncc.all_reduce(s, d, PAIR, nl.add), (1, 8), "sbuf")
    gathered = through(lambda s, d: ncc.all_gather(s, d, PAIR, 0), (2, 8))
    for kernel, inputs in (
        (moved, list(zip(xs, metas, strict=True))),
        (summed, [(x,) for x in xs]),
        (gathered, [(x,) for x in xs]),
    ):
        ours, theirs = (
            nki.simulate_ranks(kernel, inputs, backend=backend) for backend in ("numpy", "torch")
        )
        for a, b in zip(ours, theirs, strict=True):
            pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
            assert all(one.tobytes() == two.tobytes() for one, two in pairs)

"""Collectives: each against NumPy over ranks, groups, shapes, dtypes and memories; their limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emuron.nki as nki
import emuron.nki.collectives as ncc
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import (
    DeadlockError,
    HardwareLimitError,
    OutOfBoundsError,
    UsageError,
)
from emuron.numerics.dtypes import dtype as to_dtype

PAIR = ncc.ReplicaGroup([[0, 1]])

groupings = st.sampled_from(
    [
        [[0]],
        [[0, 1]],
        [[1, 0]],
        [[0, 1, 2]],
        [[0, 2], [1, 3]],
        [[3, 1], [0, 2]],
        [[0, 1, 2, 3]],
        [[2, 0, 3, 1]],
    ]
)
floats = st.sampled_from(["float32", "bfloat16", "float16"])
any_dtype = st.sampled_from(["float32", "bfloat16", "float8_e4m3", "int32", "uint8"])
seeds = st.integers(0, 2**32 - 1)


def drawn(seed, ranks, shape, dtype):
    """Return an array of small integers for each rank: sums of them are exact in every dtype."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 8, shape).astype(to_dtype(dtype).np) for _ in range(ranks)]


def ranks_of(groups):
    return sum(len(group) for group in groups)


def mates(groups, rank):
    """Return the ranks of a rank's group, in order."""
    return next(group for group in groups if rank in group)


def launch(kernel, inputs, lnc=1, **options):
    return nki.simulate_ranks(nki.jit(kernel)[lnc], [[x] for x in inputs], **options)


def through(call, shape, memory="hbm"):
    """Return a kernel that copies its input to a source, calls a collective, returns the result."""

    def kernel(x):
        buffer = nl.sbuf if memory == "sbuf" else nl.shared_hbm
        src = nl.ndarray(x.shape, x.dtype, buffer=buffer, name="src")
        dst = nl.ndarray(shape, x.dtype, buffer=buffer, name="dst")
        nisa.dma_copy(dst=src, src=x)
        call([src], [dst])
        if memory == "hbm":
            return dst
        out = nl.ndarray(shape, x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=dst)
        return out

    return kernel


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


def swap_rows(dst, src):
    nisa.dma_copy(dst[0:1, :], src[1:2, :])
    nisa.dma_copy(dst[1:2, :], src[0:1, :])


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


def metadata_kernel(call, elements, rows=3, memory="hbm"):
    """Return a kernel of (data, metadata) for a collective of variable lengths."""

    def kernel(x, meta):
        src = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm, name="src")
        dst = nl.zeros((1, elements), x.dtype, buffer=nl.shared_hbm, name="dst")
        nisa.dma_copy(src, x)
        ranks = meta.shape[1]
        shape, buffer = ((rows, ranks), nl.shared_hbm)
        if memory == "sbuf":
            shape, buffer = (1, rows, ranks), nl.sbuf
        known = nl.ndarray(shape, "uint32", buffer=buffer, name="meta")
        nisa.dma_copy(known, meta)
        call([src], [dst], known)
        counts = nl.ndarray((1, ranks), "uint32", buffer=nl.shared_hbm)
        nisa.dma_copy(counts, known[:, 2:3, :] if memory == "sbuf" else known[2:3, :])
        return dst, counts

    return kernel


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=4, max_size=4), seeds, st.sampled_from(["hbm", "sbuf"]))
def test_all_gather_v_puts_chunks_into_equal_slots_and_tells_their_lengths(counts, seed, memory):
    group = ncc.ReplicaGroup([[0, 1, 2, 3]])
    xs = drawn(seed, 4, (1, 8), "float32")
    starts = [count % 3 for count in counts]
    metas = [
        np.array([[c] + [99] * 3, [s] + [99] * 3, [0] * 4], np.uint32)
        for c, s in zip(counts, starts, strict=True)
    ]
    kernel = metadata_kernel(lambda s, d, m: ncc.all_gather_v(s, d, group, m), 16, memory=memory)
    inputs = list(zip(xs, metas, strict=True))
    expected = [0.0] * 16
    for rank in range(4):
        for i in range(counts[rank]):
            expected[4 * rank + i] = float(xs[rank][0, starts[rank] + i])
    for got, lengths in nki.simulate_ranks(nki.jit(kernel)[2], inputs):
        assert got.tolist() == [expected]
        assert lengths.tolist() == [counts]


def all_to_all_v_case(seed, ranks, with_displacements):
    """Return (data, metadata of each rank, the expected destinations and counts)."""
    random = np.random.default_rng(seed)
    size = 4 * ranks
    counts = random.integers(0, 5, (ranks, ranks))  # [sender, receiver]
    places = np.array([[4 * s for s in range(ranks)] for _ in range(ranks)])
    if with_displacements:
        places = places[:, ::-1]
    xs = [random.integers(0, 100, (1, size)).astype(np.float32) for _ in range(ranks)]
    starts = random.integers(0, size - 4, (ranks, ranks))
    metas, expected = [], np.zeros((ranks, size))
    for rank in range(ranks):
        rows = [counts[rank], starts[rank], np.zeros(ranks)]
        metas.append(np.array([*rows, places[rank]][: 4 if with_displacements else 3], np.uint32))
    for sender in range(ranks):
        for receiver in range(ranks):
            for i in range(counts[sender, receiver]):
                value = xs[sender][0, starts[sender, receiver] + i]
                expected[receiver, places[receiver, sender] + i] = value
    return xs, metas, expected, counts


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([2, 3, 4]), st.booleans(), st.booleans())
def test_all_to_all_v_moves_chunks_of_any_length(seed, ranks, displacements, split):
    xs, metas, expected, counts = all_to_all_v_case(seed, ranks, displacements)
    group = ncc.ReplicaGroup([list(range(ranks))])

    def call(srcs, dsts, meta):
        options = {"has_rdispls": displacements}
        if split:
            ncc.all_to_all_v_trigger(ncc.all_to_all_v_prepare(srcs, dsts, group, meta, **options))
        else:
            ncc.all_to_all_v(srcs, dsts, group, meta, **options)

    kernel = metadata_kernel(call, 4 * ranks, rows=3 + displacements)
    results = nki.simulate_ranks(kernel, list(zip(xs, metas, strict=True)))
    for rank, (got, lengths) in enumerate(results):
        assert got.tolist() == [expected[rank].tolist()]
        assert lengths.tolist() == [counts[:, rank].tolist()]


def test_known_counts_are_left_alone():
    xs, metas, _, _ = all_to_all_v_case(1, 2, False)
    for meta in metas:
        meta[2] = 77
    kernel = metadata_kernel(
        lambda s, d, m: ncc.all_to_all_v(s, d, PAIR, m, recv_counts_known=True), 8
    )
    results = nki.simulate_ranks(kernel, list(zip(xs, metas, strict=True)))
    assert [lengths.tolist() for _, lengths in results] == [[[77, 77]]] * 2


@pytest.mark.parametrize(
    ("column", "message"),
    [([9, 0], r"rank \d sends elements 0 to 8 of src, which has 8"), ([5, 0], "has room for 4")],
)
def test_metadata_beyond_a_buffer_are_refused(column, message):
    meta = np.array([[column[0]] * 2, [column[1]] * 2, [0, 0]], np.uint32)
    kernel = metadata_kernel(lambda s, d, m: ncc.all_to_all_v(s, d, PAIR, m), 8)
    with pytest.raises(OutOfBoundsError, match=message):
        nki.simulate_ranks(kernel, [(np.zeros((1, 8), np.float32), meta)] * 2)


def test_a_prepared_collective_reads_its_metadata_at_once_and_its_data_late():
    def call(srcs, dsts, meta):
        prepared = ncc.all_to_all_v_prepare(srcs, dsts, PAIR, meta)
        nisa.dma_copy(meta[0:2, :], nl.zeros((2, 2), "uint32"))
        nisa.dma_copy(srcs[0], nl.full((1, 8), 7.0, "float32"))
        ncc.all_to_all_v_trigger(prepared)

    meta = np.array([[2, 2], [0, 0], [0, 0]], np.uint32)
    kernel = metadata_kernel(call, 8)
    results = nki.simulate_ranks(kernel, [(np.zeros((1, 8), np.float32), meta)] * 2)
    assert [got.tolist() for got, _ in results] == [[[7.0, 7, 0, 0, 7, 7, 0, 0]]] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s, d, m: [ncc.all_to_all_v_prepare(s, d, PAIR, m) for _ in range(2)],
            "the one prepared before has not been triggered",
        ),
        (lambda s, d, m: ncc.all_to_all_v_prepare(s, d, PAIR, m), "never triggered"),
        (
            lambda s, d, m: [
                ncc.all_to_all_v_trigger(p) for p in [ncc.all_to_all_v_prepare(s, d, PAIR, m)] * 2
            ],
            "triggered before",
        ),
        (
            lambda s, d, m: ncc.all_gather_v_trigger(ncc.all_to_all_v_prepare(s, d, PAIR, m)),
            "takes what all_gather_v_prepare returned",
        ),
    ],
)
def test_each_prepare_has_exactly_one_trigger(call, message):
    meta = np.zeros((3, 2), np.uint32)
    kernel = metadata_kernel(call, 8)
    with pytest.raises(UsageError, match=message):
        nki.simulate_ranks(kernel, [(np.zeros((1, 8), np.float32), meta)] * 2)


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


def limits_kernel(call):
    """Return a kernel that makes two tensors in HBM and in SBUF and calls with them."""

    def kernel(x):
        hbm = [nl.zeros((4, 2), "float32", buffer=nl.shared_hbm) for _ in range(2)]
        sbuf = [nl.zeros((4, 2), "float32") for _ in range(2)]
        call(hbm, sbuf)

    return kernel


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h, s: ncc.all_reduce([h[0]], [s[0]], PAIR, nl.add), "lie in SBUF and HBM"),
        (lambda h, s: ncc.all_reduce(s, s, PAIR, nl.add), "2 tensors in SBUF.*must lie in HBM"),
        (lambda h, s: ncc.all_reduce([h[0]], [h[1]], PAIR, nl.multiply), "op=multiply"),
        (lambda h, s: ncc.all_reduce([h[0]], [h[1]], PAIR, nl.add, priority=1), "priority=1"),
        (lambda h, s: ncc.all_gather([h[0]], [h[1]], PAIR, 0), r"dst is \[4, 2\].*\[8, 2\]"),
        (lambda h, s: ncc.all_gather([h[0]], [h[1]], PAIR, 1), "collective_dim=1.*in HBM"),
        (lambda h, s: ncc.all_gather([s[0]], [s[1]], PAIR, 2), "collective_dim=2.*in SBUF"),
        (lambda h, s: ncc.reduce_scatter([h[0]], [h[1]], PAIR, 0, nl.add), r"part of each of 2"),
        (lambda h, s: ncc.reduce_scatter([h[0]], [h[1]], PAIR, 1, nl.add), "collective_dim=1"),
        (lambda h, s: ncc.all_to_all([s[0]], [s[1]], PAIR, 0), "src must lie in private_hbm or"),
        (
            lambda h, s: ncc.all_to_all([h[0][0:3, :]], [h[1][0:3, :]], PAIR, 0),
            "does not divide among 2 ranks",
        ),
        (lambda h, s: ncc.collective_permute(h, h, [(0, 1)]), "2 tensors each; it takes exactly"),
        (lambda h, s: ncc.collective_permute([s[0]], [s[1]], [(0, 1)]), "src must lie in"),
        (
            lambda h, s: ncc.collective_permute([h[0]], [h[1]], [(0, 1), (1, 1)]),
            "a rank is target of two pairs",
        ),
        (
            lambda h, s: ncc.collective_permute_implicit([[h[0]]], [[h[1]]], PAIR, [1]),
            r"channel_ids=\[1\]",
        ),
        (
            lambda h, s: ncc.collective_permute_implicit(
                [[h[0]]] * 5, [[h[1]]] * 5, PAIR, range(5)
            ),
            "at most 4",
        ),
        (
            lambda h, s: ncc.collective_permute_implicit([h], [h], PAIR),
            "exactly one tensor for each",
        ),
        (
            lambda h, s: ncc.all_gather_v([h[0]], [h[1]], PAIR, h[0][0:2, :]),
            r"metadata_tensor is .*must be \[3, 2\] in HBM",
        ),
        (
            lambda h, s: ncc.all_gather_v(
                [h[0]], [h[1]], PAIR, nl.zeros((3, 2), "uint32", buffer=nl.shared_hbm)
            ),
            r"logical cores of two physical ones.*kernel\[2\]",
        ),
        (
            lambda h, s: ncc.all_to_all_v(
                [h[0]], [h[1]], PAIR, nl.zeros((3, 2), "int32", buffer=nl.shared_hbm)
            ),
            "metadata are int32",
        ),
    ],
)
def test_limits_are_errors_that_name_them(call, message):
    with pytest.raises(HardwareLimitError, match=rf"test_collectives\.py:\d+.*: .*{message}"):
        launch(limits_kernel(call), [np.zeros((1, 1), np.float32)] * 2)


@pytest.mark.parametrize("has_rdispls", [False, True])
def test_all_gather_v_is_for_four_ranks_and_equal_slots(has_rdispls):
    groups = ncc.ReplicaGroup([[0, 1, 2, 3] if has_rdispls else [0, 1]])
    ranks = len(groups.groups[0])

    def call(hbm, sbuf):
        meta = nl.zeros((4, ranks), "uint32", buffer=nl.shared_hbm)
        ncc.all_gather_v([hbm[0]], [hbm[1]], groups, meta, has_rdispls=has_rdispls)

    message = "has_rdispls=True is not supported" if has_rdispls else "a group has 2 ranks"
    with pytest.raises(HardwareLimitError, match=message):
        launch(limits_kernel(call), [np.zeros((1, 1), np.float32)] * ranks, lnc=2)


def test_priorities_exist_on_the_fourth_generation():
    xs = drawn(7, 2, (2, 2), "float32")
    kernel = through(lambda s, d: ncc.all_reduce(s, d, PAIR, nl.add, priority=3), (2, 2))
    assert launch(kernel, xs, target="trn3")[1].tolist() == (xs[0] + xs[1]).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h, s: ncc.all_reduce(h[0], h[1], PAIR, nl.add), "srcs must be a list of tensors"),
        (lambda h, s: ncc.all_reduce(h, [h[0]], PAIR, nl.add), "2 srcs, 1 dsts"),
        (lambda h, s: ncc.all_reduce([h[0]], [h[1]], 2, nl.add), "replica_group is 2"),
        (lambda h, s: ncc.collective_permute([h[0]], [h[1]], []), "source_target_pairs is empty"),
        (
            lambda h, s: ncc.all_reduce([h[0]], [h[1]], ncc.ReplicaGroup([[0]]), nl.add),
            r"rank 1 is in none of the groups \[\[0\]\]",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(UsageError, match=message):
        launch(limits_kernel(call), [np.zeros((1, 1), np.float32)] * 2)


@pytest.mark.parametrize("groups", [[], [[]], [[0, 1], [2]], [[0, 1], [1, 2]], [[0, 0]], [[-1, 0]]])
def test_groups_are_equally_long_and_disjoint(groups):
    with pytest.raises(UsageError, match="ReplicaGroup"):
        ncc.ReplicaGroup(groups)


def test_replica_groups_compare_and_hash_by_what_they_hold():
    assert ncc.ReplicaGroup([[0, 1]]) == ncc.ReplicaGroup(((0, 1),))
    assert len({ncc.ReplicaGroup([[0, 1]]), PAIR, ncc.ReplicaGroup([[1, 0]])}) == 2
    assert ncc.ReplicaGroup([[0, 1]]) != [[0, 1]]


def test_a_launch_on_one_rank_says_how_to_launch_on_more():
    kernel = through(lambda s, d: ncc.all_reduce(s, d, PAIR, nl.add), (2, 2))
    with pytest.raises(UsageError, match=r"names rank 1, but .* one rank.*nki\.simulate_ranks"):
        nki.simulate(kernel)(np.zeros((2, 2), np.float32))


def test_a_group_of_one_rank_needs_no_other():
    group = ncc.ReplicaGroup([[0]])
    kernel = through(lambda s, d: ncc.all_reduce(s, d, group, nl.add), (2, 2))
    x = np.ones((2, 2), np.float32)
    assert nki.simulate(kernel)(x).tolist() == x.tolist()


def test_ranks_that_call_different_collectives_are_refused():
    def kernel(x):
        src = nl.zeros((2, 2), "float32", buffer=nl.shared_hbm)
        dst = nl.ndarray((2, 2), "float32", buffer=nl.shared_hbm)
        if int(ncc.rank_id()) == 0:
            ncc.all_reduce([src], [dst], PAIR, nl.add)
        else:
            ncc.all_to_all([src], [dst], PAIR, 0)

    with pytest.raises(UsageError, match="call different collectives"):
        launch(kernel, [np.zeros((1, 1), np.float32)] * 2)


def test_a_rank_that_does_not_come_is_named_in_the_deadlock():
    def kernel(x):
        src = nl.zeros((2, 2), "float32", buffer=nl.shared_hbm)
        if int(ncc.rank_id()) == 0:
            ncc.all_reduce([src], [src], PAIR, nl.add)

    with pytest.raises(
        DeadlockError, match=r"rank 0 at .* waits in all_reduce .*for rank 1; rank 1"
    ):
        launch(kernel, [np.zeros((1, 1), np.float32)] * 2)


def test_inputs_are_given_by_position_or_name_and_updated_in_place():
    def kernel(x, factor):
        tile = nl.load(x)
        nisa.tensor_scalar(tile, tile, nl.multiply, factor)
        nl.store(x, tile)

    xs = drawn(8, 2, (2, 2), "float32")
    before = [x.copy() for x in xs]
    nki.simulate_ranks(kernel, [{"x": xs[0], "factor": 2.0}, (xs[1], 3.0)])
    assert xs[0].tolist() == (before[0] * 2).tolist()
    assert xs[1].tolist() == (before[1] * 3).tolist()


def test_ranks_that_do_the_same_are_timed_once_and_wait_for_the_data_of_all():
    group = ncc.ReplicaGroup([[0, 1, 2, 3]])

    def kernel(x, longer):
        src = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(src, x)
        for _ in range(longer):
            nl.copy(nl.load(x))
        ncc.all_reduce([src], [src], group, nl.add)
        return src

    x = np.zeros((128, 64), np.float32)
    runs = nki.run_ranks(kernel, [(x, 0), (x, 0), (x, 9), (x, 0)])
    assert runs[0].timing is runs[1].timing is runs[3].timing
    assert runs[2].timing is not runs[0].timing
    without = nki.run_ranks(kernel, [(x, 0)] * 4, execute=False)
    assert without[0].timing.total_ps == runs[0].timing.total_ps
    assert without[0].outputs is None


def test_no_ranks_are_refused():
    with pytest.raises(UsageError, match="no inputs"):
        nki.simulate_ranks(lambda x: None, [])


@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_of_one_rank_stops_all_and_names_it(failing):
    reached = []

    def kernel(x):
        if int(ncc.rank_id()) == failing:
            nl.load(x[0:99, :])
        src = nl.zeros((2, 2), "float32", buffer=nl.shared_hbm)
        ncc.all_reduce([src], [src], ncc.ReplicaGroup([[0, 1, 2]]), nl.add)
        reached.append(int(ncc.rank_id()))

    with pytest.raises(OutOfBoundsError, match=rf"^test_collectives\.py:\d+ \(rank {failing}\): "):
        launch(kernel, [np.zeros((1, 1), np.float32)] * 3)
    assert reached == []


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

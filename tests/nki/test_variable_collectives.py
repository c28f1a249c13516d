"""Collectives of variable lengths, whole and split: chunks, counts, metadata."""

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
    HardwareLimitError,
    OutOfBoundsError,
    UsageError,
)
from tests.nki.rank_kernels import (
    PAIR,
    all_to_all_v_case,
    drawn,
    launch,
    limits_kernel,
    metadata_kernel,
    seeds,
)


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

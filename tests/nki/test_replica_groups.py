"""Groups of ranks, and the limits of collectives."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki.collectives as ncc
import emuron.nki.language as nl
from emuron.errors import (
    HardwareLimitError,
    UsageError,
)
from tests.nki.rank_kernels import (
    PAIR,
    drawn,
    launch,
    limits_kernel,
    through,
)


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
    with pytest.raises(HardwareLimitError, match=rf"test_replica_groups\.py:\d+.*: .*{message}"):
        launch(limits_kernel(call), [np.zeros((1, 1), np.float32)] * 2)


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

"""Kernels on several ranks: launches, failures, time."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.collectives as ncc
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import (
    DeadlockError,
    OutOfBoundsError,
    UsageError,
)
from tests.nki.rank_kernels import (
    PAIR,
    drawn,
    launch,
    through,
)


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

    with pytest.raises(OutOfBoundsError, match=rf"^test_recording\.py:\d+ \(rank {failing}\): "):
        launch(kernel, [np.zeros((1, 1), np.float32)] * 3)
    assert reached == []

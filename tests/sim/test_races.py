"""Races between the cores of a rank: what is one, what is none, what the message says."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emuron.nki as nki
import emuron.nki.collectives as ncc
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import RaceError, RaceWarning, UninitializedReadError, UnknownNameError

X = np.arange(64, dtype=np.float32).reshape(8, 8)
BOTH = pytest.mark.parametrize("execute", [True, False], ids=["data", "no data"])


def run(kernel, *args, execute=True):
    return nki.run_kernel(nki.jit(kernel)[2], args or (X,), execute=execute)


def store(tensor, value):
    """Write one number to a view of HBM."""
    nl.store(tensor, nl.full(tensor.shape, value, tensor.dtype))


@BOTH
def test_a_read_of_what_the_other_core_writes_names_both_lines_and_the_bytes(execute):
    def kernel(x):
        t = nl.ndarray((4, 8), "float32", buffer=nl.shared_hbm, name="t")
        if nl.program_id() == 0:
            store(t, 1.0)
        else:
            nl.load(t[2:3, 4:8])

    message = (
        r"Race: core 0 writes 't' \[4, 8\] float32 \(dma_copy at test_races\.py:(\d+)\), and core "
        r"1 reads 16 of the same bytes, from byte 80 on \(dma_copy at test_races\.py:(\d+)\)\. "
        r"Nothing orders the two: put nisa\.core_barrier\(t, \(0, 1\)\) between them\."
    )
    with pytest.raises(RaceError) as caught:
        run(kernel, execute=execute)
    found = re.search(message, str(caught.value))
    assert found is not None
    first = kernel.__code__.co_firstlineno
    assert int(found[2]) - first == 5
    if not execute:
        assert caught.value.args[0].startswith("Race")


@BOTH
def test_a_write_over_what_the_other_core_still_reads_is_a_race(execute):
    def kernel(x):
        if nl.program_id() == 0:
            nl.load(x[0:4, :])
        else:
            store(x[3:4, :], 0.0)

    with pytest.raises(RaceError, match=r"core 1 writes 'x'.*core 0 reads 32 of the same bytes"):
        run(kernel, X.copy(), execute=execute)


MEETINGS = {
    "core_barrier": lambda t: nisa.core_barrier(t, (0, 1)),
    "sendrecv": lambda t: _swap(),
    "collective": lambda t: ncc.all_reduce([_one()], [_one()], ncc.ReplicaGroup([[0]]), nl.add),
}


def _one():
    return nl.zeros((1, 1), "float32")


def _swap():
    nisa.sendrecv(_one(), _one(), 1 - nl.program_id(), 1 - nl.program_id(), 0)


@BOTH
@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("before", [True, False])
def test_every_meeting_of_the_cores_orders_what_lies_on_its_sides(meeting, before, execute):
    def kernel(x):
        me = nl.program_id()
        if before:
            MEETINGS[meeting](x)
        if me == 0:
            store(x, 1.0)
        if not before:
            MEETINGS[meeting](x)
        if me == 1:
            nl.load(x)

    if before:
        with pytest.raises(RaceError, match="core 0 writes"):
            run(kernel, X.copy(), execute=execute)
    else:
        run(kernel, X.copy(), execute=execute)


def test_different_values_in_the_same_bytes_are_a_race():
    def kernel(x):
        t = nl.ndarray((4, 8), "float32", buffer=nl.shared_hbm, name="t")
        store(t[1:3, :], float(nl.program_id()))

    with pytest.raises(RaceError, match=r"core 0 writes 't'.*core 1 writes other values to \d+ of"):
        run(kernel)


@BOTH
def test_equal_values_in_the_same_bytes_are_none(execute):
    """SPMD kernels often let both cores fill the same buffer, and read it back."""

    def kernel(x):
        t = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(t, x)
        nl.load(t)
        store(t, 3.0)
        nl.load(t[1:2, :])

    run(kernel, execute=execute)


def test_only_the_values_that_stay_count():
    def kernel(x):
        t = nl.ndarray((2, 8), "float32", buffer=nl.shared_hbm)
        store(t, float(nl.program_id()))
        store(t, 7.0)

    run(kernel)


@BOTH
def test_a_read_before_an_equal_write_is_a_race(execute):
    def kernel(x):
        nl.load(x[0:1, :])
        store(x[0:1, :], 5.0)

    with pytest.raises(RaceError, match=r"core 0 writes 'x'.*core 1 reads"):
        run(kernel, X.copy(), execute=execute)


@BOTH
@pytest.mark.parametrize(
    "part",
    [
        lambda t, me: t[me * 4 : me * 4 + 4, :],
        lambda t, me: t[:, me * 4 : me * 4 + 4],
        lambda t, me: t[:, me::2],
        lambda t, me: t[me::2, :],
        lambda t, me: t.reshape((4, 2, 8))[:, me, :],
    ],
)
def test_parts_that_interleave_without_overlap_are_no_race(part, execute):
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        me = nl.program_id()
        tile = nl.load(part(x, me))
        nl.store(part(out, me), tile)
        nl.load(part(out, me))
        return out

    result = run(kernel, execute=execute)
    assert result.outputs is None or result.outputs.tolist() == X.tolist()


@pytest.mark.parametrize("rows", [([0, 2, 4], [1, 3, 5]), ([0, 2, 4], [5, 4, 3])])
def test_rows_that_are_chosen_at_run_time_are_compared_as_they_fall(rows):
    def kernel(x, index):
        me = nl.program_id()
        out = nl.ndarray((8, 4), "float32", buffer=nl.shared_hbm, name="out")
        chosen = nl.load(index[me, :].reshape((3, 1)))
        values = nl.full((3, 4), float(me), "float32")
        target = out.ap(pattern=[[4, 3], [1, 4]], vector_offset=chosen, indirect_dim=0)
        nisa.dma_copy(dst=target, src=values)

    index = np.array(rows, np.int32)
    if set(rows[0]) & set(rows[1]):
        with pytest.raises(RaceError, match=r"'out'.*writes other values to 16 of.*byte 64 on"):
            run(kernel, X, index)
    else:
        run(kernel, X, index)


@pytest.mark.parametrize("clash", [False, True])
def test_a_place_that_a_register_gives_is_known_at_run_time(clash):
    def kernel(x, index):
        me = nl.program_id()
        out = nl.ndarray((8, 4), "float32", buffer=nl.shared_hbm, name="out")
        place = nisa.register_alloc()
        nisa.register_load(place, index[me : me + 1, :])
        target = out.ap(pattern=[[4, 1], [1, 4]], scalar_offset=place, indirect_dim=0)
        nisa.dma_copy(dst=target, src=nl.full((1, 4), float(me), "float32"))

    index = np.array([[3], [3 if clash else 4]], np.int32)
    if clash:
        with pytest.raises(RaceError, match="from byte 48 on"):
            run(kernel, X, index)
    else:
        run(kernel, X, index)


def test_private_memory_and_single_cores_have_no_races():
    def private(x):
        t = nl.ndarray((4, 8), "float32", buffer=nl.private_hbm)
        store(t, float(nl.program_id()))
        nl.load(t)

    run(private)

    def alone(x):
        store(x, 1.0)
        nl.load(x)

    nki.simulate(alone)(X.copy())


def racing(x):
    store(x[0:1, :], float(nl.program_id()))


def test_races_are_errors_warnings_or_not_looked_for(monkeypatch):
    launch = nki.simulate(racing)[2]
    with pytest.raises(RaceError):
        launch(X.copy())
    with nki.races("warn"), pytest.warns(RaceWarning, match="core 0 writes 'x'"):
        launch(X.copy())
    with nki.races("off"):
        launch(X.copy())
    monkeypatch.setenv("EMURON_RACES", "off")
    launch(X.copy())
    with nki.races("error"), pytest.raises(RaceError):
        launch(X.copy())
    with pytest.raises(UnknownNameError, match="setting of races 'loud'"), nki.races("loud"):
        pass


def test_an_unwritten_read_of_a_shared_tensor_tells_of_the_other_core():
    def kernel(x):
        t = nl.ndarray((1, 8), "float32", buffer=nl.shared_hbm)
        if nl.program_id() == 0:
            nl.load(t)
        else:
            store(t, 1.0)

    with pytest.raises(UninitializedReadError, match=r"If the other core writes it, put nisa"):
        run(kernel)


SIZE = 6
steps = st.lists(
    st.tuples(
        st.sampled_from(["read", "write"]),
        st.integers(0, SIZE - 1),
        st.integers(1, SIZE),
        st.integers(1, 2),
        st.integers(0, 1),
    ),
    max_size=4,
)


def elements(first, count, step):
    return list(range(first, SIZE, step))[:count]


def has_race(epochs):
    """Compare every two accesses of the cores, element by element."""
    for both in epochs:
        final = [{}, {}]
        early = [set(), set()]  # read before the core itself wrote it
        for core, accesses in enumerate(both):
            for what, first, count, step, value in accesses:
                for i in elements(first, count, step):
                    if what == "write":
                        final[core][i] = value
                    elif i not in final[core]:
                        early[core].add(i)
        for a, b in ((0, 1), (1, 0)):
            if early[a] & set(final[b]):
                return True
        if any(final[0][i] != final[1][i] for i in set(final[0]) & set(final[1])):
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(steps, steps), min_size=1, max_size=3))
def test_races_are_found_where_a_naive_comparison_finds_them(epochs):
    def kernel(x):
        for number, both in enumerate(epochs):
            if number:
                nisa.core_barrier(x, (0, 1))
            for what, first, count, step, value in both[nl.program_id()]:
                count = len(elements(first, count, step))
                view = x[0:1, first : first + (count - 1) * step + 1 : step]
                if what == "write":
                    store(view, float(value))
                else:
                    nl.load(view)

    given_array = np.full((1, SIZE), 9.0, np.float32)
    if has_race(epochs):
        with pytest.raises(RaceError):
            nki.simulate(kernel)[2](given_array)
    else:
        nki.simulate(kernel)[2](given_array)


@pytest.mark.parametrize("clash", [False, True])
def test_rows_that_both_cores_add_to_are_a_race(clash):
    def kernel(total, index):
        me = nl.program_id()
        chosen = nl.load(index[me, :].reshape((2, 1)))
        rows = total.ap(pattern=[[4, 2], [1, 4]], vector_offset=chosen, indirect_dim=0)
        nisa.dma_compute(rows, [rows, nl.full((2, 4), 1.0 + me, "float32")], nl.add)

    index = np.array([[0, 1], [1 if clash else 2, 3]], np.int32)
    total = np.zeros((8, 4), np.float32)
    if clash:
        with pytest.raises(RaceError, match=r"core 0 writes 'total'.*core 1 reads 16 .*byte 16 on"):
            run(kernel, total, index)
    else:
        run(kernel, total, index)
        assert total[:, 0].tolist() == [1, 1, 2, 2, 0, 0, 0, 0]


@BOTH
def test_between_two_meetings_nothing_shared_need_happen(execute):
    def kernel(x):
        for turn in range(3):
            nl.zeros((4, 4 + turn), "float32")
            _swap()
            nl.load(x)
            nisa.core_barrier(x, (0, 1))

    run(kernel, execute=execute)

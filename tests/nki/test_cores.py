"""Two cores run one kernel: what they share, how they meet, and how they fail."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import (
    DeadlockError,
    HardwareLimitError,
    UninitializedReadError,
    UsageError,
)
from emuron.numerics.dtypes import dtype as to_dtype

X = np.arange(64, dtype=np.float32).reshape(8, 8)


def halves(x):
    """Each core writes its half of a shared output, doubled."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    rows = x.shape[0] // nl.num_programs()
    own = nl.ds(nl.program_id(0) * rows, rows)
    tile = nl.load(x[own, :])
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    nl.store(out[own, :], tile)
    return out


@pytest.mark.parametrize(
    "launch",
    [
        lambda: nki.jit(halves)[2],
        lambda: nki.simulate(halves)[2],
        lambda: nki.simulate(nki.jit(halves)[2]),
        lambda: nki.cpu_simulate(halves)[(2,)],
        lambda: nki.simulate(nki.jit(halves)),
    ],
)
def test_every_way_to_launch_gives_the_whole_output(launch):
    assert launch()(X).tolist() == (X * 2).tolist()


def test_each_core_knows_its_number_and_the_launch():
    seen = []

    def kernel(x):
        seen.append((nl.program_id(0), nl.num_programs(0), nl.program_ndim(), x.buffer))

    nki.simulate(kernel)[2](X)
    assert seen == [(0, 2, 1, nl.shared_hbm), (1, 2, 1, nl.shared_hbm)]


def test_core_0_runs_in_the_callers_thread_until_it_waits():
    seen = []

    def kernel(x):
        seen.append((nl.program_id(), threading.current_thread() is caller))
        nisa.core_barrier(x, (0, 1))
        seen.append((nl.program_id(), threading.current_thread() is caller))

    caller = threading.current_thread()
    nki.simulate(kernel)[2](X)
    assert seen == [(0, True), (1, False), (1, False), (0, True)]


def exchange(x, move):
    """Core 0 and core 1 swap their halves by way of SBUF."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    me, rows = nl.program_id(), x.shape[0] // 2
    sent = nl.load(x[me * rows : (me + 1) * rows, :])
    got = nl.ndarray(sent.shape, sent.dtype)
    move(sent, got, me)
    nl.store(out[me * rows : (me + 1) * rows, :], got)
    return out


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "float8_e4m3"])
def test_sendrecv_swaps_bit_by_bit(dtype, backend):
    if backend == "torch":
        pytest.importorskip("torch")
    x = np.random.default_rng(1).integers(0, 120, (8, 6)).astype(to_dtype(dtype).np)
    x.view(np.uint8)[0] = 0xFF  # bits that are no number in some types
    if dtype == "float32":
        x.view(np.uint32)[1] = 0x7F800001

    def kernel(x):
        return exchange(x, lambda a, b, me: nisa.sendrecv(a, b, 1 - me, 1 - me, 0))

    got = nki.simulate(kernel, backend=backend)[2](x)
    rows = x.view(np.uint8).tolist()
    assert got.view(np.uint8).tolist() == rows[4:] + rows[:4]


def test_what_is_sent_was_read_when_the_instruction_was_issued():
    def kernel(x):
        def move(sent, got, me):
            nisa.sendrecv(sent, got, 1 - me, 1 - me, 0)
            nisa.memset(sent, 0.0)

        return exchange(x, move)

    assert nki.simulate(kernel)[2](X).tolist() == np.roll(X, 4, axis=0).tolist()


def test_a_tile_can_be_swapped_for_the_other_cores_in_place():
    def kernel(x):
        def move(sent, got, me):
            nisa.sendrecv(sent, sent, 1 - me, 1 - me, 0)
            nisa.tensor_copy(got, sent)

        return exchange(x, move)

    assert nki.simulate(kernel)[2](X).tolist() == np.roll(X, 4, axis=0).tolist()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_transfers_pair_up_by_pipe_in_program_order(pipes, random):
    """Both cores use each pipe the same number of times, but neither order nor time agree."""
    # The n-th use of a pipe sends the value 10 * pipe + n, plus 100 for core 1. A core waits in
    # each transfer, so only orders that do not cross can end: the same on both.
    sent = [10 * pipe + pipes[:i].count(pipe) for i, pipe in enumerate(pipes)]
    delays = [[random.randint(0, 3) for _ in pipes] for _ in range(2)]

    def kernel(x):
        out = nl.ndarray((2, len(pipes)), "float32", buffer=nl.shared_hbm)
        me = nl.program_id()
        for i, (pipe, value) in enumerate(zip(pipes, sent, strict=True)):
            a, b = nl.ndarray((1, 1), "float32"), nl.ndarray((1, 1), "float32")
            for _ in range(delays[me][i]):
                nisa.memset(b, 0.0)
            nisa.memset(a, value + 100.0 * me)
            nisa.sendrecv(a, b, 1 - me, 1 - me, pipe)
            nl.store(out[me : me + 1, i : i + 1], b)
        return out

    got = nki.simulate(kernel)[2](X)
    assert got.tolist() == [[value + 100 for value in sent], sent]


def test_a_core_can_send_to_itself():
    def kernel(x):
        tile, copy = nl.load(x), nl.ndarray(x.shape, x.dtype)
        nisa.sendrecv(tile, copy, 0, 0, 0)
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        nl.store(out, copy)
        return out

    assert nki.simulate(kernel)(X).tolist() == X.tolist()


def test_a_barrier_lets_each_core_see_what_the_other_wrote():
    def kernel(x):
        shared = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        me, rows = nl.program_id(), x.shape[0] // 2
        mine, other = nl.ds(me * rows, rows), nl.ds((1 - me) * rows, rows)
        nl.store(shared[mine, :], nl.load(x[mine, :]))
        nisa.core_barrier(shared, (0, 1))
        nl.store(out[mine, :], nl.load(shared[other, :]))
        return out

    assert nki.simulate(kernel)[2](X).tolist() == np.roll(X, 4, axis=0).tolist()


def test_a_barrier_takes_a_counter_in_sbuf_and_a_list_of_cores():
    def kernel(x):
        counter = nl.ndarray((1, 1), "int32")
        nisa.core_barrier(counter, [0, 1], engine=nisa.engine.vector)

    run = nki.run_kernel(nki.jit(kernel)[2], [X])
    assert "vector.core_barrier" in run.programs[1].to_text()


def test_shared_tensors_are_one_by_order_or_name_and_private_ones_are_not():
    def kernel(x):
        me = nl.program_id()
        names = ("b", "a") if me else ("a", "b")
        nameless = nl.ndarray((2, 1), "float32", buffer=nl.shared_hbm)
        named = {n: nl.ndarray((2, 1), "float32", buffer=nl.shared_hbm, name=n) for n in names}
        private = nl.ndarray((2, 1), "float32", buffer=nl.private_hbm)
        tile = nl.full((1, 1), 1.0 + me, "float32")
        for tensor in (nameless, named["a"], named["b"], private):
            nl.store(tensor[me : me + 1, :], tile)
        nisa.core_barrier(nameless, (0, 1))
        tensors.append((nameless.tensor, named["a"].tensor, named["b"].tensor, private.tensor))
        return nameless, named["a"], named["b"]

    tensors = []
    outputs = nki.simulate(kernel)[2](X)
    assert [output.tolist() for output in outputs] == [[[1.0], [2.0]]] * 3
    assert [a is b for a, b in zip(*tensors, strict=True)] == [True, True, True, False]


def test_shared_tensors_of_different_shapes_are_refused():
    def kernel(x):
        nl.ndarray((2 + nl.program_id(), 1), "float32", buffer=nl.shared_hbm)

    with pytest.raises(UsageError, match=r"core 1\).*number 1.*without a name is \[2, 1\]"):
        nki.simulate(kernel)[2](X)


def test_an_input_written_by_both_cores_is_updated_in_place():
    def kernel(x):
        me, rows = nl.program_id(), x.shape[0] // 2
        tile = nl.load(x[me * rows : (me + 1) * rows, :])
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        nl.store(x[me * rows : (me + 1) * rows, :], tile)

    given_array = X.copy()
    assert nki.simulate(kernel)[2](given_array) is None
    assert given_array.tolist() == (X + 1).tolist()


@pytest.mark.parametrize("execute", [True, False])
def test_both_programs_are_recorded_with_data_and_without(execute):
    def kernel(x):
        return exchange(x, lambda a, b, me: nisa.sendrecv(a, b, 1 - me, 1 - me, 0))

    run = nki.run_kernel(nki.jit(kernel)[2], [X], execute=execute)
    assert run.program is run.programs[0]
    assert [len(program) for program in run.programs] == [3, 3]
    assert "send_to_rank=1" in run.programs[0].to_text()
    assert "send_to_rank=0" in run.programs[1].to_text()
    assert run.timing.total_ps > 0
    assert (run.outputs is None) is not execute


@pytest.mark.parametrize("execute", [True, False])
def test_a_deadlock_names_what_each_core_waits_for(execute):
    def kernel(x):
        tile = nl.zeros((1, 1), "float32")
        if nl.program_id() == 0:
            nisa.sendrecv(tile, tile, 1, 1, pipe_id=7)
        else:
            nisa.core_barrier(x, (0, 1))

    with pytest.raises(DeadlockError) as caught:
        nki.run_kernel(nki.jit(kernel)[2], [X], execute=execute)
    message = str(caught.value)
    line = r"test_cores\.py:\d+"
    assert re.search(
        rf"core 0 at {line} waits in sendrecv \(pipe 7, number 1\) for core 1; "
        rf"core 1 at {line} waits in core_barrier \(number 1\) for core 0",
        message,
    )


def test_a_core_that_ended_is_named_in_the_deadlock():
    def kernel(x):
        if nl.program_id() == 1:
            nisa.core_barrier(x, (0, 1))

    with pytest.raises(DeadlockError, match=r"core 0 has ended; core 1 at .* waits in core_barr"):
        nki.simulate(kernel)[2](X)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_core_stops_the_other_and_names_the_line_and_core(failing):
    reached = []

    def kernel(x):
        if nl.program_id() == failing:
            nl.copy(nl.ndarray((1, 1), "float32"))
        nisa.core_barrier(x, (0, 1))
        reached.append(nl.program_id())

    threads = threading.active_count()
    with pytest.raises(UninitializedReadError, match=rf"^test_cores\.py:\d+ \(core {failing}\): "):
        nki.simulate(kernel)[2](X)
    assert reached == []
    assert threading.active_count() == threads


def test_an_error_that_is_not_ours_reaches_the_caller_unchanged():
    def kernel(x):
        try:
            nisa.core_barrier(x, (0, 1)) if nl.program_id() == 0 else 1 / 0
        except Exception:  # noqa: BLE001 (what a careless kernel does)
            raise AssertionError("a kernel caught what stops it") from None

    with pytest.raises(AssertionError, match="a kernel caught"):
        nki.simulate(kernel)[2](X)


def test_receivers_that_expect_another_tile_are_refused():
    def kernel(x):
        tile = nl.zeros((1, 1 + nl.program_id()), "float32")
        nisa.sendrecv(tile, tile, 1 - nl.program_id(), 1 - nl.program_id(), 0)

    with pytest.raises(UsageError, match=r"core 0 sends .*\[1, 1\].*core 1 receives into .*\[1, 2"):
        nki.simulate(kernel)[2](X)


def test_receivers_that_expect_another_sender_are_refused():
    def kernel(x):
        tile = nl.zeros((1, 1), "float32")
        me = nl.program_id()
        nisa.sendrecv(tile, tile, 1, 1 - me, 0)

    with pytest.raises(UsageError, match="core 1 sends to core 1, which receives from core 0"):
        nki.simulate(kernel)[2](X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, t: nisa.core_barrier(x, (0, 1)), r"cores=\[0, 1\].*runs on one core.*kernel\[2"),
        (lambda x, t: nisa.sendrecv(t, t, 1, 0, 0), r"send_to_rank=1.*runs on one core"),
    ],
)
def test_one_core_cannot_meet_two(call, message):
    with pytest.raises(HardwareLimitError, match=message):
        nki.simulate(lambda x: call(x, nl.zeros((1, 1), "float32")))(X)


def test_a_kernel_runs_the_same_way_each_time():
    def kernel(x):
        out = exchange(x, lambda a, b, me: nisa.sendrecv(a, b, 1 - me, 1 - me, 0))
        nisa.core_barrier(out, (0, 1))
        return out

    runs = [nki.run_kernel(nki.jit(kernel)[2], [X]) for _ in range(3)]
    texts = {tuple(program.to_text() for program in run.programs) for run in runs}
    assert len(texts) == 1
    assert len({run.timing.total_ps for run in runs}) == 1

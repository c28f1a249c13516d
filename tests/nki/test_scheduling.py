"""Orders that a kernel asks for: edges between names, handles, no_reorder; their effect on time."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UnknownNameError, UsageError
from emuron.nki.scheduling import schedule

A = np.linspace(0.5, 2, 128 * 512, dtype=np.float32).reshape(128, 512)


def body(a, order):
    """Compute on two engines that have nothing to do with each other; `order` ties them."""
    x = nl.ndarray(a.shape, a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=x, src=a)
    b, c = (nl.ndarray(a.shape, a.dtype, buffer=nl.sbuf) for _ in range(2))
    first = nisa.activation(dst=b, op=nl.exp, data=x, name="exp")
    second = nisa.reciprocal(dst=c, data=x, name="recip")
    if order:
        order(first, second)
    made = [nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm) for _ in range(2)]
    nisa.dma_copy(dst=made[0], src=b)
    nisa.dma_copy(dst=made[1], src=c)
    return tuple(made)


@nki.jit
def kernel(a):
    return body(a, None)


@nki.jit
def with_handle(a):
    return body(a, lambda first, second: second.depends_on(first))


@nki.jit
def in_order(a):
    x = nl.ndarray(a.shape, a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=x, src=a)
    b, c = (nl.ndarray(a.shape, a.dtype, buffer=nl.sbuf) for _ in range(2))
    with nl.no_reorder():
        nisa.activation(dst=b, op=nl.exp, data=x)
        nisa.reciprocal(dst=c, data=x)
    made = [nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm) for _ in range(2)]
    nisa.dma_copy(dst=made[0], src=b)
    nisa.dma_copy(dst=made[1], src=c)
    return tuple(made)


def span(run, name):
    """Return (start, end) of an instruction in the run's trace."""
    trace = run.timing.trace
    event = [trace.labels[label] for label in trace.label].index(name)
    return int(trace.start_ps[event]), int(trace.end_ps[event])


@pytest.mark.parametrize(
    "ordered",
    [
        kernel.with_schedule([("recip", "exp")]),
        kernel.with_schedule([("recip", ["exp"])]),
        with_handle,
        in_order,
    ],
)
def test_an_order_lets_the_later_one_wait_and_changes_no_value(ordered):
    free, tied = nki.run_kernel(kernel, (A,)), nki.run_kernel(ordered, (A,))
    assert span(free, "reciprocal")[0] < span(free, "activation")[1]
    assert span(tied, "reciprocal")[0] >= span(tied, "activation")[1]
    assert tied.timing.total_ps > free.timing.total_ps
    for a, b in zip(free.outputs, tied.outputs, strict=True):
        assert a.tolist() == b.tolist()


def test_with_schedule_makes_a_new_kernel_that_keeps_its_grid_and_edges():
    scheduled = kernel.with_schedule([("recip", "exp")])
    assert kernel.schedule == ()
    assert scheduled[1].with_schedule([]).schedule == (("recip", "exp"),)
    assert scheduled.__name__ == "kernel"


@pytest.mark.parametrize("edge", [("recip", "sin"), ("sine", ["exp"])])
def test_an_edge_to_an_unknown_name_is_refused(edge):
    with pytest.raises(UnknownNameError, match=r"instruction name in the schedule .*exp, recip"):
        kernel.with_schedule([edge])(A)


def test_an_edge_against_the_order_of_the_program_is_refused():
    with pytest.raises(UsageError, match="'exp' wait for 'recip', which the kernel issues later"):
        kernel.with_schedule([("exp", "recip")])(A)
    with pytest.raises(UsageError, match="Issue it earlier"):
        nki.simulate(lambda a: body(a, lambda first, second: first.depends_on(second)))(A)


def test_a_name_may_stand_for_several_instructions(active):
    tile = nl.zeros((2, 4), nl.float32)
    for _ in range(2):
        nisa.memset(tile, 1, name="fill")
        nisa.activation(tile, nl.exp, tile, name="act")
    labels = active.program.labels
    schedule([active.program], [("act", "fill")])
    first, second = labels["act"]
    assert active.program.orders == {
        first: {labels["fill"][0]},
        second: set(labels["fill"]),
    }


def test_no_reorder_reaches_into_called_functions(active):
    def called(tile):
        nisa.memset(tile, 1)

    tile = nl.ndarray((2, 4), nl.float32)
    with nl.no_reorder():
        called(tile)
        called(tile)
        nisa.activation(tile, nl.exp, tile)
    assert active.program.orders == {1: {0}, 2: {1}}


def test_registers_take_names_too(active):
    nisa.register_move(nisa.register_alloc(), 3, name="move")
    assert active.program.labels == {"move": [0]}

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError, UninitializedReadError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    layouts,
    on_every_generation,
    shapes,
)


@pytest.mark.parametrize("reverse", [False, True])
def test_select_reduce_chooses_and_keeps_the_maximum(bench, reverse):
    x, predicate, other = integers((4, 9)), integers((4, 9), 1, 0, 2), integers((4, 1), 2)
    dst, largest = bench.empty((4, 9)), bench.empty((4, 1))
    bench.run(
        "select_reduce",
        dst=dst,
        predicate=bench.tile(predicate, "uint8"),
        on_true=bench.tile(x),
        on_false=bench.tile(other),
        reduce_res=largest,
        reduce_cmd="reset_reduce",
        reverse_pred=reverse,
    )
    for p in range(4):
        row = [x[p, i] if bool(predicate[p, i]) != reverse else other[p, 0] for i in range(9)]
        np.testing.assert_array_equal(bench.values(dst)[p], row)
        assert bench.values(largest)[p, 0] == max(row)


def test_select_reduce_refuses_a_32_bit_predicate(bench):
    with pytest.raises(HardwareLimitError, match=r"predicate .* is uint32"):
        bench.form(
            "select_reduce",
            dst=bench.empty((4, 9)),
            predicate=bench.empty((4, 9), "uint32"),
            on_true=bench.empty((4, 9)),
            on_false=0.0,
        )


@on_every_generation(
    "select_reduce",
    shape=shapes,
    kind=st.sampled_from(["float32", "bfloat16", "float16", "int8"]),
    mask=st.sampled_from(["int8", "uint8", "int16", "uint16"]),
    reverse=st.booleans(),
    column=st.booleans(),
    lay=st.tuples(layouts, layouts, layouts),
)
def test_it_chooses_and_keeps_the_maximum(core, shape, kind, mask, reverse, column, lay):
    bench = Bench(core)
    x, predicate, other = small(shape, kind), integers(shape, 1, 0, 2), integers((shape[0], 1), 2)
    dst, largest = bench.room(shape, lay[0]), bench.empty((shape[0], 1))
    bench.run(
        "select_reduce",
        dst=dst,
        predicate=bench.lay(predicate, lay[1], mask),
        on_true=bench.lay(x, lay[2], kind),
        on_false=bench.tile(other) if column else -9.0,
        reduce_res=largest,
        reduce_cmd="reset_reduce",
        reverse_pred=reverse,
    )
    for p in range(shape[0]):
        away = other[p, 0] if column else -9
        row = [x[p, i] if bool(predicate[p, i]) != reverse else away for i in range(shape[1])]
        assert bench.seen(dst)[p].tolist() == row
        assert bench.values(largest)[p, 0] == max(row)


def test_the_maximum_goes_on_from_instruction_to_instruction(bench):
    largest, predicate = bench.empty((1, 1)), bench.tile([[1, 1]], "uint8")
    named = {"dst": bench.empty((1, 2)), "predicate": predicate, "on_false": 0.0}
    bench.run("select_reduce", **named, on_true=bench.tile([[7.0, 1.0]]), reduce_cmd="reset_reduce")
    bench.run(
        "select_reduce",
        **named,
        on_true=bench.tile([[5.0, 6.0]]),
        reduce_cmd="reduce",
        reduce_res=largest,
    )
    assert bench.values(largest).tolist() == [[7]]


def test_two_inputs_in_sbuf_take_two_cycles_an_element(bench):
    tiles = {"dst": bench.empty((4, 512)), "predicate": bench.empty((4, 512), "uint8")}
    form = bench.form("select_reduce", **tiles, on_true=bench.empty((4, 512)), on_false=0.0)
    assert form.cost.cycles == 1024


def test_registers_are_undefined_after_an_idle_selection(bench):
    # ISA: even when reduce_cmd is idle, the accumulator state may still be modified.
    named = {"dst": bench.empty((1, 2)), "predicate": bench.tile([[1, 1]], "uint8")}
    named |= {"on_true": bench.tile([[7.0, 1.0]]), "on_false": 0.0}
    bench.run("select_reduce", **named, reduce_cmd="reset_reduce")
    bench.run("select_reduce", **named)
    with pytest.raises(UninitializedReadError, match="accumulator registers of the vector engine"):
        bench.run("select_reduce", **named, reduce_cmd="reduce")

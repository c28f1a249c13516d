from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.hardware import catalog
from tests.isa.bench import Bench, integers
from tests.isa.generations import (
    FLOATS,
    layouts,
    on_every_generation,
    shapes,
)
from tests.isa.test_alu import PYTHON

LOWEST = float(np.finfo(np.float32).min)


@pytest.fixture(params=["trn2", "trn3"])
def later(request):
    return Bench(catalog.chip(request.param).core)


def _columns(bench, low, high):
    return {"bound0": bench.tile(low), "bound1": bench.tile(high)}


def _refused(bench, match, **more):
    named = {
        "dst": bench.empty((4, 9)),
        "on_true_tile": bench.empty((4, 9)),
        "comp_op0": "less",
        "comp_op1": "less",
        "bound0": bench.empty((4, 1)),
        "bound1": bench.empty((4, 1)),
        **more,
    }
    with pytest.raises(HardwareLimitError, match=match):
        bench.form("range_select", **named)


def test_range_select_keeps_the_indices_in_range_and_their_maximum(later):
    x, low, high = integers((4, 9)), integers((4, 1), 1, 10, 13), integers((4, 1), 2, 15, 19)
    dst, largest = later.empty((4, 9)), later.empty((4, 1))
    later.run(
        "range_select",
        dst=dst,
        on_true_tile=later.tile(x),
        comp_op0="greater_equal",
        comp_op1="less",
        **_columns(later, low, high),
        range_start=10,
        reduce_res=largest,
    )
    for p in range(4):
        row = [x[p, i] if low[p, 0] <= i + 10 < high[p, 0] else LOWEST for i in range(9)]
        np.testing.assert_array_equal(later.values(dst)[p], row)
        assert later.values(largest)[p, 0] == max(row)


def test_range_select_needs_v3(trn1):
    _refused(trn1, "it exists from NeuronCore-v3 on")


def test_range_select_refuses_another_filling(trn2):
    _refused(trn2, "on_false_value=0.0", on_false_value=0.0)


def test_range_select_refuses_indices_that_fp32_cannot_tell_apart(trn2):
    _refused(trn2, "indices reach 16777217; the limit is 16777215", range_start=2**24 - 7)


def test_range_select_takes_the_lowest_float32_written_with_fewer_digits(trn2):
    tile, column = trn2.empty((4, 9)), trn2.empty((4, 1))
    named = {"dst": tile, "on_true_tile": tile, "bound0": column, "bound1": column}
    operators = {"comp_op0": "less", "comp_op1": "less"}
    trn2.form("range_select", **named, **operators, on_false_value=-3.4028235e38)


@on_every_generation(
    "range_select",
    ops=st.tuples(
        st.sampled_from(["greater_equal", "greater", "equal"]),
        st.sampled_from(["less", "less_equal", "not_equal"]),
    ),
    shape=shapes,
    first=st.integers(0, 20),
    kind=st.sampled_from(FLOATS),
    lay=st.tuples(layouts, layouts),
)
def test_it_keeps_what_both_comparisons_allow(core, ops, shape, first, kind, lay):
    bench = Bench(core)
    x = integers(shape)
    low, high = integers((shape[0], 1), 1, 0, 20), integers((shape[0], 1), 2, 5, 28)
    dst, largest = bench.room(shape, lay[0]), bench.empty((shape[0], 1))
    bench.run(
        "range_select",
        dst=dst,
        on_true_tile=bench.lay(x, lay[1], kind),
        comp_op0=ops[0],
        comp_op1=ops[1],
        **_columns(bench, low, high),
        range_start=first,
        reduce_res=largest,
    )
    for p in range(shape[0]):
        row = []
        for i in range(shape[1]):
            holds = PYTHON[ops[0]](first + i, low[p, 0]) and PYTHON[ops[1]](first + i, high[p, 0])
            row.append(x[p, i] if holds else LOWEST)
        assert bench.seen(dst)[p].tolist() == row
        assert bench.values(largest)[p, 0] == max(row)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    places,
    shapes,
)
from tests.isa.test_alu import FORMULAS


def test_activation_reduce_starts_anew_each_time(bench):
    x = integers((8, 5))
    total = bench.empty((8, 1))
    for _ in range(2):
        bench.run(
            "activation_reduce",
            dst=bench.empty((8, 5)),
            op="relu",
            data=bench.tile(x),
            reduce_op="add",
            reduce_res=total,
        )
    np.testing.assert_array_equal(bench.values(total)[:, 0], [sum(max(v, 0) for v in r) for r in x])


def test_activation_may_write_its_sum_over_its_own_input(bench):
    # NKI 0.6: reduce_res may alias; everything is read before anything is written.
    x = integers((8, 1))
    data = bench.tile(x)
    bench.run(
        "activation_reduce",
        dst=bench.empty((8, 1)),
        op="square",
        data=data,
        reduce_op="add",
        reduce_res=data,
    )
    np.testing.assert_array_equal(bench.values(data), x * x)


@on_every_generation(
    "activation_reduce",
    op=st.sampled_from(["copy", "square", "relu"]),
    shape=shapes,
    kind=st.sampled_from(KINDS),
    where=places,
    lay=st.tuples(layouts, layouts),
)
def test_it_sums_what_it_writes(core, op, shape, kind, where, lay):
    bench = Bench(core)
    x = small(shape, kind)
    dst, total = bench.room(shape, lay[0]), bench.empty((shape[0], 1), where=where)
    bench.run(
        "activation_reduce",
        dst=dst,
        op=op,
        data=bench.lay(x, lay[1], kind),
        reduce_op="add",
        reduce_res=total,
        scale=2.0,
    )
    for p in range(shape[0]):
        row = [FORMULAS[op](2 * int(v)) for v in x[p]]
        assert bench.seen(dst)[p].tolist() == row
        assert bench.values(total)[p, 0] == sum(row)


def test_other_reductions_are_refused(bench):
    tiles = {"dst": bench.empty((4, 5)), "data": bench.empty((4, 5))}
    named = {"op": "copy", "reduce_op": "maximum", "reduce_res": bench.empty((4, 1))}
    with pytest.raises(HardwareLimitError, match="reduce_op=maximum is not possible"):
        bench.form("activation_reduce", **tiles, **named)


def test_it_costs_the_read_out_of_the_registers_more(bench):
    tiles = {"dst": bench.empty((4, 512)), "data": bench.empty((4, 512))}
    named = {"op": "copy", "reduce_op": "add", "reduce_res": bench.empty((4, 1))}
    form = bench.form("activation_reduce", **tiles, **named)
    assert form.cost.cycles == 512 + 64  # ISA v2.26: + MIN_II

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    shapes,
)
from tests.isa.test_alu import PYTHON


@pytest.mark.parametrize("op", ["add", "multiply", "maximum", "minimum"])
def test_tensor_scalar_reduce_goes_on_from_the_registers(bench, op):
    x = integers((4, 5), low=-2, high=3)
    result = bench.empty((4, 1))
    named = {"dst": bench.empty((4, 5)), "data": bench.tile(x), "op0": "add", "operand0": 1.0}
    bench.run("tensor_scalar_reduce", **named, reduce_op=op)
    bench.run(
        "tensor_scalar_reduce",
        **named,
        reduce_op=op,
        reduce_cmd="reduce",
        reduce_res=result,
        reduce_res_negate=True,
    )
    twice = [[v + 1 for v in row] * 2 for row in x.tolist()]
    expected = [-reduce(PYTHON[op], row) for row in twice]
    np.testing.assert_array_equal(bench.values(result)[:, 0], expected)


def test_tensor_scalar_reduce_starts_from_the_number_given(bench):
    result = bench.empty((4, 1))
    bench.run(
        "tensor_scalar_reduce",
        dst=bench.empty((4, 5)),
        data=bench.tile(np.ones((4, 5))),
        op0="multiply",
        operand0=2.0,
        reduce_op="add",
        reduce_cmd="load_reduce",
        reduce_init=100.0,
        reduce_res=result,
    )
    np.testing.assert_array_equal(bench.values(result), 110)


@on_every_generation(
    "tensor_scalar_reduce",
    ops=st.tuples(
        st.sampled_from(["add", "subtract", "multiply"]),
        st.sampled_from(["add", "multiply", "maximum", "minimum"]),
    ),
    shape=shapes,
    kind=st.sampled_from(KINDS),
    start=st.sampled_from([None, 2.0, "column"]),
    lay=st.tuples(layouts, layouts),
)
def test_it_reduces_what_it_writes(core, ops, shape, kind, start, lay):
    bench = Bench(core)
    x = integers(shape, low=0 if kind.startswith("u") else -2, high=3)
    column = integers((shape[0], 1), 3)
    dst, total = bench.room(shape, lay[0]), bench.empty((shape[0], 1))
    bench.run(
        "tensor_scalar_reduce",
        dst=dst,
        data=bench.lay(x, lay[1], kind),
        op0=ops[0],
        operand0=2.0,
        reduce_op=ops[1],
        reduce_res=total,
        reduce_cmd="reset_reduce" if start is None else "load_reduce",
        reduce_init=bench.tile(column) if start == "column" else start,
    )
    for p in range(shape[0]):
        row = [PYTHON[ops[0]](int(v), 2) for v in x[p]]
        assert bench.seen(dst)[p].tolist() == row
        first = {None: [], 2.0: [2], "column": [int(column[p, 0])]}[start]
        assert bench.values(total)[p, 0] == reduce(PYTHON[ops[1]], first + row)


def test_load_reduce_needs_something_to_start_from(bench):
    tiles = {"dst": bench.empty((4, 5)), "data": bench.empty((4, 5))}
    named = {"op0": "add", "operand0": 1.0, "reduce_op": "add", "reduce_cmd": "load_reduce"}
    with pytest.raises(HardwareLimitError, match="without reduce_init"):
        bench.form("tensor_scalar_reduce", **tiles, **named)


def test_reading_the_registers_out_costs_more(bench):
    tiles = {"dst": bench.empty((4, 512)), "data": bench.empty((4, 512))}
    named = {"op0": "add", "operand0": 1.0, "reduce_op": "add"}
    plain = bench.form("tensor_scalar_reduce", **tiles, **named).cost.cycles
    total = bench.empty((4, 1))
    read = bench.form("tensor_scalar_reduce", **tiles, **named, reduce_res=total).cost.cycles
    assert (plain, read) == (512, 512 + 64)  # ISA v2.26: MIN_II

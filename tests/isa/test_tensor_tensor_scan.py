from __future__ import annotations

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


@pytest.mark.parametrize("reverse", [False, True])
def test_tensor_tensor_scan_carries_its_state_in_fp32(bench, reverse):
    a, b, start = integers((3, 6), low=-2, high=3), integers((3, 6), 1), integers((3, 1), 2)
    dst = bench.empty((3, 6))
    bench.run(
        "tensor_tensor_scan",
        dst=dst,
        data0=bench.tile(a),
        data1=bench.tile(b),
        initial=bench.tile(start),
        op0="multiply",
        op1="subtract",
        reverse1=reverse,
    )
    for p in range(3):
        state = start[p, 0]
        for i in range(6):
            product = a[p, i] * state
            state = b[p, i] - product if reverse else product - b[p, i]
            assert bench.values(dst)[p, i] == state


OPS = ["add", "subtract", "multiply", "maximum", "minimum"]


@on_every_generation(
    "tensor_tensor_scan",
    ops=st.tuples(st.sampled_from(OPS), st.sampled_from(OPS)),
    reverse=st.tuples(st.booleans(), st.booleans()),
    shape=shapes,
    kind=st.sampled_from(KINDS),
    column=st.booleans(),
    lay=st.tuples(layouts, layouts, layouts),
)
def test_each_state_follows_from_the_last(core, ops, reverse, shape, kind, column, lay):
    bench = Bench(core)
    a = integers(shape, low=0 if kind.startswith("u") else -2, high=3)
    b, start = integers(shape, 1, -2, 3), integers((shape[0], 1), 2)
    dst = bench.room(shape, lay[0])
    bench.run(
        "tensor_tensor_scan",
        dst=dst,
        data0=bench.lay(a, lay[1], kind),
        data1=bench.lay(b, lay[2], "float32", "psum"),
        initial=bench.tile(start) if column else 1.0,
        op0=ops[0],
        op1=ops[1],
        reverse0=reverse[0],
        reverse1=reverse[1],
    )
    for p in range(shape[0]):
        state = int(start[p, 0]) if column else 1
        for i in range(shape[1]):
            state = PYTHON[ops[0]](*[int(a[p, i]), state][:: -1 if reverse[0] else 1])
            state = PYTHON[ops[1]](*[state, int(b[p, i])][:: -1 if reverse[1] else 1])
            assert bench.seen(dst)[p, i] == state


def test_two_inputs_in_psum_are_refused(bench):
    tiles = {name: bench.empty((4, 5), where="psum") for name in ("dst", "data0", "data1")}
    with pytest.raises(HardwareLimitError, match="both lie in PSUM"):
        bench.form("tensor_tensor_scan", **tiles, initial=0.0, op0="add", op1="add")


def test_a_scan_takes_two_cycles_an_element(bench):
    tiles = {name: bench.empty((4, 512)) for name in ("dst", "data0", "data1")}
    form = bench.form("tensor_tensor_scan", **tiles, initial=0.0, op0="add", op1="add")
    assert form.cost.cycles == 1024  # ISA v2.26

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    layouts,
    on_every_generation,
    shapes,
)
from tests.isa.test_alu import PYTHON


def test_tensor_scalar_cumulative_writes_the_running_result(bench):
    x = integers((3, 6))
    dst = bench.empty((3, 6))
    bench.run(
        "tensor_scalar_cumulative",
        dst=dst,
        src=bench.tile(x),
        op0="multiply",
        op1="add",
        imm0=2.0,
        imm1=5.0,
        reduce_cmd="load_reduce",
    )
    for p in range(3):
        state = 5.0
        for i in range(6):
            state += 2 * x[p, i]
            assert bench.values(dst)[p, i] == state


@on_every_generation(
    "tensor_scalar_cumulative",
    ops=st.tuples(
        st.sampled_from(["add", "multiply"]),
        st.sampled_from(["add", "subtract", "maximum", "minimum"]),
    ),
    shape=shapes,
    kind=st.sampled_from(["float32", "bfloat16", "int16", "uint8"]),
    start=st.sampled_from([5.0, "column"]),
    lay=st.tuples(layouts, layouts),
)
def test_the_register_goes_from_column_to_column_and_on(core, ops, shape, kind, start, lay):
    bench = Bench(core)
    x, column = small(shape, kind), integers((shape[0], 1), 4)
    dst, more = bench.room(shape, lay[0]), bench.room(shape, lay[0])
    named = {"src": bench.lay(x, lay[1], kind), "op0": ops[0], "op1": ops[1], "imm0": 2.0}
    bench.run(
        "tensor_scalar_cumulative",
        dst=dst,
        **named,
        imm1=bench.tile(column) if start == "column" else start,
        reduce_cmd="load_reduce",
    )
    bench.run("tensor_scalar_cumulative", dst=more, **named, reduce_cmd="reduce")
    for p in range(shape[0]):
        state = int(column[p, 0]) if start == "column" else 5
        for found in (bench.seen(dst)[p], bench.seen(more)[p]):
            for i in range(shape[1]):
                state = PYTHON[ops[1]](PYTHON[ops[0]](int(x[p, i]), 2), state)
                assert found[i] == state


def test_reset_reduce_starts_from_the_identity(bench):
    dst = bench.empty((1, 3))
    src = bench.tile([[2.0, 3.0, 4.0]])
    bench.run("tensor_scalar_cumulative", dst=dst, src=src, op0="add", op1="multiply", imm0=0.0)
    assert bench.values(dst).tolist() == [[2, 6, 24]]


@pytest.mark.parametrize(
    ("kind", "more", "match"),
    [
        ("int32", {}, "src is a 32-bit integer"),
        ("float32", {"reduce_cmd": "load_reduce"}, "without imm1"),
        ("float32", {"reduce_cmd": "idle"}, "reduce_cmd=idle is not possible"),
    ],
)
def test_other_operands_are_refused(bench, kind, more, match):
    tiles = {"dst": bench.empty((4, 5)), "src": bench.empty((4, 5), kind)}
    with pytest.raises(HardwareLimitError, match=match):
        bench.form("tensor_scalar_cumulative", **tiles, op0="add", op1="add", imm0=0.0, **more)


def test_it_streams(bench):
    tiles = {"dst": bench.empty((4, 512)), "src": bench.empty((4, 512))}
    form = bench.form("tensor_scalar_cumulative", **tiles, op0="add", op1="add", imm0=0.0)
    assert form.cost.cycles == 512

from __future__ import annotations

import operator
from functools import reduce

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.isa.scalar_engine import STAGES
from tests.isa.bench import Bench, integers
from tests.isa.generations import on_every_generation
from tests.isa.test_alu import FORMULAS

PYTHON = {"add": operator.add, "subtract": operator.sub, "multiply": operator.mul}
REDUCED = {
    "add": operator.add,
    "maximum": max,
    "minimum": min,
    "abs_max": lambda a, b: a if abs(a) > abs(b) else b,
    "abs_min": lambda a, b: a if abs(a) < abs(b) else b,
}


def stage(op, x, y, reverse):
    if op == "bypass":
        return x
    return PYTHON[op](y, x) if reverse else PYTHON[op](x, y)


@on_every_generation(
    "activate2",
    examples=20,
    stages=st.sampled_from(STAGES),
    op=st.sampled_from(["copy", "relu", "square", "tanh", "prelu"]),
    reverse0=st.booleans(),
    reverse1=st.booleans(),
    columns=st.booleans(),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6)),
)
def test_two_stages_and_a_function(core, stages, op, reverse0, reverse1, columns, shape):
    bench = Bench(core)
    x, dst = integers(shape), bench.empty(shape)
    imm = [integers((shape[0], 1), seed) for seed in (1, 2)] if columns else [3.0, -2.0]
    bench.run(
        "activate2",
        dst=dst,
        op=op,
        data=bench.tile(x),
        imm0=bench.tile(imm[0]) if columns else imm[0],
        imm1=bench.tile(imm[1]) if columns else imm[1],
        op0=stages[0],
        op1=stages[1],
        relu_param=0.25,
        reverse0=reverse0,
        reverse1=reverse1,
    )
    for p in range(shape[0]):
        y = [float(i[p, 0]) if columns else i for i in imm]
        for i in range(shape[1]):
            value = stage(stages[0], float(x[p, i]), y[0], reverse0)
            value = stage(stages[1], value, y[1], reverse1)
            if op == "prelu":
                expected = value if value >= 0 else value / 4
            else:
                expected = FORMULAS[op](value)
            assert bench.values(dst)[p, i] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("reduction", sorted(REDUCED))
def test_rows_reduce_over_several_instructions(trn3, reduction):
    parts = [integers((4, 5)), integers((4, 7), 1)]
    result = trn3.empty((4, 1))
    for number, x in enumerate(parts):
        trn3.run(
            "activate2",
            dst=trn3.empty(x.shape),
            op="copy",
            data=trn3.tile(x),
            imm0=1.0,
            imm1=0.0,
            op0="add",
            op1="bypass",
            reduce_op=reduction,
            reduce_cmd="reduce" if number else "reset_reduce",
            reduce_res=result if number else None,
        )
    rows = (np.concatenate(parts, 1) + 1).tolist()
    expected = [reduce(REDUCED[reduction], row) for row in rows]
    # Of equal magnitudes either sign is the one with the larger or smaller.
    found = trn3.values(result)[:, 0]
    if reduction.startswith("abs"):
        found, expected = np.abs(found), np.abs(expected)
    np.testing.assert_array_equal(found, expected)


def named(bench, **more):
    given = {"dst": bench.empty((4, 5)), "op": "exp", "data": bench.empty((4, 5))}
    return given | {"imm0": 1.0, "imm1": 0.0, "op0": "multiply", "op1": "add"} | more


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"op0": "add", "op1": "add"}, "op0=add with op1=add. The pairs are multiply/add"),
        ({"imm0": None}, "imm0 is missing"),
        ({"op": "cosine"}, "op=cosine is not an activation function"),
        ({"reduce_op": "multiply", "reduce_cmd": "reduce"}, "reduce_op=multiply"),
        ({"reduce_cmd": "reset_reduce"}, "without reduce_op"),
        ({"reduce_op": "add", "reduce_cmd": "load_reduce"}, "reduce_cmd=load_reduce"),
    ],
)
def test_what_the_engine_lacks_is_refused(trn3, more, match):
    with pytest.raises(HardwareLimitError, match=match):
        trn3.form("activate2", **named(trn3, **more))


@pytest.mark.parametrize("earlier", ["trn1", "trn2"])
def test_it_exists_from_v4_on(earlier, request):
    bench = request.getfixturevalue(earlier)
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v4 on"):
        bench.form("activate2", **named(bench))


def test_it_costs_what_an_activation_costs(trn3):
    data = {"dst": trn3.empty((4, 1000)), "data": trn3.empty((4, 1000))}
    cost = trn3.form("activate2", **named(trn3, **data)).cost
    same = trn3.form("activation", op="exp", **data).cost
    assert (cost.cycles, cost.table) == (same.cycles, same.table) == (1000, cost.table)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError, UninitializedReadError
from tests.isa.bench import Bench, integers, normals, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    places,
    shapes,
)
from tests.isa.test_alu import FORMULAS


def _refused(bench, match, **named):
    named = {"dst": bench.empty((8, 5)), "op": "exp", "data": bench.empty((8, 5)), **named}
    with pytest.raises(HardwareLimitError, match=match):
        bench.form("activation", **named)


def test_activation_scales_then_adds_the_bias_then_applies_the_function(bench):
    x, bias, scale = normals((8, 5)), normals((8, 1), 1), normals((8, 1), 2)
    dst = bench.empty((8, 5))
    bench.run(
        "activation",
        dst=dst,
        op="exp",
        data=bench.tile(x),
        bias=bench.tile(bias),
        scale=bench.tile(scale),
    )
    for p in range(8):
        for i in range(5):
            exact = math.exp(float(x[p, i]) * float(scale[p, 0]) + float(bias[p, 0]))
            assert bench.values(dst)[p, i] == pytest.approx(exact, rel=1e-6)


def test_activation_rounds_to_the_destination(bench):
    dst = bench.empty((4, 3), "bfloat16", "psum")
    x = np.full((4, 3), 1.00390625)  # halfway between two bfloat16: to the even one
    bench.run("activation", dst=dst, op="copy", data=bench.tile(x))
    np.testing.assert_array_equal(bench.values(dst), 1.0)


def test_activation_sums_rows_over_several_instructions(bench):
    a, b = integers((8, 5)), integers((8, 7), 1)
    total = bench.empty((8, 1))
    one = bench.tile(np.ones((8, 1)))
    bench.run(
        "activation",
        dst=bench.empty((8, 5)),
        op="square",
        data=bench.tile(a),
        reduce_op="add",
        reduce_cmd="reset_reduce",
    )
    bench.run(
        "activation",
        dst=bench.empty((8, 7)),
        op="copy",
        data=bench.tile(b),
        bias=one,
        reduce_op="add",
        reduce_cmd="reduce",
        reduce_res=total,
    )
    expected = [sum(v * v for v in a[p]) + sum(v + 1 for v in b[p]) for p in range(8)]
    np.testing.assert_array_equal(bench.values(total)[:, 0], expected)


def test_reset_clears_the_accumulator_and_adds_nothing(bench):
    x = bench.tile(integers((8, 5)))
    total = bench.empty((8, 1))
    named = {"dst": bench.empty((8, 5)), "op": "copy", "data": x, "reduce_op": "add"}
    bench.run("activation", **named, reduce_cmd="reset_reduce")
    bench.run("activation", **named, reduce_cmd="reset", reduce_res=total)
    np.testing.assert_array_equal(bench.values(total), 0)


def test_reducing_into_registers_that_nothing_set_is_an_error(bench):
    with pytest.raises(UninitializedReadError, match="accumulator registers of the scalar engine"):
        bench.run(
            "activation",
            dst=bench.empty((8, 5)),
            op="copy",
            data=bench.tile(integers((8, 5))),
            reduce_op="add",
            reduce_cmd="reduce",
        )


def test_activation_refuses_unknown_functions(bench):
    _refused(bench, "op=cosine is not an activation function", op="cosine")


def test_activation_says_that_an_operator_belongs_to_the_vector_engine(bench):
    _refused(bench, "add is an operator of the vector engine", op="add")


def test_activation_refuses_unequal_sizes(bench):
    _refused(bench, "dst .* has 8 partitions of 6 elements", dst=bench.empty((8, 6)))


def test_activation_refuses_a_bias_of_another_shape(bench):
    _refused(bench, r"bias .* must be \[8, 1\]", bias=bench.empty((8, 2)))


def test_activation_refuses_a_reduction_other_than_add(bench):
    _refused(bench, "reduce_op=maximum", reduce_op="maximum", reduce_cmd="reset_reduce")


def test_a_number_as_bias_needs_v3(trn1, trn2):
    _refused(trn1, r"takes it as a \[P, 1\] tile only", bias=1.0)
    named = {"dst": trn2.empty((8, 5)), "data": trn2.tile(np.zeros((8, 5))), "op": "copy"}
    trn2.run("activation", **named, bias=1.0)
    np.testing.assert_array_equal(trn2.values(named["dst"]), 1)


def test_activation_costs_a_cycle_an_element_and_names_its_table(bench):
    def cost(n, **more):
        data = bench.empty((8, n))
        return bench.form("activation", dst=bench.empty((8, n)), op="exp", data=data, **more).cost

    assert cost(1000).cycles == 1000
    assert cost(10).cycles == bench.core.timing.min_issue_cycles
    read = cost(1000, reduce_res=bench.empty((8, 1)), reduce_op="add", reduce_cmd="reset_reduce")
    assert read.cycles == 1000 + bench.core.timing.accumulator_read_cycles
    assert "exp" in str(cost(10).table)


FUNCTIONS = ["copy", "square", "relu", "abs", "sign", "exp", "tanh", "gelu"]


@on_every_generation(
    "activation",
    examples=20,
    op=st.sampled_from(FUNCTIONS),
    shape=shapes,
    kind=st.sampled_from(KINDS),
    columns=st.tuples(st.booleans(), st.sampled_from([None, "float32", "bfloat16"])),
    where=places,
    lay=st.tuples(layouts, layouts),
)
def test_it_equals_the_formula_and_the_sum_of_its_rows(core, op, shape, kind, columns, where, lay):
    bench = Bench(core)
    x, scale, bias = small(shape, kind), integers((shape[0], 1), 1, 1, 3), integers((shape[0], 1))
    dst, total = bench.room(shape, lay[0]), bench.empty((shape[0], 1))
    bench.run(
        "activation",
        dst=dst,
        op=op,
        data=bench.lay(x, lay[1], kind, where),
        scale=bench.tile(scale) if columns[0] else 0.5,
        bias=None if columns[1] is None else bench.tile(bias, columns[1]),
        reduce_op="add",
        reduce_cmd="reset_reduce",
        reduce_res=total,
    )
    for p in range(shape[0]):
        row = []
        for i in range(shape[1]):
            value = float(x[p, i]) * (float(scale[p, 0]) if columns[0] else 0.5)
            value += 0.0 if columns[1] is None else float(bias[p, 0])
            row.append(FORMULAS[op](value))
        # fp32 on the way, and gelu's tail cancels.
        np.testing.assert_allclose(bench.seen(dst)[p], row, rtol=2e-6, atol=2e-6)
        assert bench.values(total)[p, 0] == pytest.approx(math.fsum(row), rel=1e-5, abs=1e-5)


def test_gpsimd_activates_on_v4_with_registers_of_its_own(trn3, trn2):
    x = integers((4, 5))
    total = trn3.empty((4, 1))
    named = {"op": "copy", "reduce_op": "add", "reduce_cmd": "reset_reduce"}
    tiles = {"dst": trn3.empty((4, 5)), "data": trn3.tile(x)}
    form = trn3.run("activation", **named, **tiles, reduce_res=total, engine="gpsimd")
    assert (form.engine, form.cost.cycles) == ("gpsimd", 155)
    assert trn3.values(total)[:, 0].tolist() == x.sum(axis=1).tolist()
    tiles = {"dst": trn2.empty((4, 5)), "data": trn2.empty((4, 5))}
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v4 on"):
        trn2.form("activation", op="copy", **tiles, engine="gpsimd")

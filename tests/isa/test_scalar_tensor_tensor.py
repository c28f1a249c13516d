from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    cores,
    layouts,
    on_every_generation,
    shapes,
)
from tests.isa.test_alu import PYTHON


def test_scalar_tensor_tensor_combines_a_column_and_a_tile(bench):
    x, y, column = integers((4, 5)), integers((4, 5), 1), integers((4, 1), 2)
    dst = bench.empty((4, 5))
    bench.run(
        "scalar_tensor_tensor",
        dst=dst,
        data=bench.tile(x),
        op0="multiply",
        operand0=bench.tile(column),
        op1="subtract",
        operand1=bench.tile(y),
        reverse1=True,
    )
    expected = [[y[p, i] - x[p, i] * column[p, 0] for i in range(5)] for p in range(4)]
    np.testing.assert_array_equal(bench.values(dst), expected)


OPS = ["add", "subtract", "multiply", "maximum", "minimum"]


@on_every_generation(
    "scalar_tensor_tensor",
    ops=st.tuples(st.sampled_from(OPS), st.sampled_from(OPS)),
    reverse=st.tuples(st.booleans(), st.booleans()),
    shape=shapes,
    kind=st.sampled_from(KINDS),
    lay=st.tuples(layouts, layouts, layouts),
)
def test_it_equals_python_element_by_element(core, ops, reverse, shape, kind, lay):
    bench = Bench(core)
    x, y = small(shape, kind), integers(shape, 1)
    dst = bench.room(shape, lay[0])
    bench.run(
        "scalar_tensor_tensor",
        dst=dst,
        data=bench.lay(x, lay[1], kind),
        op0=ops[0],
        operand0=3.0,
        op1=ops[1],
        operand1=bench.lay(y, lay[2], "float32", "psum"),
        reverse0=reverse[0],
        reverse1=reverse[1],
    )
    for p in range(shape[0]):
        for i in range(shape[1]):
            value = PYTHON[ops[0]](*[int(x[p, i]), 3][:: -1 if reverse[0] else 1])
            value = PYTHON[ops[1]](*[value, int(y[p, i])][:: -1 if reverse[1] else 1])
            assert bench.seen(dst)[p, i] == value


def test_two_inputs_in_psum_and_bit_vector_operators_are_refused(bench):
    tiles = {name: bench.empty((4, 5), where="psum") for name in ("dst", "data", "operand1")}
    with pytest.raises(HardwareLimitError, match="both lie in PSUM"):
        bench.form("scalar_tensor_tensor", **tiles, op0="add", operand0=1.0, op1="add")
    tiles["data"] = bench.empty((4, 5))
    with pytest.raises(HardwareLimitError, match="op1=bitwise_or is a bit-vector operator"):
        bench.form("scalar_tensor_tensor", **tiles, op0="add", operand0=1.0, op1="bitwise_or")


def test_bfloat16_of_subtract_and_multiply_is_fast():
    # ISA v2.26: N for bfloat16, subtract then multiply; else 2N. A3: N on v3.
    cycles = []
    for core in cores("scalar_tensor_tensor")[:2]:
        bench = Bench(core)
        for kind in ("bfloat16", "float32"):
            tiles = {n: bench.empty((4, 512), kind) for n in ("dst", "data", "operand1")}
            form = bench.form(
                "scalar_tensor_tensor", **tiles, op0="subtract", operand0=1.0, op1="multiply"
            )
            cycles.append(form.cost.cycles)
    assert cycles == [512, 1024, 512, 512]

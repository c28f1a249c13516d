from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.hardware import catalog
from emuron.isa.tensor import AccessPattern
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    shapes,
)
from tests.isa.test_alu import PYTHON

ARITHMETIC = ["add", "subtract", "multiply", "maximum", "minimum", "greater", "logical_xor"]


def _refused(bench, nki, match, **named):
    with pytest.raises(HardwareLimitError, match=match):
        bench.form(nki, **named)


def _pair(bench, where1="sbuf", where2="sbuf", kind="float32"):
    return {
        "dst": bench.empty((4, 5), kind),
        "data1": bench.empty((4, 5), kind, where1),
        "data2": bench.empty((4, 5), kind, where2),
    }


@on_every_generation(
    "tensor_tensor",
    examples=20,
    op=st.sampled_from(ARITHMETIC),
    shape=shapes,
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    where=st.sampled_from([("sbuf", "sbuf"), ("psum", "sbuf"), ("sbuf", "psum")]),
    lay=st.tuples(layouts, layouts, layouts),
)
def test_it_equals_python_element_by_element(core, op, shape, kinds, where, lay):
    bench = Bench(core)
    a, b = small(shape, kinds[0]), small(shape, kinds[1], 1)
    dst = bench.room(shape, lay[0])
    data1 = bench.lay(a, lay[1], kinds[0], where[0])
    data2 = bench.lay(b, lay[2], kinds[1], where[1])
    bench.run("tensor_tensor", dst=dst, data1=data1, data2=data2, op=op)
    for p in range(shape[0]):
        for i in range(shape[1]):
            assert bench.seen(dst)[p, i] == PYTHON[op](int(a[p, i]), int(b[p, i]))


def test_gpsimd_adds_32_bit_integers_exactly_and_the_vector_engine_in_fp32(bench):
    # ISA: int32 through Vector is rounded beyond 2^24; use Pool for exactness.
    x = bench.tile(np.full((4, 2), 2**24 + 1, np.int32), "int32")
    one = bench.tile(np.ones((4, 2), np.int32), "int32")
    exact, rounded = bench.empty((4, 2), "int32"), bench.empty((4, 2), "int32")
    form = bench.run("tensor_tensor", dst=exact, data1=x, data2=one, op="add")
    assert form.engine == "gpsimd"
    bench.run("tensor_tensor", dst=rounded, data1=x, data2=one, op="add", engine="vector")
    np.testing.assert_array_equal(bench.read(exact), 2**24 + 2)
    np.testing.assert_array_equal(bench.read(rounded), 2**24)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint32"])
@pytest.mark.parametrize("op", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bit_vector_operators_work_on_stored_bits(bench, op, kind):
    a, b = np.arange(12).reshape(3, 4) * 9, np.arange(12).reshape(3, 4) + 5
    dst = bench.empty((3, 4), kind)
    bench.run("tensor_tensor", dst=dst, data1=bench.tile(a, kind), data2=bench.tile(b, kind), op=op)
    expected = [
        [PYTHON[op](int(x), int(y)) for x, y in zip(*r, strict=True)]
        for r in zip(a, b, strict=True)
    ]
    np.testing.assert_array_equal(bench.read(dst), expected)


def test_operands_of_one_shape_but_other_ranks_are_paired_in_row_major_order(bench):
    a, b = integers((4, 6)), integers((4, 2, 3), 1)
    dst = bench.empty((4, 3, 2))
    bench.run("tensor_tensor", dst=dst, data1=bench.tile(a), data2=bench.tile(b), op="add")
    np.testing.assert_array_equal(bench.values(dst).reshape(4, 6), a + b.reshape(4, 6))


def test_a_stride_of_zero_broadcasts(bench):
    a, b = bench.tile(integers((4, 3, 5))), bench.tile(integers((4, 5), 1))
    spread = AccessPattern(b.tensor, (4, 3, 5), (5, 0, 1))
    dst = bench.empty((4, 3, 5))
    bench.run("tensor_tensor", dst=dst, data1=a, data2=spread, op="multiply")
    np.testing.assert_array_equal(bench.read(dst), bench.read(a) * bench.read(b)[:, None, :])


def test_tensor_tensor_refuses_two_inputs_in_psum(bench):
    _refused(bench, "tensor_tensor", "both lie in PSUM", **_pair(bench, "psum", "psum"), op="add")


def test_gpsimd_refuses_psum(bench):
    match = "data1 .* lies in PSUM, which the gpsimd engine cannot reach"
    _refused(bench, "tensor_tensor", match, **_pair(bench, "psum"), op="power")


def test_power_runs_on_gpsimd_alone(bench):
    match = "power does not exist on the vector engine"
    _refused(bench, "tensor_tensor", match, **_pair(bench), op="power", engine="vector")


def test_bit_vector_operators_refuse_floats(bench):
    _refused(bench, "tensor_tensor", "needs an integer dtype", **_pair(bench), op="bitwise_or")


def test_an_engine_that_cannot_run_it_is_refused(bench):
    _refused(
        bench,
        "tensor_tensor",
        "engine=scalar cannot run it",
        **_pair(bench),
        op="add",
        engine="scalar",
    )


def test_two_sbuf_inputs_cost_what_the_generation_says():
    # ISA v2.26: 2N in general; A3: one cycle an element for fp32 from v3 on.
    cycles = {}
    for name in ("trn1", "trn2"):
        bench = Bench(catalog.chip(name).core)
        tiles = {k: bench.empty((128, 512)) for k in ("dst", "data1", "data2")}
        cycles[name] = bench.form("tensor_tensor", **tiles, op="add").cost.cycles
    assert cycles == {"trn1": 1024, "trn2": 512}

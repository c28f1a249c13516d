from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError, OutOfBoundsError
from emuron.isa.tensor import AccessPattern, Indirection
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    layouts,
    on_every_generation,
    places,
    shapes,
)


@pytest.mark.parametrize("where", ["sbuf", "psum"])
def test_a_copy_of_equal_dtypes_keeps_every_bit(bench, where):
    bits = np.array([[0x7FC12345, 0x80000000, 1]], np.uint32)  # NaN payload, −0, a subnormal
    dst = bench.empty((1, 3), "float32", where)
    bench.run("tensor_copy", dst=dst, src=bench.tile(bits.view(np.float32)))
    np.testing.assert_array_equal(bench.read(dst).view(np.uint32), bits)


def test_a_copy_between_dtypes_rounds_and_saturates(bench):
    # NKI: fp32 to integer rounds to nearest even and saturates.
    dst = bench.empty((1, 5), "int8")
    bench.run("tensor_copy", dst=dst, src=bench.tile([[0.5, 1.5, -2.5, 300.0, -300.0]]))
    np.testing.assert_array_equal(bench.read(dst), [[0, 2, -2, 127, -128]])


def test_a_copy_reads_everything_before_it_writes(bench):
    tile = bench.tile(integers((2, 6)))
    before = bench.read(tile)
    source = AccessPattern(tile.tensor, (2, 5), (6, 1), 0)
    shifted = AccessPattern(tile.tensor, (2, 5), (6, 1), 1)
    bench.run("tensor_copy", dst=shifted, src=source)
    np.testing.assert_array_equal(bench.read(tile)[:, 1:], before[:, :5])


def test_a_run_time_index_shifts_the_view(bench):
    x = integers((4, 6, 5))
    src, index = bench.tile(x), bench.tile([[3]], "int32")
    rule = Indirection("scalar", index, stride=5, limit=6)
    view = AccessPattern(src.tensor, (4, 5), (30, 1), 0, indirection=rule)
    dst = bench.empty((4, 5))
    form = bench.run("tensor_copy", dst=dst, src=view)
    np.testing.assert_array_equal(bench.read(dst), x[:, 3])
    assert form.cost.cycles == bench.core.timing.dynamic_min_cycles


def test_a_run_time_index_beyond_its_range_is_an_error(bench):
    src, index = bench.tile(integers((4, 6, 5))), bench.tile([[6]], "int32")
    rule = Indirection("scalar", index, stride=5, limit=6)
    view = AccessPattern(src.tensor, (4, 5), (30, 1), 0, indirection=rule)
    with pytest.raises(OutOfBoundsError, match="the index of src is 6; legal indices are 0 to 5"):
        bench.run("tensor_copy", dst=bench.empty((4, 5)), src=view)


def test_the_scalar_engine_of_v2_has_no_copy(trn1, trn2):
    named = {"src": trn1.empty((4, 5)), "dst": trn1.empty((4, 5)), "engine": "scalar"}
    with pytest.raises(HardwareLimitError, match="Use activation with op=copy"):
        trn1.form("tensor_copy", **named)
    assert trn2.form("tensor_copy", **named).engine == "scalar"


def test_performance_modes_quarter_a_bfloat16_copy_on_v3(trn2, trn1):
    def cycles(bench, kind):
        return bench.form(
            "tensor_copy", dst=bench.empty((128, 1024), kind), src=bench.empty((128, 1024), kind)
        ).cost.cycles

    assert cycles(trn2, "bfloat16") == 256
    assert cycles(trn2, "float32") == 1024
    assert cycles(trn1, "bfloat16") == 1024


@on_every_generation(
    "tensor_copy",
    examples=20,
    shape=shapes,
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    where=st.tuples(places, places),
    lay=st.tuples(layouts, layouts),
)
def test_values_that_both_types_hold_are_copied(core, shape, kinds, where, lay):
    bench = Bench(core)
    x = abs(small(shape, kinds[0]))
    dst = bench.room(shape, lay[0], kinds[1], where[0])
    bench.run("tensor_copy", dst=dst, src=bench.lay(x, lay[1], kinds[0], where[1]))
    for p in range(shape[0]):
        for i in range(shape[1]):
            assert bench.seen(dst)[p, i] == x[p, i]

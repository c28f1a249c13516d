from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from emuron.isa.tensor import AccessPattern
from tests.isa.bench import integers


def _refused(bench, nki, match, **named):
    with pytest.raises(HardwareLimitError, match=match):
        bench.form(nki, **named)


def test_more_than_128_partitions_are_refused(bench):
    named = {"dst": bench.empty((129, 4)), "data": bench.empty((129, 4))}
    _refused(bench, "reciprocal", "spans 129 partitions; the limit is 128", **named)


@pytest.mark.parametrize(("rows", "start"), [(32, 16), (48, 32), (65, 64)])
def test_start_partitions_that_the_hardware_lacks_are_refused(bench, rows, start):
    # A2: more than 64 partitions start at 0, 33 to 64 at 0 or 64, up to 32 at 0, 32, 64, 96.
    big = bench.empty((128, 4))
    data = AccessPattern(big.tensor, (rows, 4), (4, 1), start * 4)
    match = f"{rows} partitions from partition {start}"
    _refused(bench, "reciprocal", match, dst=bench.empty((rows, 4)), data=data)


@pytest.mark.parametrize(("rows", "start"), [(32, 96), (64, 64), (128, 0)])
def test_start_partitions_that_the_hardware_has_are_taken(bench, rows, start):
    big = bench.tile(integers((128, 4)))
    data = AccessPattern(big.tensor, (rows, 4), (4, 1), start * 4)
    dst = bench.empty((rows, 4))
    bench.run("tensor_copy", dst=dst, src=data)
    np.testing.assert_array_equal(bench.read(dst), bench.read(big)[start : start + rows])


def test_a_dtype_of_another_generation_is_refused(trn1):
    data = trn1.empty((4, 5), "float8_e4m3fn")
    match = "float8_e4m3fn, which NeuronCore-v2 does not have"
    _refused(trn1, "reciprocal", match, dst=trn1.empty((4, 5)), data=data)


def test_packed_values_are_no_operands_of_arithmetic(trn3):
    tiles = {"dst": trn3.empty((4, 5)), "data": trn3.empty((4, 5), "float8_e4m3fn_x4")}
    with pytest.raises(HardwareLimitError, match="data is float8_e4m3fn_x4, whose elements are 4"):
        trn3.form("reciprocal", **tiles)

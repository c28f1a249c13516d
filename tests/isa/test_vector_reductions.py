from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest

from emuron.errors import HardwareLimitError
from tests.isa.bench import integers
from tests.isa.test_alu import PYTHON


@pytest.mark.parametrize(
    "op", ["add", "multiply", "maximum", "minimum", "logical_and", "logical_or", "logical_xor"]
)
def test_tensor_reduce_folds_the_last_axes(bench, op):
    x = integers((4, 3, 5), low=-2, high=3)
    dst = bench.empty((4, 3))
    bench.run("tensor_reduce", dst=dst, op=op, data=bench.tile(x), axis=2)
    fold = PYTHON[op]
    expected = [[float(reduce(fold, row)) for row in block] for block in x.tolist()]
    np.testing.assert_array_equal(bench.values(dst), expected)


@pytest.mark.parametrize("axis", [(1, 2), (-2, -1)])
def test_tensor_reduce_takes_several_axes_and_negates(bench, axis):
    x = integers((4, 3, 5))
    dst = bench.empty((4, 1))
    bench.run("tensor_reduce", dst=dst, op="add", data=bench.tile(x), axis=axis, negate=True)
    np.testing.assert_array_equal(bench.values(dst)[:, 0], [-sum(r) for r in x.reshape(4, 15)])


def test_tensor_reduce_works_on_the_bits_of_integers(bench):
    x = np.arange(20, dtype=np.uint16).reshape(4, 5) * 257
    dst = bench.empty((4, 1), "uint16")
    data = bench.tile(x, "uint16")
    bench.run("tensor_reduce", dst=dst, op="bitwise_xor", data=data, axis=1)
    expected = [reduce(lambda a, b: a ^ b, row) for row in x.tolist()]
    np.testing.assert_array_equal(bench.read(dst)[:, 0], expected)


@pytest.mark.parametrize("axis", [0, 1, (0, 1), ()])
def test_tensor_reduce_refuses_axes_that_are_not_the_last(bench, axis):
    with pytest.raises(HardwareLimitError, match="Reduce the last free axes only"):
        bench.form(
            "tensor_reduce",
            dst=bench.empty((4, 3)),
            op="add",
            data=bench.empty((4, 3, 5)),
            axis=axis,
        )


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


@pytest.mark.parametrize("count", [1, 2, 7, 512])
def test_bn_stats_gives_count_mean_and_spread_of_even_and_odd_elements(bench, count):
    x = integers((3, count))
    dst = bench.empty((3, 6))
    bench.run("bn_stats", dst=dst, data=bench.tile(x))
    for p, row in enumerate(x.tolist()):
        expected = []
        for part in (row[0::2], row[1::2]):
            mean = sum(part) / len(part) if part else 0
            expected += [len(part), mean, sum((v - mean) ** 2 for v in part)]
        # Two sums of fp32: a few units in the last place.
        np.testing.assert_allclose(bench.values(dst)[p], expected, rtol=2e-6, atol=1e-6)


def test_bn_aggr_gives_mean_and_population_variance_of_all_parts(bench):
    x = integers((3, 700))
    stats = bench.empty((3, 12))
    for part, columns in enumerate((x[:, :512], x[:, 512:])):
        six = bench.empty((3, 6))
        bench.run("bn_stats", dst=six, data=bench.tile(columns))
        target = type(stats)(stats.tensor, (3, 6), (12, 1), 6 * part)
        bench.run("tensor_copy", dst=target, src=six)
    dst = bench.empty((3, 2))
    bench.run("bn_aggr", dst=dst, data=stats)
    for p, row in enumerate(x.tolist()):
        mean = math.fsum(row) / 700
        variance = math.fsum((v - mean) ** 2 for v in row) / 700
        np.testing.assert_allclose(bench.values(dst)[p], [mean, variance], rtol=2e-6, atol=1e-6)


def test_bn_stats_refuses_more_than_512_elements(bench):
    with pytest.raises(HardwareLimitError, match="513 elements a partition; the limit is 512"):
        bench.form("bn_stats", dst=bench.empty((4, 6)), data=bench.empty((4, 513)))


def test_bn_aggr_refuses_incomplete_groups(bench):
    with pytest.raises(HardwareLimitError, match="Give groups of three"):
        bench.form("bn_aggr", dst=bench.empty((4, 2)), data=bench.empty((4, 7)))


def test_bfloat16_sums_reduce_at_twice_the_rate(bench):
    def cycles(kind):
        return bench.form(
            "tensor_reduce",
            dst=bench.empty((4, 1), kind),
            op="add",
            data=bench.empty((4, 1024), kind),
            axis=1,
        ).cost.cycles

    assert (cycles("bfloat16"), cycles("float32")) == (512, 1024)

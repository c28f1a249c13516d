from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers
from tests.isa.generations import (
    KINDS,
    on_every_generation,
    places,
)
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


@on_every_generation(
    "tensor_reduce",
    op=st.sampled_from(["add", "multiply", "maximum", "minimum", "logical_xor"]),
    rows=st.integers(1, 6),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    axes=st.sampled_from([2, -1, (1, 2)]),
    kind=st.sampled_from(KINDS),
    negate=st.booleans(),
    where=places,
)
def test_it_folds_the_last_axes(core, op, rows, shape, axes, kind, negate, where):
    bench = Bench(core)
    x = integers((rows, *shape), low=0 if kind.startswith("u") else -2, high=3)
    whole = isinstance(axes, tuple)
    dst = bench.empty((rows, 1 if whole else shape[0]))
    data = bench.tile(x, kind, where)
    bench.run("tensor_reduce", dst=dst, op=op, data=data, axis=axes, negate=negate)
    for p in range(rows):
        groups = [x[p].ravel().tolist()] if whole else x[p].tolist()
        folded = [reduce(PYTHON[op], map(int, group)) for group in groups]
        if op == "logical_xor" and len(groups[0]) == 1:
            folded = [value != 0 for value in folded]
        assert bench.values(dst)[p].tolist() == [-float(v) if negate else float(v) for v in folded]

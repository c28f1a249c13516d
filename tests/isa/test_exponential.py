from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError, UninitializedReadError
from tests.isa.bench import Bench, normals
from tests.isa.generations import on_every_generation


@on_every_generation(
    "exponential",
    examples=16,
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    column=st.booleans(),
    kind=st.sampled_from(["float32", "bfloat16", "int8"]),
    where=st.sampled_from(["sbuf", "psum"]),
)
def test_it_subtracts_and_exponentiates(core, shape, column, kind, where):
    bench = Bench(core)
    src, top = bench.tile(2 * normals(shape), kind, where), normals((shape[0], 1), 1)
    dst = bench.empty(shape, where=where)
    bench.run("exponential", dst=dst, src=src, max_value=bench.tile(top) if column else 1.5)
    for p in range(shape[0]):
        for i in range(shape[1]):
            away = bench.values(src)[p, i] - (float(top[p, 0]) if column else 1.5)
            # One rounding of the difference, one of the exponential.
            assert bench.values(dst)[p, i] == pytest.approx(math.exp(away), rel=2e-6)


@pytest.mark.parametrize(("first", "start"), [("reset_reduce", 0.0), ("load_reduce", 10.0)])
def test_sums_go_on_from_instruction_to_instruction(trn3, first, start):
    parts = [normals((4, 5)), normals((4, 7), 1)]
    total = trn3.empty((4, 1))
    trn3.run(
        "exponential",
        dst=trn3.empty((4, 5)),
        src=trn3.tile(parts[0]),
        reduce_cmd=first,
        reduce_init=start,
    )
    trn3.run(
        "exponential",
        dst=trn3.empty((4, 7)),
        src=trn3.tile(parts[1]),
        reduce_cmd="reduce",
        reduce_res=total,
    )
    for p, row in enumerate(np.concatenate(parts, 1).tolist()):
        expected = start + math.fsum(math.exp(v) for v in row)
        assert trn3.values(total)[p, 0] == pytest.approx(expected, rel=2e-6)


def test_the_registers_are_those_of_the_other_vector_instructions(trn3):
    x = normals((4, 5))
    total = trn3.empty((4, 1))
    trn3.run(
        "tensor_scalar_reduce",
        dst=trn3.empty((4, 5)),
        data=trn3.tile(np.ones((4, 5))),
        op0="multiply",
        operand0=2.0,
        reduce_op="add",
    )
    trn3.run(
        "exponential",
        dst=trn3.empty((4, 5)),
        src=trn3.tile(x),
        reduce_cmd="reduce",
        reduce_res=total,
    )
    expected = [10 + math.fsum(map(math.exp, row)) for row in x.tolist()]
    np.testing.assert_allclose(trn3.values(total)[:, 0], expected, rtol=2e-6)


def test_registers_that_nothing_set_cannot_go_on(trn3):
    with pytest.raises(UninitializedReadError, match="accumulator registers of the vector engine"):
        trn3.run(
            "exponential",
            dst=trn3.empty((4, 5)),
            src=trn3.tile(normals((4, 5))),
            reduce_cmd="reduce",
        )


@pytest.mark.parametrize("earlier", ["trn1", "trn2"])
def test_it_exists_from_v4_on(earlier, request):
    bench = request.getfixturevalue(earlier)
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v4 on"):
        bench.form("exponential", dst=bench.empty((4, 5)), src=bench.empty((4, 5)))


def test_other_sizes_and_commands_are_refused(trn3):
    tiles = {"dst": trn3.empty((4, 5)), "src": trn3.empty((4, 5))}
    with pytest.raises(HardwareLimitError, match="reduce_cmd=reset is not possible"):
        trn3.form("exponential", **tiles, reduce_cmd="reset")
    with pytest.raises(HardwareLimitError, match=r"max_value .* must be \[4, 1\]"):
        trn3.form("exponential", **tiles, max_value=trn3.empty((4, 2)))


def test_four_elements_take_a_cycle(trn3):
    tiles = {"dst": trn3.empty((4, 2048)), "src": trn3.empty((4, 2048))}
    assert trn3.form("exponential", **tiles).cost.cycles == 512  # A4


def test_registers_are_undefined_after_an_idle_exponential(trn3):
    # ISA: even when reduce_cmd is idle, the accumulator state may still be modified.
    named = {"src": trn3.tile(normals((4, 5)))}
    trn3.run("exponential", dst=trn3.empty((4, 5)), **named, reduce_cmd="reset_reduce")
    trn3.run("exponential", dst=trn3.empty((4, 5)), **named)
    with pytest.raises(UninitializedReadError, match="accumulator registers of the vector engine"):
        trn3.run("exponential", dst=trn3.empty((4, 5)), **named, reduce_cmd="reduce")

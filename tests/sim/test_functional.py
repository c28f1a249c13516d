from __future__ import annotations

import numpy as np
import pytest

from emuron.errors import OutOfBoundsError, UninitializedReadError
from emuron.hardware import catalog
from emuron.isa.instruction import instruction_class
from emuron.isa.tensor import AccessPattern, MemoryRegion, Tensor
from emuron.nki.recorder import Recorder
from emuron.numerics.dtypes import dtype
from emuron.numerics.rounding import NumericsPolicy
from emuron.sim.functional import FunctionalSimulator
from emuron.sim.machine import Machine
from tests.isa.bench import Bench, integers, normals


@pytest.fixture
def bench(chip):
    return Bench(chip.core)


def test_a_read_of_unwritten_elements_names_operand_tensor_and_place(bench):
    data, dst = bench.empty((4, 6), "bfloat16"), bench.empty((4, 6))
    half = AccessPattern(data.tensor, (4, 3), (6, 1))
    bench.run("memset", dst=half, value=1.0)
    match = r"reciprocal reads data: .*never written at partition 0, byte 6.* memset"
    with pytest.raises(UninitializedReadError, match=match):
        bench.run("reciprocal", dst=dst, data=data)
    bench.run("reciprocal", dst=AccessPattern(dst.tensor, (4, 3), (6, 1)), data=half)


def test_writes_piece_by_piece_make_a_tensor_written(bench):
    dst = bench.empty((4, 6))
    for start in (0, 4, 2):
        bench.run("memset", dst=AccessPattern(dst.tensor, (4, 2), (6, 1), start), value=start)
    np.testing.assert_array_equal(bench.values(dst), [[0, 0, 2, 2, 4, 4]] * 4)


def test_bytes_written_as_one_type_can_be_read_as_another(bench):
    words = bench.tile(np.array([[0x3F800000, 0x40000000]], np.uint32), "uint32")
    floats = AccessPattern(words.tensor, (1, 2), (2, 1), 0, dtype("float32"))
    halves = AccessPattern(words.tensor, (1, 2), (4, 2), 1, dtype("bfloat16"))
    dst = bench.empty((1, 2))
    bench.run("tensor_tensor", dst=dst, data1=floats, data2=halves, op="add")
    np.testing.assert_array_equal(bench.values(dst), [[2, 4]])


def test_an_access_past_the_end_is_an_error(bench):
    x = bench.tile(integers((4, 6)))
    past = AccessPattern(x.tensor, (4, 6), (6, 1), 1)
    match = r"data reaches elements 1 to 24 .*it holds 24, 6 a partition"
    with pytest.raises(OutOfBoundsError, match=match):
        bench.run("reciprocal", dst=bench.empty((4, 6)), data=past)


def test_an_access_past_its_partition_is_an_error(bench):
    x = bench.tile(integers((4, 6)))
    past = AccessPattern(x.tensor, (2, 4), (6, 1), 4)
    with pytest.raises(OutOfBoundsError, match="6 a partition"):
        bench.run("reciprocal", dst=bench.empty((2, 4)), data=past)


def test_instructions_see_what_an_alias_wrote(bench):
    named = {"address": (0, 64), "aliases": True}
    wide = bench.empty((4, 4), "float32", **named)
    narrow = bench.empty((4, 8), "bfloat16", **named)
    part = bench.empty((4, 2), "float32", address=(0, 72), aliases=True)
    bench.run("memset", dst=wide, value=1.0)
    bench.run("memset", dst=part, value=2.0)
    dst = bench.empty((4, 8))
    bench.run("tensor_copy", dst=dst, src=narrow)
    # bfloat16 is the upper half of float32, which lies second.
    np.testing.assert_array_equal(bench.values(dst), [[0, 1, 0, 1, 0, 2, 0, 2]] * 4)


def test_an_aliased_tensor_at_another_partition_is_addressed_within_the_shared_bytes(bench):
    low = bench.empty((64, 4), "float32", address=(0, 0), aliases=True)
    high = bench.empty((32, 2), "float32", address=(32, 8), aliases=True)
    bench.run("memset", dst=low, value=0.0)
    x = integers((32, 2))
    bench.run("tensor_copy", dst=high, src=bench.tile(x))
    expected = np.zeros((64, 4))
    expected[32:, 2:] = x
    np.testing.assert_array_equal(bench.values(low), expected)


def test_accumulating_where_nothing_was_written_is_an_error(bench):
    a, b = bench.tile(integers((8, 4))), bench.tile(integers((8, 16)))
    dst = bench.empty((4, 16), where="psum")
    with pytest.raises(UninitializedReadError, match="nc_matmul reads dst"):
        bench.run("nc_matmul", dst=dst, stationary=a, moving=b, accumulate=True)


def _tensors():
    kind = dtype("bfloat16")
    hbm, sbuf, psum = (
        MemoryRegion.private_hbm,
        MemoryRegion.sbuf,
        MemoryRegion.psum,
    )
    return {
        "a": Tensor("a", (256, 64), kind, hbm),
        "b": Tensor("b", (256, 96), kind, hbm),
        "c": Tensor("c", (64, 96), dtype("float32"), hbm),
        "left": Tensor("left", (128, 64), kind, sbuf),
        "right": Tensor("right", (128, 32), kind, sbuf),
        "sum": Tensor("sum", (64, 32), dtype("float32"), psum),
        "out": Tensor("out", (64, 32), dtype("float32"), sbuf),
    }


def _record(recorder, t):
    def issue(nki, *operands, attributes=()):
        recorder.issue(instruction_class(nki), operands, attributes)

    whole = {name: AccessPattern(tensor) for name, tensor in t.items()}
    for n in recorder.loop(3):
        for k in recorder.loop(2):
            src = AccessPattern(t["a"], (128, 64), (64, 1), k * (128 * 64))
            issue("dma_copy", whole["left"], src)
            src = AccessPattern(t["b"], (128, 32), (96, 1), k * (128 * 96) + n * 32)
            issue("dma_copy", whole["right"], src)
            matmul = (whole["sum"], whole["left"], whole["right"])
            issue("nc_matmul", *matmul, attributes=(False, False, False, True))
        issue("tensor_copy", whole["out"], whole["sum"])
        issue("dma_copy", AccessPattern(t["c"], (64, 32), (96, 1), n * 32), whole["out"])
        issue("memset", whole["sum"], attributes=(0.0,))


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.torch)])
@pytest.mark.parametrize("release", [False, True])
def test_a_program_with_loops_computes_what_its_iterations_say(backend, release):
    if backend == "torch":
        pytest.importorskip("torch")
    core, t = catalog.chip("trn2").core, _tensors()
    recorder = Recorder(core, "matmul")
    _record(recorder, t)
    program = recorder.program.freeze()
    assert len(program) == 3 * (2 * 3 + 3)
    machine = Machine(core, backend)
    a, b = integers((256, 64)), integers((256, 96), 1)
    machine.write(t["a"], a.astype(t["a"].dtype.np))
    machine.write(t["b"], b.astype(t["b"].dtype.np))
    machine.write(t["sum"], np.zeros((64, 32), np.float32))
    FunctionalSimulator(machine).run(program, release=release)
    exact = a.T.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal(machine.read(t["c"]), exact)


def test_running_a_program_equals_executing_it_eagerly():
    core, values = catalog.chip("trn2").core, (normals((256, 64)), normals((256, 96), 1))
    results = []
    for eager in (False, True):
        t, machine = _tensors(), Machine(core)
        for name, value in zip("ab", values, strict=True):
            machine.write(t[name], value.astype(t[name].dtype.np))
        machine.write(t["sum"], np.zeros((64, 32), np.float32))
        simulator = FunctionalSimulator(machine)
        recorder = Recorder(core, "matmul", simulator if eager else None)
        _record(recorder, t)
        if not eager:
            simulator.run(recorder.program)
        results.append(machine.read(t["c"]))
    np.testing.assert_array_equal(*results)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16", "float8_e4m3", "int8"])
def test_both_back_ends_give_the_same_bits(kind):
    pytest.importorskip("torch")
    found = []
    for backend in ("numpy", "torch"):
        bench = Bench(catalog.chip("trn2").core, backend)
        x, y = bench.tile(3 * normals((33, 20)), kind), bench.tile(3 * normals((33, 20), 1), kind)
        dst = bench.empty((33, 20), kind)
        bench.run("tensor_tensor", dst=dst, data1=x, data2=y, op="multiply")
        bench.run("tensor_scalar", dst=dst, data=dst, op0="maximum", operand0=-1.5)
        rows = bench.empty((20, 33), kind)
        bench.run("dma_transpose", dst=rows, src=dst)
        found.append(bench.read(rows).view(np.uint8))
    np.testing.assert_array_equal(*found)


def test_stochastic_rounding_is_repeatable_and_unbiased():
    policy = NumericsPolicy(rounding="stochastic", seed=3)
    means = []
    for _ in range(2):
        bench = Bench(catalog.chip("trn2").core)
        bench.machine = Machine(bench.core, "numpy", policy)
        bench.simulator = FunctionalSimulator(bench.machine)
        src = bench.tile(np.full((128, 512), 1 + 2.0**-9))  # a quarter of a bfloat16 step
        dst = bench.empty((128, 512), "bfloat16")
        bench.run("tensor_copy", dst=dst, src=src)
        means.append(bench.values(dst).mean() - 1)
    assert means[0] == means[1]
    # 65536 draws of a step of 2^-7 with probability 1/4: four standard errors.
    assert means[0] == pytest.approx(2.0**-9, abs=4 * 2.0**-7 * (3 / 16 / 65536) ** 0.5)

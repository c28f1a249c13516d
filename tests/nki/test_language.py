"""nki.language: functions on tiles equal NumPy's, operators are names too."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Optional

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UninitializedReadError, UsageError
from emuron.nki.tensor import NkiTensor

RANDOM = np.random.default_rng(7)
A = RANDOM.standard_normal((4, 6)).astype(np.float32)
B = RANDOM.standard_normal((4, 6)).astype(np.float32)
POSITIVE = np.abs(A) + np.float32(0.5)
ROUGHLY = {"rtol": 2e-6, "atol": 2e-6}  # a few units in the last place of fp32


def test_an_operator_is_its_name_and_a_function():
    assert nl.add == "add"
    assert hash(nl.add) == hash("add")
    assert nl.max == nl.maximum == "maximum"
    assert nl.add.__name__ == "add"
    with pytest.raises(TypeError, match="operator of instructions"):
        nl.bypass(1)


def test_ndarray_serves_as_a_type():
    def annotated(x: nl.ndarray | None, y: Optional[nl.ndarray] = None): ...  # noqa: UP045

    assert nl.ndarray | tuple
    assert annotated.__annotations__


def test_a_tensor_is_an_instance_of_ndarray(active):
    assert isinstance(nl.ndarray((2, 2), nl.float32), nl.ndarray)
    assert isinstance(nl.ndarray((2, 2), nl.float32), NkiTensor)


def test_dtypes_and_memories_equal_their_names():
    assert nl.bfloat16 == "bfloat16"
    assert nl.hbm == "private_hbm"
    assert nl.is_on_chip(nl.psum)
    assert nl.is_hbm(nl.shared_hbm)


def test_a_memory_by_name_warns(active):
    with pytest.warns(DeprecationWarning, match="sbuf"):
        assert nl.ndarray((2, 2), nl.float32, buffer="sbuf").buffer is nl.sbuf


def test_tile_sizes_are_those_of_the_core(active):
    assert nl.tile_size.pmax == 128
    assert nl.tile_size.psum_fmax == nl.tile_size.gemm_moving_fmax == 512
    assert nl.tile_size.psum_num_banks == 8


@pytest.mark.parametrize(
    ("function", "oracle"),
    [
        (nl.add, lambda a, b: a + b),
        (nl.subtract, lambda a, b: a - b),
        (nl.multiply, lambda a, b: a * b),
        (nl.divide, lambda a, b: a / b),
        (nl.maximum, np.maximum),
        (nl.minimum, np.minimum),
        (nl.greater, lambda a, b: (a > b).astype(np.float32)),
        (nl.less_equal, lambda a, b: (a <= b).astype(np.float32)),
        (nl.mod, np.mod),
        (nl.fmod, np.fmod),
    ],
)
@pytest.mark.parametrize("right", ["tile", "column", "number", "number on the left"])
def test_binary_functions_equal_numpy(active, in_sbuf, function, oracle, right):
    x, y = in_sbuf(A), in_sbuf(B)
    if right == "tile":
        found, wanted = function(x, y), oracle(A, B)
    elif right == "column":
        found, wanted = function(x, y[:, 2:3]), oracle(A, B[:, 2:3])
    elif right == "number":
        found, wanted = function(x, 1.5), oracle(A, np.float32(1.5))
    else:
        found, wanted = function(1.5, x), oracle(np.float32(1.5), A)
    np.testing.assert_allclose(active.contents(found), wanted, **ROUGHLY)


@pytest.mark.parametrize(
    ("function", "oracle", "values"),
    [
        (nl.exp, np.exp, A),
        (nl.log, np.log, POSITIVE),
        (nl.sqrt, np.sqrt, POSITIVE),
        (nl.rsqrt, lambda a: 1 / np.sqrt(a), POSITIVE),
        (nl.reciprocal, lambda a: 1 / a, POSITIVE),
        (nl.square, np.square, A),
        (nl.negative, np.negative, A),
        (nl.abs, np.abs, A),
        (nl.sign, np.sign, A),
        (nl.tanh, np.tanh, A),
        (nl.relu, lambda a: np.maximum(a, 0), A),
        (nl.sin, np.sin, 5 * A),
        (nl.cos, np.cos, 5 * A),
        (nl.tan, np.tan, A / 3),
        (nl.floor, np.floor, 50 * A),
        (nl.ceil, np.ceil, 50 * A),
        (nl.trunc, np.trunc, 50 * A),
        (nl.logical_not, lambda a: (a == 0).astype(np.float32), np.round(A)),
        (nl.erf, np.vectorize(math.erf), A),
        (nl.copy, np.copy, A),
    ],
)
def test_unary_functions_equal_numpy(active, in_sbuf, function, oracle, values):
    values = np.asarray(values, np.float32)
    found = active.contents(function(in_sbuf(values)))
    np.testing.assert_allclose(found, oracle(values.astype(np.float64)), rtol=4e-6, atol=4e-6)


def test_floor_keeps_numbers_that_are_integers_already(active, in_sbuf):
    values = np.array([[-(2.0**30), 2.0**23 + 1, 2.5, -2.5, -0.0, math.inf, -math.inf]], np.float32)
    assert active.contents(nl.floor(in_sbuf(values))).tolist() == np.floor(values).tolist()


@pytest.mark.parametrize(
    ("function", "oracle"),
    [(nl.sum, np.sum), (nl.max, np.max), (nl.min, np.min), (nl.mean, np.mean), (nl.prod, np.prod)],
)
def test_reductions_equal_numpy(active, in_sbuf, function, oracle):
    values = RANDOM.standard_normal((3, 4, 5)).astype(np.float32)
    x = in_sbuf(values)
    np.testing.assert_allclose(active.contents(function(x, axis=2)), oracle(values, 2), **ROUGHLY)
    kept = active.contents(function(x, axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(kept, oracle(values, (1, 2), keepdims=True), **ROUGHLY)


def test_var_and_all_equal_numpy(active, in_sbuf):
    np.testing.assert_allclose(
        active.contents(nl.var(in_sbuf(A), axis=1)), A.var(1, keepdims=True), **ROUGHLY
    )
    truth = np.array([[1, 1], [0, 2]], np.float32)
    assert active.contents(nl.all(in_sbuf(truth), axis=1)).tolist() == [[1.0], [0.0]]


def test_reducing_over_partitions_is_refused(active, in_sbuf):
    with pytest.raises(UsageError, match=r"nc_transpose"):
        nl.sum(in_sbuf(A), axis=0)


def test_softmax_and_rms_norm_equal_their_formulas(active, in_sbuf):
    wide = A.astype(np.float64)
    powers = np.exp(wide - wide.max(1, keepdims=True))
    found = active.contents(nl.softmax(in_sbuf(A)))
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), **ROUGHLY)
    found = active.contents(nl.rms_norm(in_sbuf(A), in_sbuf(B), axis=1, n=6))
    wanted = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-6) * B
    np.testing.assert_allclose(found, wanted, **ROUGHLY)


@pytest.mark.parametrize("x", ["tile", "number"])
def test_where_chooses(active, in_sbuf, x):
    condition = (A > 0).astype(np.float32)
    given, value = (in_sbuf(B), B) if x == "tile" else (3.0, np.float32(3.0))
    found = active.contents(nl.where(in_sbuf(condition), given, in_sbuf(A)))
    assert found.tolist() == np.where(A > 0, value, A).tolist()


def test_mixed_dtypes_are_promoted(active, in_sbuf):
    low = in_sbuf(np.ones((2, 2), nl.bfloat16.np))
    half = in_sbuf(np.ones((2, 2), np.float16))
    number = in_sbuf(np.ones((2, 2), np.int32))
    assert nl.add(low, half).dtype == "float32"
    assert nl.add(low, number).dtype == "bfloat16"
    assert nl.add(low, low).dtype == "bfloat16"
    assert nl.add(low, low, dtype=nl.float32).dtype == "float32"


def test_matmul_and_transposes_equal_numpy(active, in_sbuf, in_hbm):
    x, y = A.T[:4, :3].copy(), B.T[:4, :3].copy()
    found = active.contents(nl.matmul(in_sbuf(x), in_sbuf(y), transpose_x=True))
    np.testing.assert_allclose(found, x.T @ y, **ROUGHLY)
    found = active.contents(nl.matmul(in_sbuf(x.T.copy()), in_sbuf(y[:4])))
    np.testing.assert_allclose(found, x.T @ y, **ROUGHLY)
    assert active.contents(nl.load_transpose2d(in_hbm(A))).tolist() == A.T.tolist()


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.shared_hbm])
def test_full_fills_tiles_and_hbm(active, buffer):
    made = nl.full((130 if buffer is nl.shared_hbm else 128, 3), 2, nl.int32, buffer)
    assert (active.contents(made) == 2).all()
    assert (active.contents(nl.zeros_like(made)) == 0).all()
    assert nl.empty_like(made, dtype=nl.float32).dtype == "float32"


def test_constants_and_identity_come_with_the_program(active):
    assert active.contents(nl.shared_identity_matrix(5, nl.float32)).tolist() == np.eye(5).tolist()
    assert active.contents(nl.shared_constant(A)).tolist() == A.tolist()


def test_broadcast_to_and_gather(active, in_sbuf):
    column = in_sbuf(A[:, :1].copy())
    assert (
        active.contents(nl.broadcast_to(column, (4, 6))).tolist()
        == np.repeat(A[:, :1], 6, 1).tolist()
    )
    index = np.array([[5, 0], [1, 1], [2, 3], [0, 0]], np.uint32)
    found = active.contents(nl.gather_flattened(in_sbuf(A), in_sbuf(index)))
    assert found.tolist() == np.take_along_axis(A, index.astype(int), 1).tolist()


def test_hbm_operands_are_refused_with_the_way_out(active, in_hbm):
    with pytest.raises(UsageError, match=r"nl\.load"):
        nl.add(in_hbm(A), 1.0)


def test_storing_from_psum_is_refused(active, in_hbm):
    with pytest.raises(UsageError, match=r"nl\.copy"):
        nl.store(in_hbm(A), nl.zeros((4, 6), nl.float32, nl.psum))


def test_device_print_shows_the_contents(active, in_sbuf, capsys):
    nl.device_print("x =", in_sbuf(np.array([[1.0, 2.0]], np.float32))[:, 1:])
    assert capsys.readouterr().out == "x = [[2.]]\n"


def test_breakpoint_stops_in_the_kernel_with_its_tiles_at_hand(monkeypatch):
    seen = []

    def hook(*args, **kwargs):
        frame = inspect.currentframe().f_back
        nl.device_print("at the stop", frame.f_locals["tile"])
        seen.append(frame.f_code.co_name)

    def kernel(a):
        made = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
        tile = nl.load(a)
        breakpoint()
        nl.store(made, tile)
        return made

    monkeypatch.setattr(sys, "breakpointhook", hook)
    nki.simulate(kernel)(A)
    assert seen == ["kernel"]


def test_device_print_of_a_part_needs_no_other(active, in_sbuf, capsys):
    tile = nl.ndarray((2, 4), nl.float32)
    nisa.memset(tile[:, 0:2], 3)
    nl.device_print("half", tile[:, 0:2])
    assert capsys.readouterr().out == "half [[3. 3.]\n [3. 3.]]\n"
    with pytest.raises(UninitializedReadError, match="the host reads the tensor"):
        nl.device_print("whole", tile)


def test_memories_are_known_by_their_old_names_too(active):
    with pytest.warns(DeprecationWarning, match="memory given as a string"):
        assert nl.is_hbm("hbm")
    assert nl.is_sbuf("sbuf")
    assert nl.is_psum(nl.psum)
    assert not nl.is_on_chip(nl.private_hbm)


def test_num_programs_takes_one_axis(active):
    with pytest.warns(DeprecationWarning, match="axes=None"):
        assert nl.num_programs(axes=None) == 1
    with pytest.raises(UsageError, match="axis 0 only"):
        nl.num_programs(axes=1)


def test_the_class_of_tensors_makes_views_of_a_storage(active, in_sbuf):
    tile = in_sbuf(A)
    made = nl.NkiTensor((4, 2, 3), nl.uint32, tile)
    assert isinstance(made, nl.NkiTensor)
    assert made.tensor is tile.tensor
    assert active.contents(made).tolist() == A.view(np.uint32).reshape(4, 2, 3).tolist()
    assert nl.NkiTensor((4, 2), nl.float32, None, nl.psum).buffer is nl.psum


@pytest.mark.parametrize("shape", [(1, 600), (1, 3, 5)])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_broadcast_to_repeats_a_partition_over_others(active, in_sbuf, shape, kind):
    row = in_sbuf(np.arange(np.prod(shape)).reshape(shape).astype(kind))
    spread = nl.broadcast_to(row, (7, *shape[1:]))
    assert (spread.shape, spread.dtype) == ((7, *shape[1:]), kind)
    expected = np.repeat(active.contents(row), 7, axis=0)
    np.testing.assert_array_equal(active.contents(spread), expected)

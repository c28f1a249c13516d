import math

import numpy as np
import pytest

from emuron.errors import UnknownNameError
from emuron.numerics import dtypes
from emuron.numerics.backend import get_backend, reduced_axes
from emuron.numerics.dtypes import DTYPES, cfp8
from emuron.numerics.matmul import sums_in_order
from emuron.numerics.rounding import NumericsPolicy

needs_ordered_sums = pytest.mark.skipif(
    not sums_in_order(), reason="BLAS on this processor does not sum over k in order"
)
STORED = [*(d for d in DTYPES.values() if d.kind != "packed"), cfp8(4, 9)]
POLICIES = [
    NumericsPolicy(),
    NumericsPolicy("stochastic", seed=3),
    NumericsPolicy(e4m3fn_overflow="saturate", nan_to_int=-5),
]
BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "maximum": max,
    "minimum": min,
    "power": lambda a, b: abs(a) ** b,
    "fmod": math.fmod,
}
UNARY = {
    "abs": abs,
    "negative": lambda x: -x,
    "sign": lambda x: math.copysign(1, x),
    "floor": math.floor,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "exp": math.exp,
    "log": math.log,
    "sin": math.sin,
    "cos": math.cos,
    "arctan": math.atan,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "erf": math.erf,
}
NEEDS_POSITIVE = {"sqrt", "rsqrt", "log"}
# Units in the last place: correctly rounded, two rounded steps, or what the libraries promise.
ALLOWED_ULP = {"exp": 4, "log": 4, "tanh": 4, "power": 4, "sigmoid": 4, "rsqrt": 2}
EXACT = {"abs", "negative", "sign", "floor", "sqrt", "reciprocal", "maximum", "minimum"}
EXACT |= {"add", "subtract", "multiply", "divide", "fmod"}


@pytest.fixture(params=["numpy", pytest.param("torch", marks=pytest.mark.torch)])
def backend(request):
    if request.param == "torch":
        pytest.importorskip("torch")
    return get_backend(request.param)


@pytest.fixture
def torch_backend():
    pytest.importorskip("torch")
    return get_backend("torch")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(backend, name, *arrays, **options):
    arrays = [backend.asarray(a) if isinstance(a, np.ndarray) else a for a in arrays]
    return backend.numpy(getattr(backend, name)(*arrays, **options))


def ulps(got, exact):
    exact = np.asarray(exact, np.float64)
    return np.max(np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32)))


def test_an_unknown_back_end_is_named():
    with pytest.raises(UnknownNameError, match="numpy"):
        get_backend("numpi")


@pytest.mark.parametrize("name", BINARY)
def test_binary_operations_match_the_mathematics(backend, name):
    a, b = normal(37, 21), normal(37, 21, seed=1)
    if name == "power":
        a = np.abs(a)
    pairs = zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True)
    exact = [BINARY[name](x, y) for x, y in pairs]
    got = run(backend, name, a, b).reshape(-1)
    if name in EXACT:
        assert np.array_equal(got, np.array(exact).astype(np.float32))
    else:
        assert ulps(got, exact) <= ALLOWED_ULP[name]
    assert run(backend, name, a, 2.0).shape == a.shape


@pytest.mark.parametrize("name", UNARY)
def test_unary_operations_match_the_mathematics(backend, name):
    x = normal(37, 21, seed=2) * 3
    if name in NEEDS_POSITIVE:
        x = np.abs(x)
    exact = [UNARY[name](value) for value in x.reshape(-1).tolist()]
    got = run(backend, name, x).reshape(-1)
    if name in EXACT:
        assert np.array_equal(got, np.array(exact).astype(np.float32))
    else:
        assert ulps(got, exact) <= ALLOWED_ULP.get(name, 2)


@pytest.mark.parametrize("name", UNARY)
def test_an_element_has_the_same_bits_in_a_tile_as_in_the_whole(backend, name):
    x = np.abs(normal(40, 300, seed=3))
    whole = run(backend, name, x)
    for tile in (np.s_[:, :1], np.s_[3:8, 5:22], np.s_[::3, ::2], np.s_[7, 13:50]):
        assert np.array_equal(run(backend, name, x[tile]), whole[tile])
    assert np.array_equal(run(backend, name, x.T), whole.T)


def test_special_values_need_no_warning(backend):
    x = np.float32([0, -0.0, np.inf, -np.inf, np.nan, -1, 1e38])
    for name in (*UNARY, "add", "divide", "power", "multiply"):
        run(backend, name, *([x] if name in UNARY else [x, x[::-1].copy()]))
    assert np.isnan(run(backend, "sign", x)[4])
    assert np.isnan(run(backend, "maximum", x, np.zeros_like(x))[4])
    assert run(backend, "sigmoid", x)[2:4].tolist() == [1, 0]


def test_comparisons_give_ones_and_zeros(backend):
    a, b = np.float32([1, 2, 3, np.nan]), np.float32([2, 2, 2, np.nan])
    expected = {
        "eq": [0, 1, 0, 0],
        "ne": [1, 0, 1, 1],
        "lt": [1, 0, 0, 0],
        "le": [1, 1, 0, 0],
        "gt": [0, 0, 1, 0],
        "ge": [0, 1, 1, 0],
    }
    for op, ones in expected.items():
        got = backend.numpy(backend.compare(op, backend.asarray(a), backend.asarray(b)))
        assert got.tolist() == ones
        assert got.dtype == np.float32


def test_where_takes_any_number_but_zero_for_true(backend):
    a, b = normal(4), normal(4, seed=1)
    got = run(backend, "where", np.float32([0, 1, -2, np.nan]), a, b)
    assert got.tolist() == [b[0], a[1], a[2], a[3]]


@pytest.mark.parametrize("kind", ["int8", "int32", "uint8", "uint16", "uint32"])
def test_bit_operations_match_python_integers(backend, kind):
    random = np.random.default_rng(4)
    info = np.iinfo(kind)
    a, b = random.integers(info.min, info.max, (2, 50), endpoint=True).astype(kind)
    shifts = random.integers(0, info.bits, 50).astype(kind)
    wrap = np.dtype(kind).type

    def expected(operation, other):
        pairs = zip(a.tolist(), other.tolist(), strict=True)
        return [
            int(
                np.array(operation(x, y) & ((1 << info.bits) - 1))
                .astype(f"u{wrap().itemsize}")
                .astype(kind)
            )
            for x, y in pairs
        ]

    assert run(backend, "bitwise_and", a, b).tolist() == expected(lambda x, y: x & y, b)
    assert run(backend, "bitwise_or", a, b).tolist() == expected(lambda x, y: x | y, b)
    assert run(backend, "bitwise_xor", a, b).tolist() == expected(lambda x, y: x ^ y, b)
    assert run(backend, "invert", a).tolist() == expected(lambda x, _: ~x, b)
    assert run(backend, "left_shift", a, shifts).tolist() == expected(lambda x, y: x << y, shifts)
    assert run(backend, "right_shift", a, shifts).tolist() == expected(lambda x, y: x >> y, shifts)


def test_shifts_by_the_width_give_zero(backend):
    a = np.array([-1, 5], np.int32)
    assert run(backend, "left_shift", a, np.array([32, 40], np.int32)).tolist() == [0, 0]
    assert run(backend, "right_shift", a, np.array([32, 40], np.int32)).tolist() == [-1, 0]


@pytest.mark.parametrize("axis", [0, 1, -1, None, (0, 2), (1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_reductions_match_float64(backend, name, axis, keepdims):
    x = normal(5, 7, 6, seed=5)
    if name == "prod":
        x = np.exp(x / 8)
    got = run(backend, name, x, axis=axis, keepdims=keepdims)
    exact = getattr(x.astype(np.float64), name)(axis=axis, keepdims=keepdims)
    assert got.shape == exact.shape
    assert got.dtype == np.float32
    # 210 terms: a float32 sum or product is within 210 half units of its absolute terms.
    scale = np.abs(x.astype(np.float64)).sum() if name == "sum" else np.abs(exact)
    assert (np.abs(got - exact) <= 210 * 2.0**-24 * scale).all()


@pytest.mark.parametrize("name", ["sum", "prod"])
@pytest.mark.parametrize("terms", [1, 3, 8, 9, 100, 128, 129, 512, 1000])
def test_a_row_sums_alike_alone_in_a_tile_and_along_any_axis(backend, name, terms):
    x = normal(64, terms, seed=6)
    whole = run(backend, name, x, axis=1)
    for rows in (1, 2, 3, 17):
        assert np.array_equal(run(backend, name, x[:rows], axis=1), whole[:rows])
    assert np.array_equal(run(backend, name, x.T, axis=0), whole)
    assert np.array_equal(run(backend, name, x.T.copy(), axis=0), whole)
    assert np.array_equal(run(backend, name, x.reshape(8, 8, terms), axis=2), whole.reshape(8, 8))
    assert run(backend, name, x[5], axis=0) == whole[5]


def test_scans_run_in_float32_step_by_step(backend):
    x = normal(3, 40, seed=7)
    total, expected = np.zeros(3, np.float32), []
    for step in range(40):
        total = total + x[:, step]
        expected.append(total)
    assert np.array_equal(run(backend, "scan", "add", x), np.stack(expected, 1))
    assert np.array_equal(run(backend, "scan", "maximum", x, axis=0)[2], x.max(0))


@pytest.mark.parametrize("to", STORED)
def test_storage_goes_out_and_comes_back(backend, to):
    x = backend.asarray(np.float32([[0, 1, 2, 3]]))
    stored = backend.round_to(x, to)
    host = backend.numpy(stored)
    assert host.dtype.itemsize == to.itemsize
    back = backend.numpy(backend.widen(backend.asarray(host), to))
    expected = [[0, 1, 1, 1]] if to.kind == "bool" else [[0, 1, 2, 3]]
    if to == dtypes.float8_e8m0fnu:
        expected = [[np.nan, 1, 2, 4]]
    assert np.array_equal(back, expected, equal_nan=True)
    assert np.array_equal(backend.numpy(backend.widen(backend.full((3,), 1, to), to)), [1, 1, 1])
    assert backend.empty((2, 3), to).shape == (2, 3)
    assert not backend.numpy(backend.zeros((2, 3), to)).view(np.uint8).any()


def test_bits_are_seen_as_another_type(backend):
    x = backend.asarray(np.float32([[1.0, -2.0]]))
    assert backend.numpy(backend.view_bits(x, dtypes.int32)).tolist() == [[0x3F800000, -(2**30)]]
    halves = backend.view_bits(x, dtypes.bfloat16)
    assert backend.numpy(backend.widen(halves, dtypes.bfloat16)).tolist() == [[0, 1, 0, -2]]


def test_movement_matches_numpy(backend):
    x = normal(2, 3, 4)
    indices = np.array([[2, 0], [1, 1]], np.int32)
    assert np.array_equal(run(backend, "transpose", x, (2, 0, 1)), x.transpose(2, 0, 1))
    assert np.array_equal(run(backend, "reshape", x, (6, 4)), x.reshape(6, 4))
    assert np.array_equal(run(backend, "take", x, indices, 1), x[:, indices])
    assert np.array_equal(run(backend, "broadcast_to", x[0, 0], (3, 4)), x[[0, 0, 0], 0])
    parts = [backend.asarray(x), backend.asarray(x)]
    assert np.array_equal(backend.numpy(backend.concatenate(parts, axis=2)), np.dstack([x, x]))
    target = backend.zeros((2, 3, 4), dtypes.float32)
    backend.copyto(target, backend.asarray(x[0]))
    assert np.array_equal(backend.numpy(target), np.stack([x[0], x[0]]))


def test_a_copy_over_its_own_source_reads_before_it_writes(backend):
    array = backend.asarray(np.arange(12, dtype=np.float32).reshape(2, 6))
    backend.copyto(array[:, 1:], array[:, :-1])
    assert backend.numpy(array).tolist() == [[0, 0, 1, 2, 3, 4], [6, 6, 7, 8, 9, 10]]


@pytest.mark.parametrize("axis", [None, -1, (1, 0)])
def test_reduced_axes_are_counted_from_the_front(axis):
    assert reduced_axes(axis, 2) in ((0, 1), (1,))


# The two back ends against each other


@pytest.mark.torch
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("to", STORED)
def test_torch_rounds_and_widens_as_numpy_does(torch_backend, to, policy):
    reference = get_backend("numpy")
    x = np.random.default_rng(8).integers(0, 1 << 32, (500, 400), dtype=np.uint32).view(np.float32)
    x[0, :6] = [0, -0.0, np.inf, -np.inf, 2.0**31, -(2.0**63)]
    expected = reference.round_to(x, to, policy, 7)
    stored = torch_backend.round_to(torch_backend.asarray(x), to, policy, 7)
    bits = f"u{to.itemsize}"
    known = ~np.isnan(x) if to.is_float else np.full(x.shape, True)
    assert np.array_equal(torch_backend.numpy(stored).view(bits)[known], expected.view(bits)[known])
    widened = torch_backend.numpy(torch_backend.widen(stored, to))
    assert np.array_equal(widened, reference.widen(expected, to), equal_nan=True)


@needs_ordered_sums
@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_torch_multiplies_as_numpy_does(torch_backend, kind):
    reference = get_backend("numpy")
    for m, k, n in [(1, 64, 512), (3, 300, 5), (128, 128, 512), (40, 700, 1), (5, 17, 33)]:
        a, b = normal(m, k, seed=9), normal(k, n, seed=10)
        if kind == "bfloat16":
            a, b = (
                reference.widen(reference.round_to(x, dtypes.bfloat16), dtypes.bfloat16)
                for x in (a, b)
            )
        for name in ("matmul_chunked", "matmul") if k <= 128 else ("matmul_chunked",):
            expected = run(reference, name, a, b)
            assert np.array_equal(run(torch_backend, name, a, b), expected)
            assert np.array_equal(run(torch_backend, name, a.T.copy().T, b.T.copy().T), expected)


@needs_ordered_sums
@pytest.mark.torch
def test_torch_multiplies_batches_as_numpy_does(torch_backend):
    a, b = normal(3, 4, 1, 200, seed=11), normal(4, 200, 33, seed=12)
    expected = run(get_backend("numpy"), "matmul_chunked", a, b)
    assert np.array_equal(run(torch_backend, "matmul_chunked", a, b), expected)


@needs_ordered_sums
@pytest.mark.torch
@pytest.mark.parametrize(("k", "n"), [(1, 16), (128, 33), (300, 512), (1000, 100), (70, 5)])
def test_a_row_of_exact_products_has_the_bits_of_the_fused_sum(torch_backend, k, n):
    reference = get_backend("numpy")
    a, wide = (
        reference.widen(reference.round_to(x, dtypes.bfloat16), dtypes.bfloat16)
        for x in (normal(1, k, seed=13), normal(k, n + 3, seed=14))
    )
    for b in (wide[:, :n].copy(), wide[:, 3:], wide[:, :n].T.copy().T):
        expected = run(reference, "matmul_chunked", a, b)
        assert np.array_equal(run(torch_backend, "matmul_chunked", a, b, exact=True), expected)


@needs_ordered_sums
@pytest.mark.torch
@pytest.mark.parametrize("lead", [(), (1, 1), (2, 3)])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 60, 40), (4, 128, 16), (64, 100, 49), (33, 7, 5)])
def test_a_product_is_summed_before_it_is_added(torch_backend, lead, m, k, n):
    a, b = normal(*lead, m, k, seed=15), normal(*lead, k, n, seed=16)
    total = normal(*lead, m, n, seed=17)
    expected = total + run(get_backend("numpy"), "matmul", a, b)
    for backend in (get_backend("numpy"), torch_backend):
        found = backend.asarray(total.copy())
        backend.matmul_add(found, backend.asarray(a), backend.asarray(b))
        assert np.array_equal(backend.numpy(found), expected)


@pytest.mark.torch
def test_torch_gives_back_the_number_of_threads(torch_backend):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(torch_backend, "matmul", normal(8, 8), normal(8, 8))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float32"])
@pytest.mark.parametrize(("rows", "columns", "pitch"), [(128, 128, 512), (64, 128, 160), (3, 5, 7)])
def test_copying_a_transposed_tile_moves_every_element(dtype, rows, columns, pitch):
    whole = (
        (np.arange(rows * pitch) % 251)
        .astype(np.uint8)
        .reshape(rows, pitch)
        .astype(DTYPES[dtype].np)
    )
    tile = whole[:, pitch - columns :]
    destination = np.zeros((columns, rows + 1), DTYPES[dtype].np)
    get_backend("numpy").copyto(destination[:, 1:], tile.T)
    for row in range(rows):
        for column in range(columns):
            assert destination[column, row + 1] == tile[row, column]
    assert (destination[:, 0] == 0).all()

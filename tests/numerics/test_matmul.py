import numpy as np
import pytest

from emuron.numerics.dtypes import bfloat16
from emuron.numerics.matmul import K_CHUNK, matmul, matmul_chunked, sums_in_order
from emuron.numerics.rounding import round_to, widen

needs_ordered_sums = pytest.mark.skipif(
    not sums_in_order(), reason="BLAS on this processor does not sum over k in order"
)
TILE_ROWS, TILE_COLUMNS = 128, 512


def operand(shape, kind, seed):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return widen(round_to(x, bfloat16), bfloat16) if kind == "bfloat16" else x


def fused_in_order(a, b):
    """Return a @ b by one fused multiply-add over k after another, chunk by chunk of 128."""
    total = None
    for start in range(0, a.shape[1], K_CHUNK):
        part = np.zeros((a.shape[0], b.shape[1]), np.float32)
        for k in range(start, min(start + K_CHUNK, a.shape[1])):
            # Products of float32 are exact in float64: only the sum rounds.
            part = (a[:, k : k + 1].astype(np.float64) * b[k] + part).astype(np.float32)
        total = part if total is None else total + part
    return total


def tile_by_tile(a, b, rows, columns):
    """Return a @ b as instructions make it: tiles that add in place, chunk after chunk."""
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    for row in range(0, a.shape[0], rows):
        for column in range(0, b.shape[1], columns):
            psum = None
            for k in range(0, a.shape[1], K_CHUNK):
                # The stationary operand lies transposed, as [K, M].
                stationary = np.ascontiguousarray(a[row : row + rows, k : k + K_CHUNK].T)
                moving = np.ascontiguousarray(b[k : k + K_CHUNK, column : column + columns])
                part = matmul(stationary.T, moving)
                psum = part if psum is None else psum + part
            out[row : row + rows, column : column + columns] = psum
    return out


SHAPES = [
    *((1, 1, 1), (1, 64, 32), (2, 3, 5), (32, 64, 32), (7, 127, 9), (1, 300, 515)),
    *((300, 129, 1), (130, 256, 513), (129, 400, 100), (257, 384, 1030), (16, 768, 17)),
]


@needs_ordered_sums
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_product_is_a_fused_sum_in_the_order_of_k(shape, kind):
    m, k, n = shape
    a, b = operand((m, k), kind, 0), operand((k, n), kind, 1)
    assert np.array_equal(matmul_chunked(a, b), fused_in_order(a, b))


@needs_ordered_sums
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", [(TILE_ROWS, TILE_COLUMNS), (32, 32), (1, 512), (128, 1), (5, 3)])
def test_tiles_give_the_bits_of_the_whole(shape, kind, tile):
    m, k, n = shape
    if m * n > 40_000 and min(tile) < 32:
        m, n = 40, 70
    a, b = operand((m, k), kind, 2), operand((k, n), kind, 3)
    assert np.array_equal(matmul_chunked(a, b), tile_by_tile(a, b, *tile))


@pytest.mark.parametrize("shape", [(33, 300, 70), (1, 200, 40), (40, 200, 1)])
def test_without_ordered_sums_the_stated_bound_holds(shape):
    m, k, n = shape
    a, b = operand((m, k), "float32", 4), operand((k, n), "float32", 5)
    bound = 2 * k * 2.0**-24 * (np.abs(a).astype(np.float64) @ np.abs(b))
    assert (np.abs(matmul_chunked(a, b).astype(np.float64) - fused_in_order(a, b)) <= bound).all()


@needs_ordered_sums
def test_layouts_do_not_change_a_bit():
    a, b = operand((50, 200), "float32", 6), operand((200, 90), "float32", 7)
    expected = matmul_chunked(a, b)
    wide = np.zeros((100, 400), np.float32)
    wide[::2, ::2] = a
    for left in (np.asfortranarray(a), wide[::2, ::2], a[::-1][::-1]):
        for right in (np.asfortranarray(b), b[:, ::-1][:, ::-1]):
            assert np.array_equal(matmul_chunked(left, right), expected)


@needs_ordered_sums
def test_a_product_with_its_own_transpose_is_no_special_case():
    a = operand((60, 100), "float32", 8)
    assert np.array_equal(matmul_chunked(a, a.T), fused_in_order(a, a.T))


@needs_ordered_sums
@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4, 1, 200), (4, 200, 33)), ((2, 5, 130), (130, 7)), ((6, 130), (3, 130, 20))],
)
def test_batches_are_products_one_by_one(left, right):
    a, b = operand(left, "float32", 9), operand(right, "float32", 10)
    lead = np.broadcast_shapes(left[:-2], right[:-2])
    got = matmul_chunked(a, b)
    all_a = np.broadcast_to(a, (*lead, *left[-2:]))
    all_b = np.broadcast_to(b, (*lead, *right[-2:]))
    assert got.shape == (*lead, left[-2], right[-1])
    for index in np.ndindex(*lead):
        assert np.array_equal(got[index], fused_in_order(all_a[index], all_b[index]))


@needs_ordered_sums
def test_large_results_are_cut_into_blocks_without_a_trace():
    a, b = operand((513, 130), "float32", 11), operand((130, 2100), "float32", 12)
    assert np.array_equal(matmul_chunked(a, b), fused_in_order(a, b))


@pytest.mark.parametrize(
    ("left", "right"), [((0, 5), (5, 3)), ((2, 0), (0, 3)), ((2, 5), (5, 0)), ((0, 2, 5), (5, 3))]
)
def test_empty_operands_give_zeros(left, right):
    got = matmul_chunked(np.ones(left, np.float32), np.ones(right, np.float32))
    assert np.array_equal(got, np.zeros((*left[:-1], right[-1])))


@pytest.mark.parametrize("shape", [(1, 200, 33), (40, 300, 50), (3, 7, 128, 20)])
def test_out_receives_the_result(shape):
    *lead, k, n = shape
    a, b = operand((*lead, k), "float32", 13), operand((k, n), "float32", 14)
    for out in (np.empty((*lead, n), np.float32), np.empty((*lead, 2 * n), np.float32)[..., ::2]):
        assert matmul_chunked(a, b, out=out) is out
        assert np.array_equal(out, matmul_chunked(a, b))


def test_infinities_reach_only_their_rows_and_columns():
    a, b = np.ones((3, 5), np.float32), np.ones((5, 17), np.float32)
    a[1, 2] = np.inf
    assert np.isinf(matmul_chunked(a, b)[1]).all()
    assert (matmul_chunked(a, b)[[0, 2]] == 5).all()

"""Attention of one token on two cores: cache updates, partial softmax, exchange by sendrecv."""

from __future__ import annotations

import math

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Pool(nl.NKIObject):
    """Bytes of SBUF handed out from both ends: a stack below, a heap above."""

    def __init__(self, size: int):
        self.low, self.high, self.marks, self.made = 0, size, [], 0

    def open(self):
        self.marks.append(self.low)

    def close(self):
        self.low = self.marks.pop()

    def _tensor(self, shape, dtype, byte, name):
        self.made += 1
        return nl.ndarray(
            shape, dtype, buffer=nl.sbuf, name=f"{name}_{self.made}", address=(0, byte)
        )

    def stack(self, shape, dtype, name="stack"):
        byte = self.low
        self.low += -(-math.prod(shape[1:]) * width_of(dtype) // 4) * 4
        assert self.low <= self.high
        return self._tensor(shape, dtype, byte, name)

    def heap(self, shape, dtype, name="heap"):
        self.high -= -(-math.prod(shape[1:]) * width_of(dtype) // 4) * 4
        assert self.low <= self.high
        return self._tensor(shape, dtype, self.high, name)


def width_of(dtype):
    return {nl.float32: 4, nl.int32: 4, nl.bfloat16: 2, nl.float16: 2, nl.uint8: 1}[dtype]


def exchange(src, dst, pipe: int, **options):
    """Send a tile to the other core, and receive one."""
    other = 1 - nl.program_id(0)
    nisa.sendrecv(
        src=src, dst=dst, send_to_rank=other, recv_from_rank=other, pipe_id=pipe, **options
    )


def extend_caches(pool, caches, rows, where):
    """Core 0 writes the new rows into the caches; both go on when that is done."""
    if nl.program_id(0) == 0:
        for cache, new in zip(caches, rows, strict=True):
            d = cache.shape[1]
            row = pool.stack((1, d), cache.dtype, "row")
            nisa.dma_copy(row, new)
            nisa.dma_copy(dst=cache.ap([[d, 1], [1, d]], 0, scalar_offset=where), src=row)
    if nl.num_programs(0) > 1:
        nisa.core_barrier(caches[0], cores=(0, 1))
        nisa.core_barrier(data=caches[1], cores=[0, 1])


def masked_row(pool, query, keys, where):
    """The scores of the core's part of the cache; those of later positions lose 1e30."""
    d, part = keys.shape
    scores_psum = nl.ndarray((1, part), nl.float32, buffer=nl.psum, address=(0, 0 * 2048))
    nisa.nc_matmul(scores_psum, query, keys)
    scores = pool.stack((1, part), nl.float32, "scores")
    nisa.activation(dst=scores, op=nl.copy, data=scores_psum, scale=1.0 / math.sqrt(d))
    index = pool.stack((1, part), nl.float32, "index")
    start = nl.program_id(0) * part
    nisa.iota(dst=index, pattern=[[1, part]], offset=start, channel_multiplier=0)
    limit = pool.stack((1, 1), nl.float32, "limit")
    nisa.tensor_copy(limit, where)
    nisa.tensor_scalar(index, index, nl.greater, limit, op1=nl.multiply, operand1=-1e30)
    nisa.tensor_tensor(scores, scores, index, op=nl.add)
    return scores


def exponentials(pool, scores, dtype):
    """exp(scores - max over both cores) as a column, and their sum on this core."""
    part = scores.shape[1]
    largest = pool.heap((1, 1), nl.float32, "largest")
    nisa.tensor_reduce(dst=largest, op=nl.maximum, data=scores, axis=1)
    if nl.num_programs(0) > 1:
        theirs = pool.stack((1, 1), nl.float32, "theirs")
        exchange(largest, theirs, 0, use_gpsimd_dma=True)
        nisa.tensor_tensor(largest, largest, theirs, nl.maximum)
    negative = pool.stack((1, 1), nl.float32, "negative")
    nisa.tensor_scalar(negative, largest, nl.multiply, -1.0)
    weights = pool.stack((1, part), nl.float32, "weights")
    total = pool.heap((1, 1), nl.float32, "total")
    nisa.activation_reduce(weights, nl.exp, scores, nl.add, total, bias=negative)
    column_psum = nl.ndarray((part, 1), nl.float32, buffer=nl.psum, address=(0, 1 * 2048))
    nisa.nc_transpose(column_psum, weights)
    column = pool.heap((part, 1), dtype, "column")
    nisa.tensor_copy(column, column_psum)
    return column, total


def weighted(pool, column, total, values, dtype):
    """The values weighted by a column, added over both cores, over the sum of the weights."""
    d = values.shape[1]
    out_psum = nl.ndarray((1, d), nl.float32, buffer=nl.psum, address=(0, 2 * 2048))
    nisa.nc_matmul(out_psum, column, values)
    partial = pool.stack((1, d + 1), nl.float32, "partial")
    nisa.tensor_copy(partial[:, 0:d], out_psum)
    nisa.tensor_copy(partial[:, d : d + 1], total)
    if nl.num_programs(0) > 1:
        received = pool.stack((1, d + 1), nl.float32, "received")
        exchange(partial, received, 1)
        nisa.tensor_tensor(dst=partial, data1=partial, data2=received, op=nl.add)
    inverse = pool.stack((1, 1), nl.float32, "inverse")
    nisa.reciprocal(dst=inverse, data=partial[:, d : d + 1])
    result = pool.stack((1, d), dtype, "result")
    nisa.tensor_scalar(result, partial[:, 0:d], nl.multiply, inverse)
    return result


def decode(q, k_cache, v_cache, new_k, new_v, position):
    """softmax(q K) V for one token; each core takes half of the cache, core 0 writes the result.

    q, new_k, new_v [1, D]; k_cache, v_cache [S, D], updated in place; position [1, 1].
    """
    s, d = k_cache.shape
    part = s // nl.num_programs(0)
    mine = nl.ds(nl.program_id(0) * part, part)
    pool = Pool(nl.tile_size.total_available_sbuf_size)
    where = pool.heap((1, 1), nl.int32, "where")
    nisa.dma_copy(where, position)
    extend_caches(pool, (k_cache, v_cache), (new_k, new_v), where)
    keys = pool.heap((d, part), k_cache.dtype, "keys")
    nisa.dma_transpose(dst=keys, src=k_cache[mine, :])
    values = pool.heap((part, d), v_cache.dtype, "values")
    nisa.dma_copy(values, v_cache[mine, :])
    query = pool.heap((d, 1), q.dtype, "query")
    nisa.dma_copy(query, q.reshape((d, 1)))
    pool.open()
    scores = masked_row(pool, query, keys, where)
    column, total = exponentials(pool, scores, v_cache.dtype)
    pool.close()
    pool.open()
    result = weighted(pool, column, total, values, q.dtype)
    out = nl.ndarray((1, d), q.dtype, buffer=nl.shared_hbm, name="attention_out")
    if nl.program_id(0) == 0:
        nisa.dma_copy(dst=out, src=result)
    pool.close()
    return out, k_cache, v_cache


@pytest.mark.parametrize(("on", "lnc"), [("trn1", 1), ("trn2", 1), ("trn2", 2), ("trn3", 2)])
def test_a_token_attends_to_the_cache_that_it_extends(both_ways, on, lnc):
    random = np.random.default_rng(lnc)
    s, d, at = 64, 32, 41
    q, new_k, new_v = (random.standard_normal((1, d)).astype("bfloat16") for _ in range(3))
    keys, values = (random.standard_normal((s, d)).astype("bfloat16") for _ in range(2))
    old = keys.copy(), values.copy()
    got, k_out, v_out = both_ways(
        decode, q, keys, values, new_k, new_v, np.array([[at]], np.int32), on=on, lnc=lnc
    )
    k_all, v_all = (
        np.concatenate([before[:at], new, before[at + 1 :]])
        for before, new in zip(old, (new_k, new_v), strict=True)
    )
    assert k_out.tolist() == k_all.tolist() == keys.tolist()
    assert v_out.tolist() == v_all.tolist() == values.tolist()
    scores = [float(q[0].astype(float) @ k_all[i].astype(float)) / d**0.5 for i in range(at + 1)]
    weights = np.exp(np.array(scores) - max(scores))
    wanted = (weights / weights.sum()) @ v_all[: at + 1].astype(np.float64)
    np.testing.assert_allclose(got[0].astype(float), wanted, atol=0.02)


def rotating(x, scale):
    """Buffers that take turns at the same bytes: what is written last is what is read."""
    n, width = x.shape
    out = nl.ndarray((n, width), x.dtype, buffer=nl.shared_hbm)
    for i in range(n // 32):
        slot = i % 2
        at = (0, 4096 + slot * width * 4)
        tile = nl.ndarray((32, width), nl.float32, nl.sbuf, f"t{i}", at)
        nisa.dma_copy(tile, x[i * 32 : (i + 1) * 32, :])
        nisa.activation(tile, nl.square, tile, scale=scale)
        # The same bytes, as half as many numbers of twice the width.
        halves = nl.ndarray((32, 2 * width), nl.bfloat16, buffer=nl.sbuf, address=at)
        odd = nl.ndarray((32, width), nl.bfloat16)
        nisa.tensor_copy(dst=odd, src=halves.ap([[2 * width, 32], [2, width]], offset=1))
        again = nl.ndarray((32, width), nl.float32)
        nisa.tensor_copy(again, odd)
        nisa.dma_copy(out[i * 32 : (i + 1) * 32, :], again)
    return out


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_tensors_at_one_address_share_their_bytes(both_ways, on):
    x = np.random.default_rng(0).standard_normal((128, 16)).astype(np.float32)
    got = both_ways(rotating, x, 2.0, on=on)
    squared = np.float32(4) * (x * x)
    upper = (squared.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    np.testing.assert_allclose(got, upper, rtol=1e-2)
    assert (got.view(np.uint32) & 0xFFFF == 0).all()


def masked_scores(q, k, lengths):
    """range_select with a bound of each row; row sums through the accumulator registers."""
    _, rows = q.shape
    n = k.shape[1]
    stationary, moving = nl.load(q), nl.load(k)
    scores = nl.ndarray((rows, n), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(scores, stationary, moving)
    bound = nl.ndarray((rows, 1), nl.float32)
    nisa.dma_copy(bound, lengths)
    low = nl.zeros((rows, 1), nl.float32)
    kept = nl.ndarray((rows, n), nl.float32)
    top = nl.ndarray((rows, 1), nl.float32)
    nisa.range_select(
        kept, on_true_tile=scores, comp_op0=nl.greater_equal, comp_op1=nl.less, bound0=low,
        bound1=bound, reduce_cmd=nisa.reduce_cmd.reset_reduce, reduce_res=top,
        reduce_op=nl.maximum, range_start=0, on_false_value=-3.4028235e38,
    )  # fmt: skip
    out = nl.ndarray((rows, n + 1), nl.float32, buffer=nl.shared_hbm)
    nisa.dma_copy(out[:, 0:n], kept)
    nisa.dma_copy(out[:, n : n + 1], top)
    return out


@pytest.mark.parametrize("on", ["trn2", "trn3"])
def test_each_row_keeps_its_own_range(both_ways, on):
    random = np.random.default_rng(6)
    q, k = random.integers(-4, 5, (16, 8)), random.integers(-4, 5, (16, 24))
    lengths = random.integers(1, 25, (8, 1)).astype(np.float32)
    got = both_ways(masked_scores, q.astype(np.float32), k.astype(np.float32), lengths, on=on)
    lowest = np.finfo(np.float32).min
    for row in range(8):
        length = int(lengths[row, 0])
        wanted = [float(q[:, row] @ k[:, j]) for j in range(length)] + [lowest] * (24 - length)
        assert got[row].tolist() == [*wanted, max(wanted)]

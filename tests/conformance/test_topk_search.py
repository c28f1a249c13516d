"""Top-k, routing and compaction kernels: eight at a time, positions by gathers, nonzero counts."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def topk(x, k: int):
    """Values and indices of the k largest of each row, in descending order."""
    rows, n = x.shape
    values_out = nl.ndarray((rows, k), x.dtype, buffer=nl.shared_hbm)
    index_out = nl.ndarray((rows, k), nl.uint32, buffer=nl.shared_hbm)
    data = nl.ndarray((rows, n), nl.float32)
    nisa.dma_copy(dst=data, src=x)
    values = nl.ndarray((rows, k), nl.float32, name="values")
    places = nl.ndarray((rows, k), nl.uint32, name="places")
    for step in range(k // 8):
        eight = nl.ds(step * 8, 8)
        nisa.max8(dst=values[:, eight], src=data)
        nisa.nc_find_index8(dst=places[:, eight], data=data, vals=values[:, eight])
        if step + 1 < k // 8:
            nisa.nc_match_replace8(
                dst=data, data=data, vals=values[:, eight], imm=float("-inf"), dst_idx=None
            )
    nisa.dma_copy(dst=index_out, src=places)
    if x.dtype != nl.float32:
        narrow = nl.ndarray((rows, k), x.dtype)
        nisa.tensor_copy(dst=narrow, src=values)
        values = narrow
    nisa.dma_copy(dst=values_out, src=values)
    return values_out, index_out


@pytest.mark.parametrize(("dtype", "k"), [(np.float32, 8), (np.float32, 24), ("bfloat16", 16)])
@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_eight_at_a_time_gives_the_largest(both_ways, dtype, k, on):
    random = np.random.default_rng(k)
    x = np.stack([random.permutation(64) for _ in range(5)]).astype(dtype)
    values, places = both_ways(topk, x, k, on=on)
    for row in range(5):
        order = sorted(range(64), key=lambda i: -float(x[row, i]))[:k]
        assert places[row].tolist() == order
        assert [float(v) for v in values[row]] == [float(x[row, i]) for i in order]


def cascade(x, k: int):
    """Top k in two stages: of each of two halves on its own partition, then of the survivors."""
    n = x.shape[1]
    half = n // 2
    parts = nl.ndarray((2, half), nl.float32)
    nisa.dma_copy(parts, x.reshape((2, half)))
    best = nl.ndarray((2, k), nl.float32)
    spot = nl.ndarray((2, k), nl.uint32)
    for step in range(k // 8):
        at = slice(step * 8, step * 8 + 8)
        nisa.max8(dst=best[:, at], src=parts)
        nisa.nc_match_replace8(
            dst=parts, data=parts, vals=best[:, at], imm=-3.0e38, dst_idx=spot[:, at]
        )
    start = nl.ndarray((2, 1), nl.int32)
    nisa.iota(start, [[0, 1]], 0, half)
    moved = nl.ndarray((2, k), nl.uint32)
    nisa.tensor_tensor(moved, spot, start.ap([[1, 2], [0, k]], 0), nl.add)
    flat_best = nl.ndarray((1, 2 * k), nl.float32)
    flat_spot = nl.ndarray((1, 2 * k), nl.uint32)
    for p in range(2):
        nisa.dma_copy(flat_best[0:1, p * k : (p + 1) * k], best[p : p + 1, :])
        nisa.dma_copy(flat_spot[0:1, p * k : (p + 1) * k], moved[p : p + 1, :])
    last = nl.ndarray((1, 8), nl.float32)
    nisa.max8(dst=last, src=flat_best)
    found = nl.ndarray((1, 8), nl.uint32)
    nisa.nc_find_index8(data=flat_best, vals=last, dst=found)
    named = nl.ndarray((1, 8), nl.uint32)
    nisa.nc_n_gather(dst=named, data=flat_spot, indices=found)
    out = nl.ndarray((1, 8), nl.uint32, buffer=nl.shared_hbm)
    nisa.dma_copy(out, named)
    return out


def test_stages_gather_the_places_of_the_survivors(both_ways):
    x = np.random.default_rng(1).permutation(80).astype(np.float32).reshape(1, 80)
    got = both_ways(cascade, x, 16)
    assert got.ravel().tolist() == np.argsort(-x[0], kind="stable")[:8].tolist()


def router(hidden, weights, bias, k: int):
    """Softmax over experts, top k, one-hot affinities: what a router does on every token."""
    h, t = hidden.shape
    e = weights.shape[1]
    stationary = nl.ndarray((h, t), hidden.dtype)
    moving = nl.ndarray((h, e), weights.dtype)
    nisa.dma_copy(stationary, hidden)
    nisa.dma_copy(moving, weights)
    logits = nl.ndarray((t, e), nl.float32, buffer=nl.psum, address=(0, 2 * 2048))
    nisa.nc_matmul(dst=logits, stationary=stationary, moving=moving)
    row = nl.ndarray((1, e), nl.float32)
    nisa.dma_copy(row, bias)
    spread = nl.ndarray((t, e), nl.float32)
    for start in range(0, t, 32):
        width = min(32, t - start)
        nisa.nc_stream_shuffle(src=row, dst=spread[start : start + width, :], shuffle_mask=[0] * 32)
    biased = nl.ndarray((t, e), nl.float32)
    nisa.tensor_tensor(data1=logits, data2=spread, op=nl.add, dst=biased)
    top = nl.ndarray((t, 8), nl.float32)
    nisa.max8(dst=top, src=biased)
    place = nl.ndarray((t, 8), nl.uint32)
    nisa.nc_find_index8(dst=place, data=biased, vals=top)
    negative = nl.ndarray((t, 1), nl.float32)
    nisa.tensor_reduce(negative, nl.maximum, biased, (1,), negate=True, keepdims=True)
    exps = nl.ndarray((t, e), nl.float32)
    total = nl.ndarray((t, 1), nl.float32)
    nisa.activation_reduce(
        dst=exps, op=nl.exp, data=biased, reduce_op=nl.add, reduce_res=total, bias=negative
    )
    nisa.reciprocal(total, total)
    nisa.tensor_scalar(exps, exps, nl.multiply, total)
    # Keep the affinities of the k largest: those not below the k-th largest logit.
    keep = nl.ndarray((t, e), nl.uint8)
    nisa.tensor_scalar(dst=keep, data=biased, op0=nl.greater_equal, operand0=top[:, k - 1 : k])
    kept = nl.zeros((t, e), nl.float32)
    nisa.tensor_copy_predicated(src=exps, dst=kept, predicate=keep)
    out = nl.ndarray((t, e), nl.float32, buffer=nl.shared_hbm)
    index = nl.ndarray((t, k), nl.uint32, buffer=nl.shared_hbm)
    nisa.dma_copy(out, kept)
    nisa.dma_copy(index, place[:, 0:k])
    return out, index


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_a_router_keeps_the_affinities_of_its_choices(both_ways, on):
    random = np.random.default_rng(9)
    hidden = random.standard_normal((32, 40)).astype(np.float32)
    weights = random.standard_normal((32, 12)).astype(np.float32)
    bias = random.standard_normal((1, 12)).astype(np.float32)
    got, index = both_ways(router, hidden, weights, bias, 3, on=on)
    for t in range(40):
        logits = [
            sum(float(hidden[i, t]) * float(weights[i, e]) for i in range(32)) + float(bias[0, e])
            for e in range(12)
        ]
        chosen = sorted(range(12), key=lambda e: -logits[e])[:3]
        assert index[t].tolist() == chosen
        weight = np.exp(np.array(logits) - max(logits))
        wanted = [weight[e] / weight.sum() if e in chosen else 0.0 for e in range(12)]
        np.testing.assert_allclose(got[t], wanted, rtol=1e-5, atol=1e-7)


def compact(mask, offset: int):
    """Positions of the non-zeros of up to eight rows, spread over the cores of GpSimd."""
    rows, n = mask.shape
    src = nl.ndarray((128, n), nl.float32)
    nisa.memset(src, 0.0)
    for r in range(rows):
        nisa.dma_copy(dst=src[r * 16 : r * 16 + 1, :], src=mask[r : r + 1, :])
    dst = nl.ndarray((128, n + 1), nl.int32)
    nisa.memset(dst, 7)
    nisa.nonzero_with_count(dst=dst, src=src, index_offset=offset, padding_val=-1)
    out = nl.ndarray((rows, n + 1), nl.int32, buffer=nl.shared_hbm)
    for r in range(rows):
        nisa.dma_copy(out[r : r + 1, :], dst[r * 16 : r * 16 + 1, :])
    return out


@pytest.mark.parametrize("on", ["trn2", "trn3"])
def test_positions_of_non_zeros_come_with_their_count(both_ways, on):
    mask = (np.random.default_rng(4).random((8, 20)) < 0.3).astype(np.float32)
    for row, got in zip(mask, both_ways(compact, mask, 100, on=on), strict=True):
        found = [100 + i for i, v in enumerate(row) if v]
        assert got.tolist() == found + [-1] * (20 - len(found)) + [len(found)]


def gather_blocks(table, index, wide: int):
    """local_gather of blocks of `wide` elements: offsets are block numbers times `wide`."""
    p, n = table.shape
    k = index.shape[1]
    data = nl.ndarray((p, n), table.dtype)
    nisa.dma_copy(data, table)
    raw = nl.ndarray((p, k), nl.uint16)
    nisa.dma_copy(raw, index)
    scaled = nl.ndarray((p, k), nl.uint16)
    nisa.tensor_scalar(scaled, raw, nl.multiply, wide)
    valid = 16 * k - 3
    dst = nl.ndarray((p, valid * wide), table.dtype)
    nisa.local_gather(
        dst=dst, src_buffer=data, index=scaled, num_elem_per_idx=wide, num_valid_indices=valid
    )
    out = nl.ndarray((p, valid * wide), table.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(out, dst)
    return out


@pytest.mark.parametrize("wide", [1, 4])
@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_groups_of_sixteen_partitions_share_their_indices(both_ways, wide, on):
    random = np.random.default_rng(wide)
    table = random.standard_normal((32, 24)).astype(np.float32)
    index = random.integers(0, 24 // wide, (32, 2)).astype(np.uint16)
    got = both_ways(gather_blocks, table, index, wide, on=on)
    for p in range(32):
        group = p // 16 * 16
        order = [index[group + i % 16, i // 16] for i in range(29)]
        wanted = [table[p, o * wide + j] for o in order for j in range(wide)]
        assert got[p].tolist() == wanted

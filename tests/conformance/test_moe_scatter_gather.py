"""Mixture-of-experts kernels: gathers and scatters by index tiles, padding, read-modify-write."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SKIP = nisa.constants.oob_mode.skip


def gathered(hidden, token):
    """The rows of tokens, transposed; zero for padding."""
    size, width = token.shape[0], hidden.shape[1]
    rows = nl.ndarray((size, width), hidden.dtype, buffer=nl.sbuf)
    nisa.memset(dst=rows, value=0)
    nisa.dma_copy(
        dst=rows[...],
        src=hidden.ap(
            pattern=[[width, size], [1, width]], offset=0, vector_offset=token, indirect_dim=0
        ),
        oob_mode=SKIP,
    )
    columns = nl.ndarray((width, size), nl.float32, buffer=nl.psum)
    nisa.nc_transpose(columns, rows)
    moved = nl.ndarray((width, size), nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(moved, columns, engine=nisa.vector_engine)
    return moved


def affinity_of(affinities, token, expert, count):
    """The affinities of tokens to an expert, at token * E + expert of the flat table."""
    size = token.shape[0]
    flat = nl.ndarray((size, 1), nl.int32, buffer=nl.sbuf)
    spread = nl.ndarray((size, 1), nl.int32, buffer=nl.sbuf)
    nisa.nc_stream_shuffle(dst=spread[0:size], src=expert, shuffle_mask=[0] * 32)
    nisa.scalar_tensor_tensor(
        dst=flat, data=token, op0=nl.multiply, operand0=float(count), op1=nl.add, operand1=spread
    )
    scale = nl.ndarray((size, 1), nl.float32, buffer=nl.sbuf)
    nisa.memset(scale, 0.0)
    nisa.dma_copy(
        dst=scale,
        src=affinities.ap([[1, size], [1, 1]], vector_offset=flat),
        oob_mode=nisa.oob_mode.skip,
    )
    return scale


def blockwise(hidden, weights, affinities, positions, experts, out_init):
    """For each block: gather tokens, multiply by its expert's weights, scale, add to the output.

    hidden [T+1, H], weights [E, H, H], affinities [(T+1)*E, 1], positions [N*B], experts [N, 1].
    Positions of padding are -1.
    """
    tokens, width = hidden.shape
    blocks = experts.shape[0]
    size = positions.shape[0] // blocks
    out = nl.ndarray((tokens, width), nl.float32, buffer=nl.shared_hbm, name="moe_out")
    nisa.dma_copy(dst=out, src=out_init)
    by_block = positions.reshape((blocks, size))
    indices = nl.ndarray((size, blocks), nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(indices, by_block.ap([[1, size], [size, blocks]], 0))
    which = nl.ndarray((1, blocks), nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(which, experts.reshape((1, blocks)))
    for b in nl.sequential_range(blocks):
        token = indices.ap(pattern=[[blocks, size], [1, 1]], offset=b)
        expert = which[0, b]
        weight = nl.ndarray((width, width), weights.dtype, buffer=nl.sbuf)
        nisa.dma_copy(
            dst=weight,
            src=weights.ap(
                pattern=[[width, width], [1, width]], offset=0, scalar_offset=expert, indirect_dim=0
            ),
            dge_mode=nisa.constants.dge_mode.unknown,
        )
        product = nl.ndarray((size, width), nl.float32, buffer=nl.psum)
        nisa.nc_matmul(product, gathered(hidden, token), weight)
        scale = affinity_of(affinities, token, which[0:1, b : b + 1], weights.shape[0])
        scaled = nl.ndarray((size, width), nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=scaled, op=nl.copy, data=product, scale=scale)
        target = out.ap([[width, size], [1, width]], 0, vector_offset=token)
        nisa.dma_compute(
            target, [scaled, target], scales=[1.0, 1.0], reduce_op=nl.add, unique_indices=True,
            oob_mode=nisa.oob_mode.skip,
        )  # fmt: skip
    return out


def moe_inputs(tokens=10, width=16, experts=3, size=32, dtype=np.float32):
    random = np.random.default_rng(3)
    hidden = random.standard_normal((tokens, width)).astype(dtype)
    weights = random.standard_normal((experts, width, width)).astype(dtype)
    affinities = random.random((tokens * experts, 1), np.float32)
    chosen = [random.permutation(tokens)[: 4 + e] for e in range(experts)]
    positions = np.full((experts + 1, size), -1, np.int32)  # the last block is all padding
    for e, picked in enumerate(chosen):
        positions[e, : len(picked)] = picked
    order = np.array([*reversed(range(experts)), 0])
    return hidden, weights, affinities, positions.reshape(-1), order, chosen


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_blocks_gather_multiply_and_add_to_their_tokens(both_ways, on):
    hidden, weights, affinities, positions, order, chosen = moe_inputs()
    experts = order.astype(np.int32).reshape(-1, 1)
    start = np.ones_like(hidden)
    got = both_ways(blockwise, hidden, weights, affinities, positions, experts, start, on=on)
    wanted = start.astype(np.float64)
    for block, picked in enumerate(chosen):
        e = order[block]
        for t in picked:
            wanted[t] += affinities[t * 3 + e, 0] * (hidden[t].astype(np.float64) @ weights[e])
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def scatter_with_columns(source, rows):
    """Scatter with two columns of indices through `.ap` and through a slice; unsigned padding."""
    n, width = source.shape
    out = nl.ndarray((8, width), source.dtype, buffer=nl.shared_hbm)
    fill = nl.full((8, width), -1.0, source.dtype)
    nisa.dma_copy(out, fill)
    index = nl.ndarray((n, 2), nl.uint32)
    nisa.dma_copy(index, rows)
    tile = nl.ndarray((n, width), source.dtype)
    nisa.dma_copy(tile, source)
    for k in range(2):
        column = index.ap([[2, n], [1, 1]], offset=k) if k else index[:, 0:1]
        nisa.dma_copy(
            dst=out.ap(pattern=[[width, n], [1, width]], vector_offset=column),
            src=tile,
            oob_mode=SKIP,
            dge_mode=nisa.dge_mode.swdge,
            name=f"scatter_{k}",
        )
    return out


def test_a_scatter_drops_rows_with_padding(both_ways):
    source = np.arange(12, dtype=np.float32).reshape(4, 3)
    none = 0xFFFFFFFF
    rows = np.array([[7, 0], [none, 2], [5, none], [none, 4]], np.uint32)
    got = both_ways(scatter_with_columns, source, rows)
    wanted = np.full((8, 3), -1, np.float32)
    for i, pair in enumerate(rows):
        for row in pair:
            if row < 8:
                wanted[row] = source[i]
    assert got.tolist() == wanted.tolist()


def gather_add(table, rows, base):
    """dst in SBUF += table[rows]: the gathering read-modify-write; then accumulate of 0.2."""
    n, width = base.shape
    out = nl.ndarray((n, width), base.dtype, buffer=nl.shared_hbm)
    index = nl.ndarray((n, 1), nl.int32)
    nisa.dma_copy(index, rows)
    tile = nl.ndarray((n, width), base.dtype)
    nisa.dma_copy(tile, base)
    picked = table.ap([[width, n], [1, width]], 0, vector_offset=index)
    nisa.dma_compute(tile, (tile, picked), (1.0, 1.0), nl.add)
    nisa.dma_copy(out, tile)
    nisa.dma_copy(dst=out, src=tile, dst_rmw_op=nl.add)
    nisa.dma_compute(dst=out, srcs=[out, base, base], reduce_op=nl.add)
    return out


def test_gathered_rows_are_added(both_ways):
    table = np.arange(40, dtype=np.float32).reshape(10, 4)
    rows = np.array([[9], [0], [3]], np.int32)
    base = np.ones((3, 4), np.float32)
    got = both_ways(gather_add, table, rows, base)
    assert got.tolist() == [[2 * (1 + v) + 2 for v in table[r]] for r in rows[:, 0]]


def transposed_gather(table, rows):
    """dma_transpose of gathered rows, in the 4-D form with its dimensions of size one."""
    n = rows.shape[0] * rows.shape[1]
    _, width = table.shape
    index = nl.ndarray(rows.shape, nl.uint32)
    nisa.dma_copy(index, rows)
    tile = nl.ndarray((width, n), table.dtype)
    nisa.dma_transpose(
        dst=tile.ap([[n, width], [1, 1], [1, 1], [1, n]]),
        src=table.ap([[width, n], [1, 1], [1, 1], [1, width]], 0, vector_offset=index),
        axes=(3, 1, 2, 0),
        dge_mode=nisa.dge_mode.swdge,
    )
    out = nl.ndarray((width, n), table.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(out, tile)
    return out


@pytest.mark.parametrize("shape", [(16, 1), (32, 1), (128, 2)])
@pytest.mark.parametrize("on", ["trn2", "trn3"])
def test_rows_are_gathered_and_transposed(both_ways, shape, on):
    random = np.random.default_rng(0)
    table = random.standard_normal((300, 24)).astype("bfloat16")
    rows = random.permutation(300)[: shape[0] * shape[1]].astype(np.uint32).reshape(shape)
    got = both_ways(transposed_gather, table, rows, on=on)
    for j, row in enumerate(rows.T.ravel()):
        assert got[:, j].tolist() == table[row].tolist()


def static_transposes(x, y):
    """The 4-D idiom and 2-D of static transposes, and a destination of lower rank (0.2)."""
    n, m = x.shape
    out = nl.ndarray((3, m, n), x.dtype, buffer=nl.shared_hbm)
    for k in range(3):
        tile = nl.ndarray((m, n), x.dtype)
        rows = x.ap([[m, n], [1, 1], [1, 1], [1, m]])
        if k == 0:
            nisa.dma_transpose(dst=tile.ap([[n, m], [1, 1], [1, 1], [1, n]], 0), src=rows)
        elif k == 1:
            nisa.dma_transpose(tile, rows)
        else:
            nisa.dma_transpose(dst=tile, src=y)
        nisa.dma_copy(out[k], tile)
    return out


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_static_transposes_agree(both_ways, on):
    x = np.arange(16 * 12).reshape(16, 12).astype("bfloat16")
    for plane in both_ways(static_transposes, x, x.copy(), on=on):
        assert plane.tolist() == [[x[i, j] for i in range(16)] for j in range(12)]


def shifted_expert(weights, which, at):
    """scalar_offset on a matrix viewed by reshape, on SBUF sources and destinations."""
    blocks, size = weights.shape[0] // 4, 4
    chosen = nl.ndarray((1, 1), nl.int32)
    nisa.dma_copy(chosen, which)
    tile = nl.ndarray((1, size), weights.dtype)
    table = weights.reshape((blocks, size))
    nisa.dma_copy(
        tile, table.ap(pattern=[[size, 1], [1, size]], offset=0, scalar_offset=chosen[0, 0],
                       indirect_dim=0),
    )  # fmt: skip
    wide = nl.zeros((1, 6 * size), weights.dtype)
    place = nl.ndarray((1, 1), nl.uint32)
    nisa.dma_copy(place, at)
    nisa.tensor_copy(
        wide.ap(pattern=[[6 * size, 1], [1, size]], offset=size, scalar_offset=place,
                indirect_dim=1),
        tile,
    )  # fmt: skip
    out = nl.ndarray((1, 6 * size), weights.dtype, nl.shared_hbm)
    nisa.dma_copy(out, wide)
    return out


def test_a_scalar_offset_counts_in_the_reshaped_view(both_ways):
    weights = np.arange(20, dtype=np.float32)
    which, at = np.array([[3]], np.int32), np.array([[2]], np.uint32)
    got = both_ways(shifted_expert, weights, which, at)
    wanted = np.zeros(24, np.float32)
    wanted[4 + 2 : 4 + 2 + 4] = weights[12:16]
    assert got.ravel().tolist() == wanted.tolist()


def optional_row(table, rows):
    """A scalar offset that is padding leaves its destination as it is, in both directions."""
    n, width = table.shape
    out = nl.ndarray((n, width), table.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(out, table)
    index = nl.ndarray((1, rows.shape[1]), nl.int32)
    nisa.dma_copy(index, rows)
    tile = nl.full((1, width), 7.0, table.dtype)
    row = [[width, 1], [1, width]]
    for k in range(rows.shape[1]):
        nisa.dma_copy(tile, table.ap(row, scalar_offset=index[0, k]), oob_mode=SKIP)
        nisa.tensor_scalar(tile, tile, nl.add, 100.0)
        nisa.dma_copy(out.ap(row, scalar_offset=index[0, k]), tile, oob_mode=SKIP)
    return out


def test_a_scalar_offset_out_of_range_is_skipped(both_ways):
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    got = both_ways(optional_row, table, np.array([[-1, 2, 4, 0]], np.int32))
    assert got.tolist() == [(table[0] + 100).tolist(), *table[1:2].tolist(),
                            (table[2] + 100).tolist(), table[3].tolist()]  # fmt: skip

"""Kernels of several ranks: rings that gather piece by piece, rank numbers as run-time offsets."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.collectives as ncc
import emuron.nki.isa as nisa
import emuron.nki.language as nl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def on_ranks(kernel, inputs, lnc=1, on="trn2"):
    """Run a kernel on ranks with data and record it without; return the outputs of each."""
    launched = nki.jit(kernel)[lnc]
    shapes = [
        {name: nki.ShapeDtype(x.shape, str(x.dtype)) if isinstance(x, np.ndarray) else x
         for name, x in given.items()}
        for given in inputs
    ]  # fmt: skip
    without = nki.run_ranks(launched, shapes, target=on, execute=False, collect=False)
    with_data = nki.run_ranks(launched, inputs, target=on)
    for some, other in zip(with_data, without, strict=True):
        assert some.timing.total_ps > 0
        assert [len(p) for p in some.programs] == [len(p) for p in other.programs]
    return [run.outputs for run in with_data]


def multiply_piece(piece, weights, target):
    """Multiply the rows of a piece in HBM, loaded transposed, by weights in SBUF."""
    part, k = piece.shape
    n = weights.shape[1]
    tile = nl.ndarray((k, part), piece.dtype)
    nisa.dma_transpose(dst=tile, src=piece)
    product = nl.ndarray((part, n), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=product, stationary=tile, moving=weights)
    done = nl.ndarray((part, n), nl.float32)
    nisa.tensor_copy(dst=done, src=product)
    nisa.dma_copy(dst=target, src=done)


def gathered_matmul(x, w, ranks: int, channels: int):
    """Rows of x of all ranks times w: each ring step sends on what the step before brought."""
    rows, k = x.shape
    n = w.shape[1]
    group = ncc.ReplicaGroup([list(range(ranks))])
    core, cores = nl.program_id(0), nl.num_programs()
    out = nl.ndarray((ranks * rows, n), nl.float32, buffer=nl.shared_hbm, name="out")
    blocks = out.reshape((ranks, rows, n))
    part = rows // channels
    weights = nl.ndarray((k, n), w.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=weights, src=w)
    make = {"shape": (part, k), "dtype": x.dtype, "buffer": nl.shared_hbm}
    pieces = [
        [nl.ndarray(**make, name=f"piece_{step}_{c}") for c in range(channels)]
        for step in range(ranks)
    ]
    for c in range(channels):
        if c % cores == core:
            nisa.dma_copy(dst=pieces[0][c], src=x[nl.ds(c * part, part), :])
    if cores == 2:
        nisa.core_barrier(pieces[0][0], (0, 1))
    for step in range(ranks):
        if step + 1 < ranks:
            ncc.collective_permute_implicit(
                srcs_by_channel=[[piece] for piece in pieces[step]],
                dsts_by_channel=[[piece] for piece in pieces[step + 1]],
                replica_group=group,
                channel_ids=list(range(channels)),
            )
        for c in range(channels):
            if c % cores != core:
                continue
            owner = ncc.collective_permute_implicit_current_processing_rank_id(
                iteration_id=step, channel_id=c, replica_group=group
            )
            target = blocks.ap(
                pattern=[[n, part], [1, n]], offset=c * part * n, scalar_offset=owner,
                indirect_dim=0,
            )  # fmt: skip
            multiply_piece(pieces[step][c], weights, target)
    return out


@pytest.mark.parametrize(
    ("ranks", "channels", "lnc", "on"),
    [(2, 1, 1, "trn1"), (4, 2, 1, "trn2"), (4, 2, 2, "trn2"), (3, 4, 2, "trn3")],
)
def test_a_ring_multiplies_what_it_gathers(ranks, channels, lnc, on):
    random = np.random.default_rng(ranks)
    w = random.integers(-3, 4, (16, 24)).astype("bfloat16")
    xs = [random.integers(-3, 4, (16, 16)).astype("bfloat16") for _ in range(ranks)]
    inputs = [{"x": x, "w": w, "ranks": ranks, "channels": channels} for x in xs]
    wanted = np.concatenate([x.astype(np.int64) @ w.astype(np.int64) for x in xs])
    for got in on_ranks(gathered_matmul, inputs, lnc, on):
        assert got.tolist() == wanted.tolist()


def ring_sum(x, ranks: int):
    """Reduce-scatter by steps of a reducing ring, then an all-gather in SBUF."""
    rows, n = x.shape
    group = ncc.ReplicaGroup([list(range(ranks))])
    size = rows // ranks
    by_rank = x.reshape((ranks, size, n))
    carried = nl.zeros((size, n), x.dtype)
    for step in range(ranks - 1):
        # After the last step the sum of the block of the rank's own successor's ... arrives.
        rank = ncc.collective_permute_implicit_current_processing_rank_id(step + 1, group)
        mine = nl.ndarray((size, n), x.dtype)
        nisa.dma_copy(mine, by_rank.ap([[n, size], [1, n]], 0, rank))
        arrived = nl.ndarray((size, n), x.dtype)
        ncc.collective_permute_implicit_reduce(
            [[carried]], [[mine]], [[arrived]], replica_group=group, op=nl.add
        )
        carried = arrived
    me = ncc.rank_id()
    last = nl.ndarray((size, n), x.dtype)
    nisa.dma_copy(last, by_rank.ap([[n, size], [1, n]], 0, scalar_offset=me))
    nisa.tensor_tensor(carried, carried, last, nl.add)
    whole = nl.ndarray((size, ranks * n), x.dtype)
    ncc.all_gather(srcs=[carried], dsts=[whole], replica_group=group, collective_dim=1)
    out = nl.ndarray((size, ranks * n), x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(out, whole)
    return out


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_reducing_ring_adds_a_block_of_every_rank(ranks):
    random = np.random.default_rng(ranks)
    xs = [random.integers(-5, 6, (4 * ranks, 3)).astype(np.float32) for _ in range(ranks)]
    wanted = sum(xs).reshape(ranks, 4, 3)
    for got in on_ranks(ring_sum, [{"x": x, "ranks": ranks} for x in xs]):
        for block in range(ranks):
            assert got[:, 3 * block : 3 * block + 3].tolist() == wanted[block].tolist()


def own_columns(table, ranks: int):
    """Each rank takes its own columns by rank_id, also computed with in a tile; then all_to_all."""
    rows, n = table.shape
    width = n // ranks
    tile = nl.ndarray((1, 1), nl.int32)
    nisa.register_store(tile, ncc.rank_id(name="mine"))
    nisa.tensor_scalar(tile, tile, nl.multiply, width)
    part = nl.ndarray((rows, width), table.dtype)
    nisa.dma_copy(
        part, table.ap([[n, rows], [1, width]], offset=0, scalar_offset=tile, indirect_dim=1)
    )
    src = nl.ndarray((rows, width), table.dtype, buffer=nl.shared_hbm)
    dst = nl.ndarray((rows, width), table.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(src, part)
    group = ncc.ReplicaGroup([list(range(ranks))])
    ncc.all_to_all(srcs=[src], dsts=[dst], replica_group=group, collective_dim=0)
    total = nl.ndarray((rows // ranks, width), table.dtype, buffer=nl.shared_hbm)
    ncc.reduce_scatter([src], [total], group, 0, op=nl.add)
    return dst, total


def test_a_rank_addresses_by_its_number():
    table = np.arange(8 * 12, dtype=np.float32).reshape(8, 12)
    outputs = on_ranks(own_columns, [{"table": table.copy(), "ranks": 4} for _ in range(4)])
    for rank, (swapped, total) in enumerate(outputs):
        mine = slice(2 * rank, 2 * rank + 2)
        wanted = np.concatenate([table[mine, 3 * s : 3 * s + 3] for s in range(4)])
        assert swapped.tolist() == wanted.tolist()
        assert total.tolist() == sum(table[mine, 3 * s : 3 * s + 3] for s in range(4)).tolist()


def uneven(x, rank: int, ranks: int):
    """Ranks that do different things between their collectives, as pipelines do."""
    group = ncc.ReplicaGroup([list(range(ranks))])
    tile = nl.ndarray(x.shape, x.dtype)
    nisa.dma_copy(tile, x)
    for _ in range(rank):
        nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    if rank % 2:
        spare = nl.ndarray(x.shape, x.dtype, buffer=nl.private_hbm)
        nisa.dma_copy(spare, tile)
        nisa.dma_copy(tile, spare)
    total = nl.ndarray(x.shape, x.dtype)
    ncc.all_reduce(srcs=[tile], dsts=[total], op=nl.add, replica_group=group)
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(out, total)
    return out


@pytest.mark.parametrize("lnc", [1, 2])
def test_ranks_may_differ_between_their_meetings(lnc):
    xs = [np.full((4, 4), r + 1, np.float32) for r in range(3)]
    inputs = [{"x": x, "rank": r, "ranks": 3} for r, x in enumerate(xs)]
    for got in on_ranks(uneven, inputs, lnc):
        assert (got == 1 + 2 * 2 + 3 * 4).all()

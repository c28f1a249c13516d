"""Kernels with collectives, the inputs of their ranks, and what tests draw of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import emuron.nki as nki
import emuron.nki.collectives as ncc
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.numerics.dtypes import dtype as to_dtype

PAIR = ncc.ReplicaGroup([[0, 1]])

groupings = st.sampled_from(
    [
        [[0]],
        [[0, 1]],
        [[1, 0]],
        [[0, 1, 2]],
        [[0, 2], [1, 3]],
        [[3, 1], [0, 2]],
        [[0, 1, 2, 3]],
        [[2, 0, 3, 1]],
    ]
)
floats = st.sampled_from(["float32", "bfloat16", "float16"])
any_dtype = st.sampled_from(["float32", "bfloat16", "float8_e4m3", "int32", "uint8"])
seeds = st.integers(0, 2**32 - 1)


def drawn(seed, ranks, shape, dtype):
    """Return an array of small integers for each rank: sums of them are exact in every dtype."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 8, shape).astype(to_dtype(dtype).np) for _ in range(ranks)]


def ranks_of(groups):
    return sum(len(group) for group in groups)


def mates(groups, rank):
    """Return the ranks of a rank's group, in order."""
    return next(group for group in groups if rank in group)


def launch(kernel, inputs, lnc=1, **options):
    return nki.simulate_ranks(nki.jit(kernel)[lnc], [[x] for x in inputs], **options)


def through(call, shape, memory="hbm"):
    """Return a kernel that copies its input to a source, calls a collective, returns the result."""

    def kernel(x):
        buffer = nl.sbuf if memory == "sbuf" else nl.shared_hbm
        src = nl.ndarray(x.shape, x.dtype, buffer=buffer, name="src")
        dst = nl.ndarray(shape, x.dtype, buffer=buffer, name="dst")
        nisa.dma_copy(dst=src, src=x)
        call([src], [dst])
        if memory == "hbm":
            return dst
        out = nl.ndarray(shape, x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=dst)
        return out

    return kernel


def swap_rows(dst, src):
    nisa.dma_copy(dst[0:1, :], src[1:2, :])
    nisa.dma_copy(dst[1:2, :], src[0:1, :])


def metadata_kernel(call, elements, rows=3, memory="hbm"):
    """Return a kernel of (data, metadata) for a collective of variable lengths."""

    def kernel(x, meta):
        src = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm, name="src")
        dst = nl.zeros((1, elements), x.dtype, buffer=nl.shared_hbm, name="dst")
        nisa.dma_copy(src, x)
        ranks = meta.shape[1]
        shape, buffer = ((rows, ranks), nl.shared_hbm)
        if memory == "sbuf":
            shape, buffer = (1, rows, ranks), nl.sbuf
        known = nl.ndarray(shape, "uint32", buffer=buffer, name="meta")
        nisa.dma_copy(known, meta)
        call([src], [dst], known)
        counts = nl.ndarray((1, ranks), "uint32", buffer=nl.shared_hbm)
        nisa.dma_copy(counts, known[:, 2:3, :] if memory == "sbuf" else known[2:3, :])
        return dst, counts

    return kernel


def all_to_all_v_case(seed, ranks, with_displacements):
    """Return (data, metadata of each rank, the expected destinations and counts)."""
    random = np.random.default_rng(seed)
    size = 4 * ranks
    counts = random.integers(0, 5, (ranks, ranks))  # [sender, receiver]
    places = np.array([[4 * s for s in range(ranks)] for _ in range(ranks)])
    if with_displacements:
        places = places[:, ::-1]
    xs = [random.integers(0, 100, (1, size)).astype(np.float32) for _ in range(ranks)]
    starts = random.integers(0, size - 4, (ranks, ranks))
    metas, expected = [], np.zeros((ranks, size))
    for rank in range(ranks):
        rows = [counts[rank], starts[rank], np.zeros(ranks)]
        metas.append(np.array([*rows, places[rank]][: 4 if with_displacements else 3], np.uint32))
    for sender in range(ranks):
        for receiver in range(ranks):
            for i in range(counts[sender, receiver]):
                value = xs[sender][0, starts[sender, receiver] + i]
                expected[receiver, places[receiver, sender] + i] = value
    return xs, metas, expected, counts


def limits_kernel(call):
    """Return a kernel that makes two tensors in HBM and in SBUF and calls with them."""

    def kernel(x):
        hbm = [nl.zeros((4, 2), "float32", buffer=nl.shared_hbm) for _ in range(2)]
        sbuf = [nl.zeros((4, 2), "float32") for _ in range(2)]
        call(hbm, sbuf)

    return kernel

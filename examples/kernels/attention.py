"""Attention of one head, a block of queries at a time, with whole rows of scores in SBUF.

emuron kernel run examples/kernels/attention.py
"""

import ml_dtypes
import numpy as np

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl


@nki.jit
def attention(query, key, value, scale):
    """Return softmax(scale · queryᵀ key) value.

    `query` and `key` are [head, sequence] (the contraction on partitions), `value` is
    [sequence, head]; the sequence is a multiple of 512, the head at most 128.
    """
    head, sequence = query.shape
    block, wide = nl.tile_size.pmax, nl.tile_size.gemm_moving_fmax
    blocks = sequence // block
    out = nl.ndarray((sequence, head), dtype=value.dtype, buffer=nl.shared_hbm)

    keys = nl.ndarray((head, sequence), dtype=key.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=keys, src=key)
    values = nl.ndarray((block, blocks, head), dtype=value.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=values, src=value.reshape((blocks, block, head)).permute((1, 0, 2)))

    for i in nl.affine_range(blocks):
        queries = nl.ndarray((head, block), dtype=query.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=queries, src=query[:, i * block : (i + 1) * block])

        scores = nl.ndarray((block, sequence), dtype=nl.float32, buffer=nl.sbuf)
        for j in nl.affine_range(sequence // wide):
            here = nl.ds(j * wide, wide)
            product = nl.ndarray((block, wide), dtype=nl.float32, buffer=nl.psum)
            nisa.nc_matmul(product, stationary=queries, moving=keys[:, here])
            nisa.tensor_copy(scores[:, here], product)

        # exp(scale · score − scale · max), its row sums from the accumulator.
        negative_max = nl.ndarray((block, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(negative_max, nl.maximum, scores, axis=1, negate=True)
        nisa.tensor_scalar(negative_max, negative_max, nl.multiply, scale)
        weights = nl.ndarray((block, sequence), dtype=value.dtype, buffer=nl.sbuf)
        total = nl.ndarray((block, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(
            weights,
            nl.exp,
            scores,
            reduce_op=nl.add,
            reduce_res=total,
            bias=negative_max,
            scale=scale,
        )
        nisa.reciprocal(total, total)

        # weights @ value: 128 x 128 blocks of weights are transposed for the contraction, four to a
        # bank; all transposes come first, so that the Tensor engine never waits for one copy.
        stationary = nl.ndarray((block, sequence), dtype=value.dtype, buffer=nl.sbuf)
        for j in nl.affine_range(0, sequence, wide):
            turned = nl.ndarray((block, wide), dtype=value.dtype, buffer=nl.psum)
            for part in nl.affine_range(0, wide, block):
                nisa.nc_transpose(turned[:, nl.ds(part, block)], weights[:, nl.ds(j + part, block)])
            nisa.tensor_copy(stationary[:, nl.ds(j, wide)], turned)
        result = nl.ndarray((block, head), dtype=nl.float32, buffer=nl.psum)
        for j in nl.affine_range(blocks):
            weight_block = stationary[:, nl.ds(j * block, block)]
            nisa.nc_matmul(result, weight_block, values[:, j, :], accumulate=j > 0)

        normal = nl.ndarray((block, head), dtype=value.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(normal, result, op0=nl.multiply, operand0=total)
        nisa.dma_copy(dst=out[i * block : (i + 1) * block, :], src=normal)
    return out


def reference(query, key, value, scale):
    """Return the attention in double precision."""
    scores = scale * query.astype(np.float64).T @ key.astype(np.float64)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ value.astype(np.float64)


def cases():
    """Return a small case that is checked, and one of 4096 tokens."""
    random = np.random.default_rng(0)
    sequence, head = 512, 64
    shapes = ((head, sequence), (head, sequence), (sequence, head))
    small = [random.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in shapes]
    large = [nki.ShapeDtype(shape, "bfloat16") for shape in ((128, 4096), (128, 4096), (4096, 128))]
    # The weights and the result are rounded to bfloat16: 2^-8 relative each.
    return [
        nki.Case("512x64", attention, (*small, head**-0.5), expected=reference, tolerance=2**-7),
        nki.Case("4096x128", attention, (*large, 128**-0.5)),
    ]

"""Softmax of each row of a matrix: emuron kernel run examples/kernels/softmax.py"""

import numpy as np

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl


@nki.jit
def softmax(x):
    """Return exp(x − max) / sum over each row of x [rows, columns], rows a multiple of 128."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    rows, columns = nl.tile_size.pmax, x.shape[1]
    for start in nl.affine_range(0, x.shape[0], rows):
        tile = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + rows, :])

        negative_max = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(negative_max, nl.maximum, tile, axis=1, negate=True)

        # One pass of the Scalar engine: the powers and, in its accumulator, the sum of each row.
        powers = nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(
            powers, nl.exp, tile, reduce_op=nl.add, reduce_res=total, bias=negative_max
        )
        nisa.reciprocal(total, total)
        nisa.tensor_scalar(tile, powers, op0=nl.multiply, operand0=total)
        nisa.dma_copy(dst=out[start : start + rows, :], src=tile)
    return out


def reference(x):
    """Return the softmax of each row in double precision."""
    powers = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cases():
    """Return a small case that is checked, and a large one."""
    x = np.random.default_rng(0).standard_normal((256, 1024), dtype=np.float32)
    return [
        nki.Case("256x1024", softmax, (x,), expected=reference, tolerance=2e-6),
        nki.Case("4096x4096", softmax, (nki.ShapeDtype((4096, 4096), "bfloat16"),)),
    ]

"""Root-mean-square normalisation of rows: emuron kernel run examples/kernels/rmsnorm.py"""

import numpy as np

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl

EPSILON = 1e-6


@nki.jit
def rmsnorm(x, weight):
    """Return x / √(mean(x²) + ε) · weight; x [rows, columns], weight [1, columns]."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    rows, columns = nl.tile_size.pmax, x.shape[1]

    # Every partition needs the weights: a DMA reads the row once for each (stride 0).
    weights = nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=weights, src=weight.broadcast(0, rows))

    for start in nl.affine_range(0, x.shape[0], rows):
        tile = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + rows, :])

        squares = nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(squares, nl.square, tile, reduce_op=nl.add, reduce_res=total)

        mean = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(mean, total, nl.multiply, 1 / columns, op1=nl.add, operand1=EPSILON)
        scale = nl.rsqrt(mean)

        normal = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.scalar_tensor_tensor(normal, tile, nl.multiply, scale, nl.multiply, weights)
        nisa.dma_copy(dst=out[start : start + rows, :], src=normal)
    return out


def reference(x, weight):
    """Return the normalised rows in double precision."""
    wide = x.astype(np.float64)
    return wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + EPSILON) * weight


def cases():
    """Return a small case that is checked, and a large one."""
    random = np.random.default_rng(0)
    x = random.standard_normal((256, 768), dtype=np.float32)
    weight = random.standard_normal((1, 768), dtype=np.float32)
    large = (nki.ShapeDtype((4096, 4096), "bfloat16"), nki.ShapeDtype((1, 4096), "float32"))
    return [
        nki.Case("256x768", rmsnorm, (x, weight), expected=reference, tolerance=2e-6),
        nki.Case("4096x4096", rmsnorm, large),
    ]

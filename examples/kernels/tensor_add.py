"""Add two matrices, 128 rows at a time: emuron kernel run examples/kernels/tensor_add.py"""

import numpy as np

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl


@nki.jit
def tensor_add(a, b):
    """Return a + b; both [rows, columns] with rows a multiple of 128."""
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    rows = nl.tile_size.pmax
    for start in nl.affine_range(0, a.shape[0], rows):
        here = nl.ds(start, rows)
        a_tile = nl.ndarray((rows, a.shape[1]), dtype=a.dtype, buffer=nl.sbuf)
        b_tile = nl.ndarray((rows, a.shape[1]), dtype=b.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=a_tile, src=a[here, :])
        nisa.dma_copy(dst=b_tile, src=b[here, :])
        nisa.tensor_tensor(dst=a_tile, data1=a_tile, data2=b_tile, op=nl.add)
        nisa.dma_copy(dst=out[here, :], src=a_tile)
    return out


def cases():
    """Return a small case that is checked, and a large one."""
    random = np.random.default_rng(0)
    small = tuple(random.standard_normal((256, 512), dtype=np.float32) for _ in range(2))
    large = (nki.ShapeDtype((8192, 2048), "float32"),) * 2
    return [
        nki.Case("256x512", tensor_add, small, expected=np.add, tolerance=0.0),
        nki.Case("8192x2048", tensor_add, large),
    ]

"""Matrix multiplication in five steps, from reloading everything to a busy Tensor engine.

emuron kernel run examples/kernels/matmul.py

Every version returns lhs @ rhs for `lhs_t` [K, M] (lhs transposed: the contraction lies on the
partitions) and `rhs` [K, N]. K and M are multiples of 128, N of 512; the last two want M and N to
be multiples of 1024.
"""

import ml_dtypes
import numpy as np

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl

TILE_M = 128  # columns of a stationary operand
TILE_K = 128  # partitions
TILE_N = 512  # columns of a moving operand: one PSUM bank of fp32
BLOCK = 1024  # columns of both operands that stay in SBUF together


def new_tile(shape, like):
    """Return a tile in SBUF of the dtype of `like`."""
    return nl.ndarray(shape, dtype=like.dtype, buffer=nl.sbuf)


def new_product():
    """Return one bank of PSUM."""
    return nl.ndarray((TILE_M, TILE_N), dtype=nl.float32, buffer=nl.psum)


def new_output(lhs_t, rhs):
    """Return the result in HBM."""
    return nl.ndarray((lhs_t.shape[1], rhs.shape[1]), dtype=rhs.dtype, buffer=nl.shared_hbm)


def evacuate(product, out, m, n):
    """Copy a product from PSUM to its place (m, n), in tiles, of the output."""
    result = new_tile(product.shape, out)
    nisa.tensor_copy(result, product)
    nisa.dma_copy(dst=out[nl.ds(m * TILE_M, TILE_M), nl.ds(n * TILE_N, TILE_N)], src=result)


@nki.jit
def matmul_naive(lhs_t, rhs):
    """Multiply 128 x 128 tiles, one step after the other: each is loaded when it is needed."""
    (depth, rows), columns = lhs_t.shape, rhs.shape[1]
    out = new_output(lhs_t, rhs)
    side = TILE_M
    lhs_tile, rhs_tile = new_tile((TILE_K, side), lhs_t), new_tile((TILE_K, side), rhs)
    result = new_tile((side, side), out)
    product = nl.ndarray((side, side), dtype=nl.float32, buffer=nl.psum)
    for m in nl.affine_range(0, rows, side):
        for n in nl.affine_range(0, columns, side):
            for k in nl.affine_range(0, depth, TILE_K):
                nisa.dma_copy(dst=lhs_tile, src=lhs_t[nl.ds(k, TILE_K), nl.ds(m, side)])
                nisa.dma_copy(dst=rhs_tile, src=rhs[nl.ds(k, TILE_K), nl.ds(n, side)])
                nisa.nc_matmul(product, lhs_tile, rhs_tile, accumulate=k > 0)
            nisa.tensor_copy(result, product)
            nisa.dma_copy(dst=out[nl.ds(m, side), nl.ds(n, side)], src=result)
    return out


@nki.jit
def matmul_tiled(lhs_t, rhs):
    """Multiply the largest tiles, each in a buffer of its own: loads run ahead of products."""
    (depth, rows), columns = lhs_t.shape, rhs.shape[1]
    out = new_output(lhs_t, rhs)
    for m in nl.affine_range(rows // TILE_M):
        for n in nl.affine_range(columns // TILE_N):
            product = new_product()
            for k in nl.affine_range(depth // TILE_K):
                here = nl.ds(k * TILE_K, TILE_K)
                lhs_tile = new_tile((TILE_K, TILE_M), lhs_t)
                rhs_tile = new_tile((TILE_K, TILE_N), rhs)
                nisa.dma_copy(dst=lhs_tile, src=lhs_t[here, nl.ds(m * TILE_M, TILE_M)])
                nisa.dma_copy(dst=rhs_tile, src=rhs[here, nl.ds(n * TILE_N, TILE_N)])
                nisa.nc_matmul(product, lhs_tile, rhs_tile, accumulate=k > 0)
            evacuate(product, out, m, n)
    return out


@nki.jit
def matmul_hoisted(lhs_t, rhs):
    """Load each column of lhs tiles once for all tiles of rhs."""
    (depth, rows), columns = lhs_t.shape, rhs.shape[1]
    out = new_output(lhs_t, rhs)
    for m in nl.affine_range(rows // TILE_M):
        lhs_tiles = load_column(lhs_t, m * TILE_M, TILE_M, TILE_M)
        for n in nl.affine_range(columns // TILE_N):
            product = new_product()
            for k in nl.affine_range(depth // TILE_K):
                rhs_tile = new_tile((TILE_K, TILE_N), rhs)
                here = nl.ds(k * TILE_K, TILE_K)
                nisa.dma_copy(dst=rhs_tile, src=rhs[here, nl.ds(n * TILE_N, TILE_N)])
                nisa.nc_matmul(product, lhs_tiles[k], rhs_tile, accumulate=k > 0)
            evacuate(product, out, m, n)
    return out


def load_column(source, start, width, step):
    """Return tiles [TILE_K, width] of source[:, start : start + width], `step` columns a DMA."""
    tiles = []
    for k in nl.affine_range(source.shape[0] // TILE_K):
        tile = new_tile((TILE_K, width), source)
        for at in nl.affine_range(0, width, step):
            here = source[nl.ds(k * TILE_K, TILE_K), nl.ds(start + at, step)]
            nisa.dma_copy(dst=tile[:, nl.ds(at, step)], src=here)
        tiles.append(tile)
    return tiles


@nki.jit
def matmul_blocked(lhs_t, rhs):
    """Make blocks of 1024 x 1024 results: loads serve eight rows or two columns of tiles."""
    (depth, rows), columns = lhs_t.shape, rhs.shape[1]
    out = new_output(lhs_t, rhs)
    for block_n in nl.affine_range(columns // BLOCK):
        rhs_tiles = load_column(rhs, block_n * BLOCK, BLOCK, TILE_N)
        for block_m in nl.affine_range(rows // BLOCK):
            lhs_tiles = load_column(lhs_t, block_m * BLOCK, BLOCK, TILE_M)
            for m in nl.affine_range(BLOCK // TILE_M):
                for n in nl.affine_range(BLOCK // TILE_N):
                    product = new_product()
                    for k in nl.affine_range(depth // TILE_K):
                        nisa.nc_matmul(
                            product,
                            lhs_tiles[k][:, nl.ds(m * TILE_M, TILE_M)],
                            rhs_tiles[k][:, nl.ds(n * TILE_N, TILE_N)],
                            accumulate=k > 0,
                        )
                    m_of_all = block_m * (BLOCK // TILE_M) + m
                    evacuate(product, out, m_of_all, block_n * (BLOCK // TILE_N) + n)
    return out


@nki.jit
def matmul_optimised(lhs_t, rhs):
    """Load by DMAs of 2 KiB rows; use each K tile in all banks as it arrives."""
    (depth, rows), columns = lhs_t.shape, rhs.shape[1]
    out = new_output(lhs_t, rhs)
    for block_n in nl.affine_range(columns // BLOCK):
        rhs_tiles = []
        for block_m in nl.affine_range(rows // BLOCK):
            lhs_tiles = []
            for half in nl.affine_range(2):
                banks = [new_product() for _ in nl.affine_range(nl.tile_size.psum_num_banks)]
                for k in nl.affine_range(depth // TILE_K):
                    if block_m == 0 and half == 0:
                        rhs_tiles.append(load_rows(rhs, k, block_n))
                    if half == 0:
                        lhs_tiles.append(load_rows(lhs_t, k, block_m))
                    multiply_half(banks, lhs_tiles[k], rhs_tiles[k], half, k)
                store_half(banks, out, block_m * 2 + half, block_n)
    return out


def load_rows(source, k, block):
    """Return the tile of K tile `k` and block `block`: one DMA of rows of 2 KiB (bf16)."""
    tile = new_tile((TILE_K, BLOCK), source)
    nisa.dma_copy(dst=tile, src=source[nl.ds(k * TILE_K, TILE_K), nl.ds(block * BLOCK, BLOCK)])
    return tile


def multiply_half(banks, lhs_tile, rhs_tile, half, k):
    """Add the products of half the lhs columns of one K tile to all banks."""
    across = BLOCK // TILE_N
    for number, bank in enumerate(banks):
        m, n = half * len(banks) // across + number // across, number % across
        nisa.nc_matmul(
            bank,
            lhs_tile[:, nl.ds(m * TILE_M, TILE_M)],
            rhs_tile[:, nl.ds(n * TILE_N, TILE_N)],
            accumulate=k > 0,
        )


def store_half(banks, out, half_block, block_n):
    """Copy the banks to SBUF, by two engines in turn, and each row of results out by one DMA."""
    across = BLOCK // TILE_N
    for m in nl.affine_range(len(banks) // across):
        result = new_tile((TILE_M, BLOCK), out)
        for n in nl.affine_range(across):
            engine = nisa.engine.scalar if n % 2 else nisa.engine.vector
            source = banks[m * across + n]
            if engine is nisa.engine.vector:
                nisa.tensor_copy(result[:, nl.ds(n * TILE_N, TILE_N)], source, engine=engine)
            else:
                nisa.activation(result[:, nl.ds(n * TILE_N, TILE_N)], nl.copy, source)
        row = (half_block * (len(banks) // across) + m) * TILE_M
        nisa.dma_copy(dst=out[nl.ds(row, TILE_M), nl.ds(block_n * BLOCK, BLOCK)], src=result)


VERSIONS = (matmul_naive, matmul_tiled, matmul_hoisted, matmul_blocked, matmul_optimised)


def reference(lhs_t, rhs):
    """Return the product in double precision."""
    return lhs_t.astype(np.float64).T @ rhs.astype(np.float64)


def cases():
    """Return each version on a small product, checked, and on 4096 x 4096 x 4096, timed."""
    random = np.random.default_rng(0)
    shapes = ((256, 1024), (256, 1024))
    small = tuple(random.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in shapes)
    large = (nki.ShapeDtype((4096, 4096), "bfloat16"),) * 2
    # The result is rounded to bfloat16: half a unit in the last of 8 bits.
    made = []
    for kernel in VERSIONS:
        step = kernel.__name__.removeprefix("matmul_")
        made.append(nki.Case(f"{step} 1024", kernel, small, expected=reference, tolerance=2**-8))
        made.append(nki.Case(f"{step} 4096", kernel, large))
    return made

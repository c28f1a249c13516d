"""Matrix products whose low bits do not depend on how the work was cut into tiles.

The meaning, written down: within a chunk of K every element of the result is the fused multiply-add
over k in order, in float32; chunks are then added in order, one float32 addition each, as PSUM
does.

What BLAS does (numpy 2.4 with OpenBLAS 0.3.31, one thread, checked against that meaning):

* AVX-512 kernels ("SkylakeX", also on AMD): the packed kernels follow it exactly, for float32 as
  for bfloat16 values, whatever M, N, K <= 128 and the leading dimensions. Two other paths do not:
  M or N of one goes to gemv, and products of at most 100**3 go to small-matrix kernels, which take
  the columns past a multiple of 16, and any transposed B, as dot products over vectors of K.
  So B is passed in row order, M = 1 is doubled, and columns past a multiple of 16 are computed in
  a strip padded to 16. Then no element differed in 140,070 products of 23 K, 35 M and 29 N, with A
  contiguous, transposed and sliced.
* AVX2 kernels ("Haswell", "Zen"): the kernel depends on the position in blocks of 12 by 24, so a
  tile and a slice of the whole differ in the last bits, within the bound below. Older kernels do
  not fuse, which for bfloat16 values (exact products) is the same. `sums_in_order` tells.

Bound where they differ: both are float32 sums of the same K products, so
|difference| <= 2 * K * 2**-24 * sum(|a| * |b|) within a chunk, to first order.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

K_CHUNK = 128
"""Rows of the tensor engine, hence the values of K that one pass sums before it adds into PSUM."""

_STRIP = 16
_BLOCK_ROWS = 256
_BLOCK_COLUMNS = 2048
"""Block of the result that stays in the cache while the chunks of K are added to it."""

Floats = npt.NDArray[np.float32]


def _in_row_order(x: Floats, *, or_columns: bool = False) -> Floats:
    """Return `x` itself where BLAS can read it row by row (or column by column), else a copy."""
    step = x.itemsize
    if x.strides[-1] == step and x.strides[-2] >= step * x.shape[-1]:
        return x
    if or_columns and x.strides[-2] == step and x.strides[-1] >= step * x.shape[-2]:
        return x
    return np.ascontiguousarray(x)


def _multiply_into(out: Floats, a: Floats, b: Floats) -> None:
    """Write `a @ b` of two rows or more, the columns past a multiple of 16 as a padded strip."""
    whole = out.shape[-1] // _STRIP * _STRIP
    if whole:
        np.matmul(a, b[..., :whole], out=out[..., :whole])
    rest = out.shape[-1] - whole
    if rest:
        strip = np.zeros((*b.shape[:-1], _STRIP), np.float32)
        strip[..., :rest] = b[..., whole:]
        out[..., whole:] = np.matmul(a, strip)[..., :rest]


def _add_chunks(out: Floats, a: Floats, b: Floats, k_chunk: int) -> None:
    """Fill `out` with the sum of the products of chunks of K, in order."""
    depth = a.shape[-1]
    _multiply_into(out, a[..., :k_chunk], b[..., :k_chunk, :])
    if depth <= k_chunk:
        return
    part = np.empty(out.shape, np.float32)
    for k in range(k_chunk, depth, k_chunk):
        _multiply_into(part, a[..., k : k + k_chunk], b[..., k : k + k_chunk, :])
        out += part


def _add_chunks_by_blocks(out: Floats, a: Floats, b: Floats, k_chunk: int) -> None:
    """Fill `out` block by block; no element's own sum changes by it."""
    rows = _BLOCK_ROWS
    for row in range(0, out.shape[-2], rows):
        # The last block must not be a single row, which BLAS would treat as a vector.
        start = min(row, out.shape[-2] - 2)
        for column in range(0, out.shape[-1], _BLOCK_COLUMNS):
            block = np.s_[..., start : row + rows, column : column + _BLOCK_COLUMNS]
            columns = b[..., column : column + _BLOCK_COLUMNS]
            _add_chunks(out[block], a[..., start : row + rows, :], columns, k_chunk)


def matmul_chunked(
    a: Floats, b: Floats, k_chunk: int = K_CHUNK, out: Floats | None = None
) -> Floats:
    """Return a [..., M, K] @ b [..., K, N] in float32, summed over chunks of K one after another.

    Each chunk is a fused multiply-add over k in order, then one addition: bit for bit what tiles of
    any shape give that add into PSUM chunk after chunk (the conditions are in the module's text).
    `out` must not overlap the operands.
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*lead, a.shape[-2], b.shape[-1])
    if b.ndim == 2 and a.ndim > 2:
        folded = np.ascontiguousarray(a).reshape(-1, a.shape[-1])
        target = None if out is None or not out.flags.c_contiguous else out.reshape(-1, shape[-1])
        return _returned(matmul_chunked(folded, b, k_chunk, target).reshape(shape), out)
    if 0 in shape or a.shape[-1] == 0:
        return _returned(np.zeros(shape, np.float32), out)
    a, b = _in_row_order(a, or_columns=True), _in_row_order(b)
    if shape[-2] == 1:
        doubled = matmul_chunked(np.concatenate([a, a], axis=-2), b, k_chunk)
        return _returned(doubled[..., :1, :], out)
    result = out if out is not None and out.strides[-1] == out.itemsize else None
    if result is None:
        result = np.empty(shape, np.float32)
    with np.errstate(all="ignore"):
        _add_chunks_by_blocks(result, a, b, k_chunk)
    return _returned(result, out)


def _returned(result: Floats, out: Floats | None) -> Floats:
    if out is None:
        return result
    if out is not result and not np.shares_memory(out, result):
        np.copyto(out, result)
    return out


def matmul(a: Floats, b: Floats, out: Floats | None = None) -> Floats:
    """Return a [..., M, K] @ b [..., K, N] in float32, one sum over the whole of K.

    For K up to 128 this is the tensor engine's own sum; beyond, use `matmul_chunked`.
    """
    return matmul_chunked(a, b, max(np.shape(a)[-1], 1), out)


@cache
def sums_in_order() -> bool:
    """Report whether BLAS here sums as the module's text says, found out by small trials."""
    random = np.random.default_rng(0)
    a = random.standard_normal((48, 96), np.float32)
    b = random.standard_normal((96, 160), np.float32)
    expected = np.zeros((48, 160), np.float32)
    for k in range(96):
        # A product of two float32 is exact in float64, so this rounds as a fused multiply-add does
        # but for sums within 2**-53 of a halfway case.
        exact: npt.NDArray[Any] = a[:, k : k + 1].astype(np.float64) * b[k] + expected
        expected = exact.astype(np.float32)
    trials = ((1, 160), (3, 5), (48, 1), (13, 160), (48, 37), (48, 160))
    return all(
        np.array_equal(matmul(a[:rows], b[:, :columns]), expected[:rows, :columns])
        for rows, columns in trials
    )

"""Tensors with contents, for kernels that are refused for something else."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl


def sbuf(rows, columns, dtype=nl.float32, value=0):
    """Return a filled tile in SBUF."""
    tile = nl.ndarray((rows, columns), dtype, buffer=nl.sbuf)
    nisa.memset(tile, value)
    return tile


def psum(rows, columns, dtype=nl.float32, value=0):
    """Return a filled tile in PSUM."""
    tile = nl.ndarray((rows, columns), dtype, buffer=nl.psum)
    nisa.memset(tile, value)
    return tile


def hbm(*shape, dtype=nl.float32):
    """Return a tensor in HBM that nothing has written."""
    return nl.ndarray(shape, dtype, buffer=nl.shared_hbm)


def rows_of_two(columns, dtype):
    """Return a tile of 128 partitions for perf_mode double_row, which nothing has written."""
    return nl.ndarray((128, 2, columns), dtype, buffer=nl.sbuf)

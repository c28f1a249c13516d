"""Whole kernels with registers and dynamic loops, in the dialects of NKI 0.2 and 0.6.

They keep a counter in a tile, advance it with tensor_scalar and hand it over as `scalar_offset`.
"""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROWS = 32


def add_dynamic_rows(a, b, blocks):
    """Add the first blocks[0, 0] blocks of ROWS rows; the rest of the result is zero."""
    total, width = a.shape
    out = nl.ndarray((total, width), dtype=a.dtype, buffer=nl.shared_hbm, name="out")
    zero = nl.ndarray((ROWS, width), dtype=a.dtype, buffer=nl.sbuf)
    nisa.memset(zero, 0.0)
    for i in nl.affine_range(total // ROWS):
        nisa.dma_copy(dst=out[nl.ds(i * ROWS, ROWS), :], src=zero)
    count = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(dst=count[...], src=blocks[...])
    stop = nisa.register_alloc()
    nisa.register_load(stop, count[0:1, 0:1])
    row = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.memset(dst=row, value=0)
    for _ in nl.dynamic_range(0, stop):
        x = nl.ndarray((ROWS, width), dtype=a.dtype)
        y = nl.ndarray((ROWS, width), dtype=a.dtype)
        pattern = [[width, ROWS], [1, width]]
        at = {"pattern": pattern, "offset": 0, "scalar_offset": row[0, 0], "indirect_dim": 0}
        nisa.dma_copy(x, a.ap(**at), dge_mode=nisa.dge_mode.hwdge)
        nisa.dma_copy(dst=y, src=b.ap(**at), dge_mode=nisa.constants.dge_mode.swdge)
        nisa.tensor_tensor(x, x, y, nl.add)
        nisa.dma_copy(dst=out.ap(**at), src=x)
        nisa.tensor_scalar(dst=row, data=row, op0=nl.add, operand0=ROWS)
    return out


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_a_loop_with_a_register_adds_the_rows_that_data_names(both_ways, blocks):
    random = np.random.default_rng(blocks)
    a, b = (random.standard_normal((96, 20), np.float32) for _ in range(2))
    got = both_ways(add_dynamic_rows, a, b, np.array([[blocks]], np.int32), registers=blocks)
    wanted = np.zeros_like(a)
    for row in range(blocks * 32):
        wanted[row] = a[row] + b[row]
    assert np.array_equal(got, wanted)


def double_while(blocks, conditions, scale):
    """Scale blocks in place while conditions[i] is not zero: `while` with a register of 0.2."""
    n, size = blocks.shape
    steps = nl.ndarray((1, 1), nl.int32, nl.sbuf)
    nisa.memset(steps, 0)
    flags = nl.ndarray((1, n + 1), nl.int32, nl.sbuf, name="flags")
    nisa.dma_copy(flags, conditions.reshape((1, n + 1)))
    reg = nisa.register_alloc(flags[0, 0])
    by_block = blocks.reshape((n, 4, size // 4))
    while reg:
        tile = nl.ndarray((4, size // 4), blocks.dtype, nl.sbuf)
        pattern = [[size // 4, 4], [1, size // 4]]
        nisa.dma_copy(
            dst=tile, src=by_block.ap(pattern=pattern, scalar_offset=steps, indirect_dim=0)
        )
        nisa.activation(tile, nl.copy, tile, None, scale)
        nisa.dma_copy(by_block.ap(pattern, 0, steps, None, 0), tile)
        nisa.tensor_scalar(steps, steps, nl.add, 1)
        nxt = nl.ndarray((1, 1), nl.int32)
        nisa.tensor_copy(
            nxt, flags.ap([[n + 1, 1], [1, 1]], 0, scalar_offset=steps, indirect_dim=1)
        )
        nisa.register_load(dst=reg, src=nxt)
    done = nl.ndarray((1, 1), nl.int32, nl.shared_hbm)
    nisa.dma_copy(done, steps)
    return blocks, done


@pytest.mark.parametrize("active", [0, 2, 5])
def test_while_with_a_register_stops_where_the_padding_starts(both_ways, active):
    blocks = np.arange(5 * 24, dtype=np.float32).reshape(5, 24)
    flags = np.array([[1] * active + [0] * (6 - active)], np.int32)
    before = blocks.copy()
    got, done = both_ways(double_while, blocks, flags, 2.0, registers=active)
    assert done.item() == active
    assert [row.tolist() for row in got[:active]] == [[2 * v for v in r] for r in before[:active]]
    assert np.array_equal(got[active:], before[active:])
    assert np.array_equal(blocks, got)  # the argument is written in place


def hybrid(x, count):
    """Process a static part without, and the rest with, registers; on two cores by turns."""
    n, width = x.shape
    out = nl.ndarray((n, width), x.dtype, buffer=nl.shared_hbm)
    core, cores = nl.program_id(axis=0), nl.num_programs(axes=0)
    static = n // 2
    for i in nl.sequential_range(core, static, cores):
        row = nl.ndarray((1, width), x.dtype)
        nisa.dma_copy(row, x[i : i + 1, :])
        nisa.tensor_scalar(row, row, nl.multiply, 3.0, False, nl.add, 1.0, False)
        nisa.dma_copy(out[i : i + 1, :], row)
    nisa.core_barrier(out, (0, 1))
    stop = nisa.register_alloc()
    nisa.register_load(stop, count)
    index = nl.ndarray((1, 1), nl.int32, name=f"index_{core}")
    nisa.memset(index, static + core)
    for _ in nl.dynamic_range(core, stop, cores):
        row = nl.ndarray((1, width), x.dtype)
        nisa.dma_copy(dst=row, src=x.ap([[width, 1], [1, width]], 0, index[0, 0]))
        nisa.tensor_scalar(row, row, nl.multiply, 5.0)
        nisa.dma_copy(dst=out.ap([[width, 1], [1, width]], 0, index[0, 0]), src=row)
        nisa.tensor_scalar(dst=index, data=index, op0=nl.add, operand0=cores)
    return out


def test_two_cores_share_a_static_and_a_dynamic_part(both_ways):
    x = np.arange(48, dtype=np.float32).reshape(8, 6)
    got = both_ways(hybrid, x, np.array([[4]], np.int32), lnc=2, registers=4)
    assert got.tolist() == [[3 * v + 1 for v in r] for r in x[:4]] + [
        [5 * v for v in r] for r in x[4:]
    ]


def collatz(start):
    """Count steps in nested loops: while_loop around fori_loop, register_move and store."""
    made = nl.ndarray((1, 2), nl.int32, buffer=nl.shared_hbm)
    value = nl.load(start)
    steps = nl.zeros((1, 1), nl.int32)
    turns = nisa.register_alloc(0)
    nisa.register_load(turns, value)

    def inner(i):
        nisa.tensor_scalar(steps, steps, nl.add, 2)

    def body(register):
        nl.fori_loop(0, 3, inner)
        nisa.tensor_scalar(value, value, nl.subtract, 1)
        nisa.register_load(register, value)
        return register

    nl.while_loop(turns, body)
    fixed = nisa.register_alloc()
    nisa.register_move(fixed, 41)
    last = nl.ndarray((1, 1), nl.int32)
    nisa.register_store(last, fixed)
    nisa.dma_copy(made[:, 0:1], steps)
    nisa.dma_copy(made[:, 1:2], last)
    return made


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_loops_of_0_6_nest(both_ways, on):
    got = both_ways(collatz, np.array([[4]], np.int32), on=on, registers=4)
    assert got.tolist() == [[24, 41]]

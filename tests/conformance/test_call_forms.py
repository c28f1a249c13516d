"""Instructions in every form that public kernels write: positions, keywords, names of NKI 0.2."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def tile_of(x, dtype=None, buffer=nl.sbuf):
    tile = nl.ndarray(x.shape, dtype or x.dtype, buffer=buffer)
    nisa.dma_copy(tile, x)
    return tile


def hbm_of(*tiles):
    outs = []
    for tile in tiles:
        source = tile
        if tile.buffer == nl.psum:
            source = nl.ndarray(tile.shape, tile.dtype)
            nisa.tensor_copy(source, tile)
        out = nl.ndarray(shape=tile.shape, dtype=tile.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(src=source, dst=out)
        outs.append(out)
    return tuple(outs)


def creation(x):
    """nl.ndarray: 0 to 3 positions, keywords in any order."""
    made = [
        nl.ndarray(shape=x.shape, dtype=x.dtype, buffer=nl.sbuf, name="all_named"),
        nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.sbuf, name="", address=(0, 512)),
        nl.ndarray(x.shape, nl.float32),
        nl.ndarray(x.shape, nl.float32, nl.sbuf),
        nl.ndarray(list(x.shape), dtype="float32", buffer="sbuf"),
    ]
    nisa.memset(made[0], 1.0)
    nisa.memset(made[1], value=2.0)
    nisa.memset(dst=made[2], value=3.0, engine=nisa.gpsimd_engine)
    nisa.memset(made[3], 4, engine=nisa.engine.vector, name="fill_four")
    nisa.memset(dst=made[4], value=np.float32(5))
    return hbm_of(*made)


def test_tensors_are_made_in_every_form(both_ways):
    got = both_ways(creation, np.zeros((4, 3), np.float32))
    assert [np.unique(g).tolist() for g in got] == [[v] for v in (1.0, 2.0, 3.0, 4.0, 5.0)]


def element_wise(a, b, column):
    """tensor_tensor with 0 to 4, tensor_scalar with 2, 4, 8 and 9 positions, and the others."""
    x, y, c = tile_of(a), tile_of(b), tile_of(column)
    rows, n = x.shape
    o = [nl.ndarray((rows, n), nl.float32) for _ in range(16)]
    nisa.tensor_tensor(dst=o[0], data1=x, data2=y, op=nl.add)
    nisa.tensor_tensor(o[1], data1=x, data2=y, op=nl.subtract, name="difference")
    nisa.tensor_tensor(o[2], x, y, op=nl.multiply, engine=nisa.vector_engine)
    nisa.tensor_tensor(o[3], x, y, nl.maximum)
    nisa.tensor_scalar(dst=o[4], data=x, op0=nl.multiply, operand0=c, op1=nl.add, operand1=1.5)
    nisa.tensor_scalar(o[5], x, op0=nl.subtract, operand0=c, reverse0=True)
    nisa.tensor_scalar(o[6], x, nl.add, 2)
    nisa.tensor_scalar(o[7], x, nl.subtract, 1.0, True, nl.multiply, c, False)
    nisa.tensor_scalar(o[8], x, nl.multiply, 2.0, False, nl.subtract, c, True, nisa.engine.vector)
    nisa.scalar_tensor_tensor(
        dst=o[9], data=x, op0=nl.multiply, operand0=c, op1=nl.add, operand1=y, dtype=nl.float32
    )
    nisa.scalar_tensor_tensor(
        o[10], x, op0=nl.add, operand0=0.5, op1=nl.subtract, operand1=y, reverse1=True
    )
    nisa.activation(o[11], op=nl.copy, data=x, scale=2.0, bias=c)
    nisa.activation(o[12], nl.square, x)
    nisa.activation(dst=o[13], op=nl.abs, data=x, bias=None, scale=c, name="absolute")
    copies = nisa.get_nc_version() >= nisa.nc_version.gen3  # whether the scalar engine does
    nisa.tensor_copy(o[14], x, engine=nisa.scalar_engine if copies else nisa.gpsimd_engine)
    nisa.tensor_copy(dst=o[15], src=x, engine=nisa.engine.unknown, name="copied")
    return hbm_of(*o)


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_element_wise_instructions_take_every_form(both_ways, on):
    random = np.random.default_rng(0)
    a, b = (random.integers(-8, 9, (5, 7)).astype(np.float32) for _ in range(2))
    c = random.integers(1, 5, (5, 1)).astype(np.float32)
    got = both_ways(element_wise, a, b, c, on=on)
    for i, j in np.ndindex(a.shape):
        x, y, s = float(a[i, j]), float(b[i, j]), float(c[i, 0])
        wanted = [
            x + y, x - y, x * y, max(x, y), x * s + 1.5, s - x, x + 2, (1 - x) * s, s - 2 * x,
            x * s + y, y - (x + 0.5), 2 * x + s, x * x, abs(x * s), x, x,
        ]  # fmt: skip
        assert [float(g[i, j]) for g in got] == wanted


def reductions(a):
    """tensor_reduce with 0, 1, 3 and 4 positions, axes as int, tuple, list and negative."""
    x = tile_of(a)
    rows = x.shape[0]
    o = [nl.ndarray((rows, 1), nl.float32) for _ in range(8)]
    nisa.tensor_reduce(dst=o[0], op=nl.add, data=x, axis=1)
    nisa.tensor_reduce(o[1], op=nl.maximum, data=x, axis=[1], keepdims=True)
    nisa.tensor_reduce(o[2], nl.minimum, x, axis=(1,), negate=True)
    nisa.tensor_reduce(o[3], np.max, x, -1)
    wide = x.reshape((rows, 2, x.shape[1] // 2))
    halves = nl.ndarray((rows, 2), nl.float32)
    nisa.tensor_reduce(dst=halves, op=nl.add, data=wide, axis=2, name="halves")
    nisa.tensor_reduce(o[4], nl.add, wide, axis=(1, 2))
    nisa.tensor_scalar_reduce(
        dst=nl.ndarray(x.shape, nl.float32), data=x, op0=nl.multiply, operand0=2.0,
        reduce_op=nl.add, reduce_res=o[5],
    )  # fmt: skip
    nisa.activation_reduce(
        nl.ndarray(x.shape, nl.float32), op=nl.square, data=x, reduce_op=nl.add,
        reduce_res=o[6], bias=None,
    )  # fmt: skip
    nisa.activation(
        nl.ndarray(x.shape, nl.float32), op=nl.copy, data=x, reduce_op=nl.add, reduce_res=o[7],
        reduce_cmd=nisa.reduce_cmd.reset_reduce,
    )  # fmt: skip
    total = nl.ndarray((1, x.shape[1]), nl.float32)
    nisa.tensor_partition_reduce(total, nl.add, x)
    return hbm_of(*o, halves, total)


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_reductions_take_every_form(both_ways, on):
    a = np.random.default_rng(1).integers(-8, 9, (6, 8)).astype(np.float32)
    *got, halves, total = both_ways(reductions, a, on=on)
    for i, row in enumerate(a.tolist()):
        s = sum(row)
        wanted = [s, max(row), -min(row), max(row), s, 2 * s, sum(v * v for v in row), s]
        assert [float(g[i, 0]) for g in got] == wanted
        assert halves[i].tolist() == [sum(row[:4]), sum(row[4:])]
    assert total.tolist() == [[sum(column) for column in zip(*a.tolist(), strict=True)]]


def patterns(mask):
    """iota with 0, 1 and 2 positions, affine_select of 0.2 and 0.3, shuffles, transposes."""
    rows, n = 32, 32
    o = [nl.ndarray((rows, n), nl.float32) for _ in range(8)]
    nisa.iota(dst=o[0], pattern=[[1, n]], offset=0, channel_multiplier=0)
    nisa.iota(o[1], pattern=[[2, n]], offset=3, channel_multiplier=n)
    nisa.iota(o[2], [[0, 4], [1, n // 4]], offset=5)
    x = tile_of(mask)
    nisa.affine_select(
        o[3], pattern=[[1, n]], offset=0, channel_multiplier=-1, on_true_tile=x,
        on_false_value=-9.0, cmp_op=nl.less_equal,
    )  # fmt: skip
    nisa.affine_select(o[4], [[1, n]], 2, -1, x, -9.0, nl.greater)
    nisa.affine_select(
        dst=o[5], pattern=[[1, n]], channel_multiplier=1, on_true_tile=x, on_false_value=0.0,
        cmp_op=nl.equal, offset=-4,
    )  # fmt: skip
    nisa.nc_stream_shuffle(dst=o[6], src=x, shuffle_mask=[(i + 1) % 32 for i in range(32)])
    nisa.nc_transpose(o[7], x, engine=nisa.vector_engine)
    by_pe = nl.ndarray((n, rows), nl.float32, buffer=nl.psum)
    nisa.nc_transpose(dst=by_pe, data=x, engine=nisa.engine.tensor)
    return hbm_of(*o, by_pe)


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_patterns_take_every_form(both_ways, on):
    x = np.random.default_rng(2).standard_normal((32, 32)).astype(np.float32)
    got = both_ways(patterns, x, on=on)
    for i, j in np.ndindex(x.shape):
        wanted = [
            j, 3 + 2 * j + 32 * i, 5 + j % 8,
            x[i, j] if j <= i else -9, x[i, j] if 2 + j - i > 0 else -9,
            x[i, j] if i + j == 4 else 0, x[(i + 1) % 32, j], x[j, i], x[j, i],
        ]  # fmt: skip
        assert [float(g[i, j]) for g in got] == [float(w) for w in wanted]


def products(a, b):
    """nc_matmul with 0, 1 and 3 positions; accumulation by repetition, flag and position."""
    k, m = a.shape
    n = b.shape[1]
    x, y = tile_of(a), tile_of(b)
    o = [nl.ndarray((m, n), nl.float32, buffer=nl.psum) for _ in range(5)]
    for _ in range(2):
        nisa.nc_matmul(dst=o[0], stationary=x, moving=y)
    nisa.nc_matmul(o[1], stationary=x, moving=y, is_stationary_onezero=False)
    nisa.nc_matmul(o[1], x, y, accumulate=False)
    nisa.nc_matmul(o[2], x, y)
    nisa.nc_matmul(o[2], x, y, accumulate=True, perf_mode=nisa.matmul_perf_mode.none)
    # Column by column into one tile; then once more over all of it, which adds.
    for j in range(0, n, 8):
        nisa.nc_matmul(o[3][:, j : j + 8], x, y[:, nl.ds(j, 8)])
    nisa.nc_matmul(o[3][...], x[...], y[...])
    zeros = nl.zeros((m, n), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(zeros, x, y)
    nisa.tensor_copy(o[4], zeros)
    kept = [nl.ndarray((m, n), nl.float32) for _ in o]
    for to, source in zip(kept, o, strict=True):
        nisa.tensor_copy(dst=to, src=source)
    identity = nl.shared_identity_matrix(k, dtype=a.dtype)
    exact = nisa.get_nc_version() > nisa.nc_version.gen2  # else a product like others
    turned = nl.ndarray((m, k), a.dtype if exact else nl.float32, buffer=nl.psum)
    nisa.nc_matmul(turned, stationary=x, moving=identity, is_transpose=True)
    return hbm_of(*kept, turned)


@pytest.mark.parametrize("dtype", ["bfloat16", np.float32])
@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_products_take_every_form(both_ways, dtype, on):
    random = np.random.default_rng(3)
    a, b = (random.integers(-3, 4, (32, w)).astype(dtype) for w in (16, 24))
    *got, turned = both_ways(products, a, b, on=on)
    once = np.einsum("km,kn->mn", a.astype(np.int64), b.astype(np.int64))
    assert [(g / 1).tolist() for g in got] == [(once * f).tolist() for f in (2, 1, 2, 2, 1)]
    assert turned.tolist() == a.T.tolist()


def tiled_columns(a, b):
    """Column tiling: four products of 32 columns, each in its own columns of the array."""
    k = a.shape[0]
    n = b.shape[1]
    x, y = tile_of(a), tile_of(b)
    out = nl.ndarray((128, n), nl.float32, buffer=nl.psum)
    for i in range(4):
        nisa.nc_matmul(
            dst=out[nl.ds(i * 32, 32), :], stationary=x[:, nl.ds(i * 32, 32)], moving=y,
            tile_position=(0, i * 32), tile_size=(k, 32),
        )  # fmt: skip
    return hbm_of(out)


@pytest.mark.parametrize("k", [32, 64, 128])
@pytest.mark.parametrize("on", ["trn2", "trn3"])
def test_columns_of_the_array_work_side_by_side(both_ways, k, on):
    random = np.random.default_rng(k)
    a, b = (random.integers(-3, 4, (k, w)).astype("bfloat16") for w in (128, 16))
    (got,) = both_ways(tiled_columns, a, b, on=on)
    assert got.tolist() == (a.astype(np.int64).T @ b.astype(np.int64)).tolist()


def double_rows(a, b):
    """fp8 in double rows: an extra dimension of two that is contracted as well."""
    k, _, m = a.shape
    x, y = tile_of(a), tile_of(b)
    out = nl.ndarray((m, b.shape[2]), nl.float32, buffer=nl.psum)
    for _ in range(2):
        nisa.nc_matmul(
            dst=out, stationary=x, moving=y, perf_mode=nisa.constants.matmul_perf_mode.double_row
        )
    flat_x, flat_y = x.reshape((k, 2 * m)), y.reshape((k, 2 * b.shape[2]))
    for row in range(2):
        nisa.nc_matmul(out, flat_x[:, row * m : (row + 1) * m], flat_y[:, nl.ds(row * 16, 16)])
    return hbm_of(out)


@pytest.mark.parametrize("on", ["trn2", "trn3"])
def test_double_rows_contract_two_values_at_once(both_ways, on):
    random = np.random.default_rng(5)
    a, b = (random.integers(-3, 4, (128, 2, w)).astype("float8_e4m3") for w in (32, 16))
    (got,) = both_ways(double_rows, a, b, on=on)
    wanted = sum(a[:, r].astype(np.int64).T @ b[:, r].astype(np.int64) for r in (0, 1))
    assert got.tolist() == (3 * wanted).tolist()


def statistics(a, b):
    """bn_stats of pieces, bn_aggr, tensor_tensor_scan, predicated copies and n_gather."""
    x, y = tile_of(a), tile_of(b)
    rows, n = x.shape
    stats = nl.ndarray((rows, 2, 6), nl.float32)
    for i in range(2):
        nisa.bn_stats(dst=stats[:, i, :], data=x[:, nl.ds(i * n // 2, n // 2)])
    moments = nl.ndarray((rows, 2), nl.float32)
    nisa.bn_aggr(dst=moments, data=stats)
    start = nl.zeros((rows, 1), nl.float32)
    scan = nl.ndarray((rows, n), nl.float32)
    half = n // 2
    nisa.tensor_tensor_scan(
        dst=scan[:, :half], data0=x[:, :half], data1=y[:, :half], initial=start, op0=nl.multiply,
        op1=nl.add,
    )  # fmt: skip
    nisa.tensor_tensor_scan(
        scan[:, half:], x[:, half:], y[:, half:], scan[:, half - 1 : half], nl.multiply, nl.add
    )
    return hbm_of(moments, scan)


@pytest.mark.parametrize("on", ["trn1", "trn2", "trn3"])
def test_statistics_and_scans_go_on_from_piece_to_piece(both_ways, on):
    random = np.random.default_rng(6)
    a, b = (random.standard_normal((4, 32)).astype(np.float32) for _ in range(2))
    moments, scan = both_ways(statistics, a, b, on=on)
    np.testing.assert_allclose(moments[:, 0], a.mean(1), atol=1e-6)
    np.testing.assert_allclose(moments[:, 1], a.var(1), rtol=1e-5)
    for row in range(4):
        value = 0.0
        for j in range(32):
            value = float(a[row, j]) * value + float(b[row, j])
            assert scan[row, j] == pytest.approx(value, rel=1e-4, abs=1e-4)


def on_two_cores(x):
    """core_barrier and sendrecv in the forms of all versions; loops with ranges of nl."""
    me = nl.program_id(axis=0)
    assert nl.program_ndim() == 1
    assert nl.num_programs(axes=0) == nl.num_programs() == nl.num_programs(0) == 2
    tile, other = tile_of(x), nl.ndarray(x.shape, x.dtype)
    for i in nl.range(1):
        nisa.tensor_scalar(tile, tile, nl.add, float(me + i))
    nisa.sendrecv(
        src=tile, dst=other, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=0,
        dma_engine=nisa.dma_engine.dma,
    )  # fmt: skip
    third = nl.ndarray(x.shape, x.dtype)
    nisa.sendrecv(
        src=other, dst=third, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=1,
        use_gpsimd_dma=False,
    )  # fmt: skip
    counter = nl.zeros((1, 1), nl.int32)
    out = nl.ndarray((2, *x.shape), x.dtype, buffer=nl.shared_hbm, name="out")
    nisa.core_barrier(counter, (0, 1))
    nisa.core_barrier(out, cores=[0, 1])
    nisa.core_barrier(data=out, cores=(0, 1))
    nisa.dma_copy(out[me], other)
    nisa.core_barrier(out, (0, 1), nisa.engine.gpsimd)
    mine = nl.ndarray(x.shape, x.dtype)
    nisa.dma_copy(mine, out[1 - me])
    nisa.tensor_tensor(mine, mine, third, nl.subtract)
    last = nl.ndarray((2, *x.shape), x.dtype, buffer=nl.shared_hbm, name="last")
    nisa.dma_copy(last[me], mine)
    return out, last


@pytest.mark.parametrize("on", ["trn2", "trn3"])
def test_two_cores_meet_in_every_form(both_ways, on):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    out, last = both_ways(on_two_cores, x, on=on, lnc=2)
    assert out.tolist() == [(x + 1).tolist(), x.tolist()]
    assert (last == 0).all()


def queries():
    """The generation decides, ordered and compared as kernels do."""
    version = nisa.get_nc_version()
    out = nl.ndarray((1, 4), nl.int32, buffer=nl.shared_hbm)
    row = nl.ndarray((1, 4), nl.int32)
    flags = [
        version >= nisa.nc_version.gen3,
        version == nisa.nc_version.gen4,
        version < nisa.nc_version.gen3,
        nl.tile_size.psum_fmax == nl.tile_size.gemm_moving_fmax == 512,
    ]
    for i, flag in enumerate(flags):
        nisa.memset(row[:, i : i + 1], int(flag))
    nisa.dma_copy(out, row)
    return out


@pytest.mark.parametrize(("on", "generation"), [("trn1", 2), ("trn2", 3), ("trn3", 4)])
def test_kernels_ask_for_the_generation(on, generation):
    got = nki.run_kernel(queries, target=on).outputs
    assert got.tolist() == [[generation >= 3, generation == 4, generation == 2, 1]]

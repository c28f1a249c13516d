"""Microscaled kernels: quantise, multiply with packed weights, share scale tiles, two stages."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from tests.isa.mx import FORMATS, lanes, random_packed, scale_row, value_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PMAX = nl.tile_size.pmax


class QuantizedTile(nl.NKIObject):
    """Packed data and its scales; several tiles share one tile of scales, four rows apart."""

    data: nl.ndarray
    scale: nl.ndarray


def quantize(src, dtype, scales, slot: int) -> QuantizedTile:
    p, free = src.shape
    data = nl.ndarray((p, free // 4), dtype=dtype, buffer=nl.sbuf)
    columns = nl.ds(slot * 0, free // 4)
    view = scales[slot * 4 : p, columns] if p > 32 else scales[slot * 4 : slot * 4 + 4, columns]
    nisa.quantize_mx(src=src, dst=data, dst_scale=view)
    return QuantizedTile(data=data, scale=view)


def spread_scales(scales):
    """Scales [16, …] from HBM, four rows in each quadrant of a tile."""
    tile = nl.ndarray((PMAX, *scales.shape[1:]), nl.uint8, buffer=nl.sbuf)
    nisa.memset(dst=tile, value=0)
    for quadrant in nl.static_range(4):
        nisa.dma_copy(
            dst=tile[32 * quadrant : 32 * quadrant + 4, :, :],
            src=scales[4 * quadrant : 4 * quadrant + 4, :, :],
        )
    return tile


def project_down(hidden_mx, w_down, w_down_scale, bias):
    """Multiply a quantised tile by weights of four-bit floats, and add a row."""
    rows, t = hidden_mx.data.shape
    outer = bias.shape[1]
    down = nl.ndarray((rows, outer), nl.float4_e2m1fn_x4, buffer=nl.sbuf)
    nisa.dma_copy(down, w_down.reshape((rows, outer)))
    down_scale = nl.ndarray((rows // 8, outer), nl.uint8, buffer=nl.sbuf)
    nisa.dma_copy(down_scale, w_down_scale)
    result = nl.ndarray((t, outer), nl.float32, buffer=nl.psum, address=(0, 5 * 2048))
    nisa.nc_matmul_mx(result, hidden_mx.data, down, hidden_mx.scale, down_scale, accumulate=False)
    row = nl.ndarray((1, outer), nl.float32)
    nisa.dma_copy(row, bias)
    spread = nl.ndarray((t, outer), nl.float32)
    nisa.nc_stream_shuffle(dst=spread, src=row, shuffle_mask=[0] * 32)
    final = nl.ndarray((t, outer), nl.bfloat16)
    nisa.tensor_tensor(final, result, spread, nl.add)
    return final


def mlp(x, w_up, w_up_scale, w_down, w_down_scale, bias):
    """relu(x w_up) w_down with quantised activations and weights that arrive packed.

    x [T, H] bf16; w_up [128, H/512, I] packed along H by four, its scales [16, H/512, I];
    w_down [128, I/512 = 1, O] in four-bit floats; bias [1, O].
    """
    t, h = x.shape
    _, steps, inner = w_up.shape
    weights = nl.ndarray((PMAX, steps, inner), w_up.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=weights, src=w_up)
    weight_scales = spread_scales(w_up_scale)
    scales = nl.ndarray((PMAX, t), nl.uint8, buffer=nl.sbuf, name="x_scales")
    nisa.memset(scales, 0)
    product = nl.ndarray((inner, t), nl.float32, buffer=nl.psum)
    for step in nl.affine_range(steps):
        # x transposed so that partition p holds h = 4p … 4p + 3 of the step, beside each other.
        tile = nl.ndarray((PMAX, 4 * t), nl.bfloat16, buffer=nl.sbuf)
        nisa.dma_copy(
            dst=tile,
            src=x.ap(pattern=[[4, PMAX], [h, t], [1, 4]], offset=step * 4 * PMAX),
        )
        quantized = quantize(tile, nl.float8_e4m3fn_x4, scales, step)
        nisa.nc_matmul_mx(
            dst=product[...],
            stationary=weights[:, step, :],
            moving=quantized.data,
            stationary_scale=weight_scales[:, step, :],
            moving_scale=quantized.scale,
        )
    hidden = nl.ndarray((inner, t), nl.bfloat16, buffer=nl.sbuf)
    nisa.activation(dst=hidden, op=nl.relu, data=product)
    # [I, T] to I/4 partitions with four neighbours of I beside each other, through HBM.
    spill = nl.ndarray((inner, t), nl.bfloat16, buffer=nl.private_hbm)
    nisa.dma_copy(spill, hidden)
    rows = inner // 4
    packed = nl.ndarray((rows, 4 * t), nl.bfloat16, buffer=nl.sbuf)
    nisa.dma_copy(packed, spill.ap([[4 * t, rows], [1, t], [t, 4]]))
    hidden_mx = quantize(packed, nl.float8_e5m2_x4, scales, 3)
    final = project_down(hidden_mx, w_down, w_down_scale, bias)
    out = nl.ndarray(final.shape, nl.bfloat16, buffer=nl.shared_hbm)
    nisa.dma_copy(out, final)
    return out


def unpacked(words, packed, scales):
    """The numbers of packed words [P, ..., F] with scales [P/8, ..., F], [P, 4, ..., F]."""
    table = [float(value_of(code, packed)) for code in range(2 ** (sum(FORMATS[packed][:2]) + 1))]
    wide = np.empty((words.shape[0], 4, *words.shape[1:]))
    for at in np.ndindex(words.shape):
        factor = 2.0 ** (int(scales[(at[0] // 8, *at[1:])]) - 127)
        for lane, code in enumerate(lanes(int(words[at]), packed)):
            wide[(at[0], lane, *at[1:])] = table[code] * factor
    return wide


def test_two_quantised_stages_come_near_the_exact_product(both_ways):
    random = np.random.default_rng(7)
    t, h, inner, outer = 32, 1024, 128, 16
    x = random.standard_normal((t, h)).astype("bfloat16")
    up = random_packed((PMAX * 2, inner), "float8_e4m3fn_x4", 1).reshape(PMAX, 2, inner)
    up_scale = random.integers(118, 122, (16, 2, inner)).astype(np.uint8)
    down = random_packed((32, outer), "float4_e2m1fn_x4", 2)
    down_scale = random.integers(120, 124, (4, outer)).astype(np.uint8)
    bias = random.standard_normal((1, outer)).astype(np.float32)
    got = both_ways(
        mlp, x, up.astype(np.uint32).view(np.dtype("float8_e4m3fn_x4")), up_scale,
        down.astype(np.uint16).reshape(32, 1, outer).view(np.dtype("float4_e2m1fn_x4")),
        down_scale, bias, on="trn3",
    )  # fmt: skip
    w1 = unpacked(up, "float8_e4m3fn_x4", up_scale)  # [P, 4, steps, I]
    w1 = w1.transpose(2, 0, 1, 3).reshape(h, inner)
    w2 = unpacked(down, "float4_e2m1fn_x4", down_scale).reshape(inner, outer)
    hidden = np.maximum(x.astype(np.float64) @ w1, 0)
    wanted = hidden @ w2 + bias
    # Eight-bit floats keep 3 and 2 bits of mantissa: errors of 1/16 and 1/8 in a value, and these
    # average out over the sums of 1024 and 128.
    error = np.abs(got.astype(np.float64) - wanted).max() / np.abs(wanted).max()
    assert error < 0.06


def share_scales(x, dtype: str):
    """Four tiles whose scales share one tile; returns the data's bytes and all scales."""
    p, free = x.shape
    n = free // 16
    shared = nl.ndarray((p, n), nl.float8_e8m0fnu, buffer=nl.sbuf)
    nisa.memset(shared.view(nl.uint8), 0)
    codes = nl.ndarray((p, 4 * n), nl.uint32, buffer=nl.shared_hbm)
    tile = nl.ndarray((p, free), x.dtype)
    nisa.dma_copy(tile, x)
    data = nl.ndarray((p, 4 * n), dtype)
    for k in range(4):
        nisa.quantize_mx(
            dst=data.ap([[4 * n, p], [1, n]], offset=k * n),
            src=tile[:, 4 * n * k : 4 * n * (k + 1)],
            dst_scale=shared[4 * k :, :],
        )
    nisa.dma_copy(codes, data.ap([[4 * n, p], [1, 4 * n]], 0, dtype=nl.uint32))
    scales = nl.ndarray((p, n), nl.uint8, buffer=nl.shared_hbm)
    nisa.dma_copy(scales, shared.ap(pattern=[[n, p], [1, n]], offset=0, dtype=nl.uint8))
    return codes, scales


@pytest.mark.parametrize("dtype", ["float8_e4m3fn_x4", "float8_e5m2_x4"])
@pytest.mark.parametrize("p", [32, 64, 128])
def test_scales_of_four_tiles_share_the_rows_of_one(both_ways, p, dtype):
    x = np.random.default_rng(p).standard_normal((p, 32)).astype("bfloat16")
    codes, scales = both_ways(share_scales, x, dtype, on="trn3")
    for group in range(p // 8):
        for column in range(8):
            k, j = divmod(column, 2)
            part = x[8 * group : 8 * group + 8, 4 * column : 4 * column + 4].astype(np.float64)
            byte = int(scales[scale_row(group) + 4 * k, j])
            unit = 2.0 ** (byte - 127)
            # The largest value of a group lies in the highest binade but one that fits.
            assert 2 ** (FORMATS[dtype][2] - 1) <= np.abs(part).max() / unit
            for row in range(8):
                word = int(codes[8 * group + row, column])
                values = [float(value_of(c, dtype)) * unit for c in lanes(word, dtype)]
                step = 2.0 ** -(FORMATS[dtype][1] + 1)
                np.testing.assert_allclose(values, part[row], rtol=step, atol=unit * 2.0**-9)


def reinterpreted_weights(raw, scale, x):
    """Weights that come as int32 or as bytes, seen as packed through `.ap(dtype=)` and `.view`."""
    p, n4 = raw.shape
    n = n4 // 4
    tile = nl.ndarray((p, n4), nl.uint8)
    nisa.dma_copy(tile, raw)
    packed = tile.ap(pattern=[[n, p], [1, n]], offset=0, dtype=nl.float8_e4m3fn_x4)
    same = tile.view(nl.float8_e4m3fn_x4)
    assert same.shape == packed.shape == (p, n)
    scales = nl.ndarray((p // 8, n), nl.uint8)
    nisa.dma_copy(scales, scale)
    moving = nl.ndarray((p, x.shape[1]), nl.bfloat16)
    nisa.dma_copy(moving, x)
    quantized = nl.ndarray((p, x.shape[1] // 4), nl.float8_e4m3fn_x4)
    moving_scale = nl.ndarray((p // 8, x.shape[1] // 4), nl.uint8)
    nisa.quantize_mx(quantized, moving, moving_scale)
    outs = []
    for stationary in (packed, same):
        product = nl.ndarray((n, x.shape[1] // 4), nl.bfloat16, buffer=nl.psum)
        nisa.nc_matmul_mx(
            product, stationary, quantized, scales, moving_scale,
            tile_position=(0, 0), tile_size=(32, 128),
        )  # fmt: skip
        kept = nl.ndarray(product.shape, nl.bfloat16)
        nisa.tensor_copy(kept, product)
        out = nl.ndarray(product.shape, nl.bfloat16, buffer=nl.shared_hbm)
        nisa.dma_copy(out, kept)
        outs.append(out)
    return outs


def test_bytes_are_seen_as_packed_weights(both_ways):
    words = random_packed((32, 6), "float8_e4m3fn_x4", 3).astype(np.uint32)
    scale = np.full((4, 6), 127, np.uint8)
    x = np.random.default_rng(0).integers(-4, 5, (32, 20)).astype("bfloat16")
    one, two = both_ways(reinterpreted_weights, words.view(np.uint8), scale, x, on="trn3")
    assert one.tobytes() == two.tobytes()
    weights = unpacked(words, "float8_e4m3fn_x4", scale).reshape(128, 6)
    values = x.astype(np.float64).reshape(32, 5, 4).transpose(0, 2, 1).reshape(128, 5)
    # Integers up to four are exact in e4m3; the result is rounded to bfloat16.
    np.testing.assert_allclose(one.astype(np.float64), weights.T @ values, rtol=2**-8)

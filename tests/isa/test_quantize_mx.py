from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.isa.tensor import AccessPattern
from tests.isa.bench import Bench, normals
from tests.isa.generations import layouts, on_every_generation, seeds
from tests.isa.mx import lanes, nearest, scale_byte, scale_row

PACKED = ["float8_e4m3fn_x4", "float8_e5m2_x4"]


def tiles(bench, rows=32, columns=2, kind="bfloat16", packed=PACKED[0], scale=None):
    return {
        "dst": bench.empty((rows, columns), packed),
        "src": bench.empty((rows, 4 * columns), kind),
        "dst_scale": scale or bench.empty((rows, columns), "uint8"),
    }


@on_every_generation(
    "quantize_mx",
    packed=st.sampled_from(PACKED),
    kind=st.sampled_from(["bfloat16", "float16"]),
    rows=st.sampled_from([32, 64, 128]),
    seed=seeds,
    lay=layouts,
)
def test_each_group_gets_a_power_of_two_and_the_nearest_elements(
    core, packed, kind, rows, seed, lay
):
    bench = Bench(core)
    x = normals((rows, 8), seed) * np.exp2(4 * normals((rows, 8), seed + 1)).clip(0, 1024)
    x[:8, :4] = 0  # a group of zeros
    scale = bench.tile(np.zeros((rows, 2)), "uint8")
    named = tiles(bench, rows, packed=packed, scale=scale)
    named["src"] = bench.lay(x, replace(lay, start=0), kind)
    bench.run("quantize_mx", **named)
    stored = bench.seen(named["src"]).astype(np.float64)
    words = bench.read(named["dst"])
    scales = bench.read(named["dst_scale"])
    for group in range(rows // 8):
        for column in range(2):
            block = stored[8 * group : 8 * group + 8, 4 * column : 4 * column + 4]
            expected = scale_byte(block.ravel().tolist(), packed)
            assert scales[scale_row(group), column] == expected
            for p in range(8):
                codes = lanes(int(words[8 * group + p, column]), packed)
                for lane, code in enumerate(codes):
                    scaled = Fraction(block[p, lane]) / Fraction(2) ** (expected - 127)
                    assert code & 0x7F in [c & 0x7F for c in nearest(scaled, packed)]


def test_only_the_scales_rows_are_written(trn3):
    scale = trn3.tile(np.full((128, 2), 77), "uint8")
    named = tiles(trn3, 128, scale=scale)
    named["src"] = trn3.tile(normals((128, 8)), "bfloat16")
    trn3.run("quantize_mx", **named)
    changed = {p for p in range(128) if (trn3.read(scale)[p] != 77).any()}
    assert changed == {scale_row(group) for group in range(16)}


@pytest.mark.parametrize("first", [4, 8, 12])
def test_scales_of_several_operands_share_a_tile(trn3, first):
    whole = trn3.tile(np.full((128, 2), 77), "uint8")
    part = AccessPattern(whole.tensor, (128 - first, 2), (2, 1), 2 * first)
    named = tiles(trn3, 128, scale=part)
    named["src"] = trn3.tile(normals((128, 8)), "bfloat16")
    trn3.run("quantize_mx", **named)
    changed = {p for p in range(128) if (trn3.read(whole)[p] != 77).any()}
    assert changed == {first + scale_row(group) for group in range(16)}


def test_the_scales_of_one_quadrant_are_four_rows(trn3):
    scale = trn3.empty((4, 2), "float8_e8m0fnu")
    named = tiles(trn3, 32, scale=scale)
    named["src"] = trn3.tile(np.ones((32, 8)), "bfloat16")
    trn3.run("quantize_mx", **named)
    # 2^0 / 2^(8 - 1): the largest exponent of e4m3fn is 8.
    np.testing.assert_array_equal(trn3.read(scale).view(np.uint8), 120)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rows": 16}, "src has 16 partitions"),
        ({"kind": "float32"}, "src .* is float32"),
        ({"packed": "float4_e2m1fn_x4"}, "dst .* is float4_e2m1fn_x4"),
    ],
)
def test_operands_that_it_cannot_quantise_are_refused(trn3, changes, match):
    with pytest.raises(HardwareLimitError, match=match):
        trn3.form("quantize_mx", **tiles(trn3, **changes))


def test_scales_that_start_elsewhere_are_refused(trn3):
    whole = trn3.empty((128, 2), "uint8")
    part = AccessPattern(whole.tensor, (126, 2), (2, 1), 4)
    with pytest.raises(HardwareLimitError, match="dst_scale starts at partition 2"):
        trn3.form("quantize_mx", **tiles(trn3, 128, scale=part))


def test_scales_that_miss_a_quadrant_are_refused(trn3):
    with pytest.raises(HardwareLimitError, match="at least 36 partitions"):
        trn3.form("quantize_mx", **tiles(trn3, 64, scale=trn3.empty((8, 2), "uint8")))


@pytest.mark.parametrize("earlier", ["trn1", "trn2"])
def test_it_exists_from_v4_on(earlier, request):
    bench = request.getfixturevalue(earlier)
    named = tiles(bench, packed="uint32")
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v4 on"):
        bench.form("quantize_mx", **named)


def test_four_elements_take_a_cycle(trn3):
    form = trn3.form("quantize_mx", **tiles(trn3, 128, 512))
    assert form.cost.cycles == 512  # A4: 4 elements a partition and cycle

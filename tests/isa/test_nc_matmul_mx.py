from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from emuron.isa.tensor import AccessPattern
from tests.isa.bench import Bench
from tests.isa.generations import layouts, on_every_generation, seeds
from tests.isa.mx import lanes, random_packed, scale_row, value_of

PACKED = ["float8_e4m3fn_x4", "float8_e5m2_x4", "float4_e2m1fn_x4"]


def random_scales(rows, columns, seed):
    return np.random.default_rng(seed).integers(122, 132, (rows, columns))


def spread(scales, rows, first=0):
    """Scales [P/8, F] where the hardware wants them in a tile of all partitions."""
    tile = np.full((rows, scales.shape[1]), 255)
    for group, row in enumerate(scales):
        tile[first + scale_row(group)] = row
    return tile


def exact(a, b, scale_a, scale_b, kinds):
    """The sum of scaled products over partitions and lanes, in fractions."""
    rows, columns = a.shape[1], b.shape[1]
    result = np.zeros((rows, columns))
    wide = [
        [
            [
                [value_of(code, kind) * Fraction(2) ** (int(s[p // 8, f]) - 127) for code in codes]
                for f, codes in enumerate(lanes(int(w), kind) for w in words[p])
            ]
            for p in range(len(words))
        ]
        for words, s, kind in ((a, scale_a, kinds[0]), (b, scale_b, kinds[1]))
    ]
    for m in range(rows):
        for n in range(columns):
            terms = zip(wide[0], wide[1], strict=True)
            result[m, n] = sum(
                x * y for left, right in terms for x, y in zip(left[m], right[n], strict=True)
            )
    return result


def named(bench, rows=32, m=2, n=3, kinds=("float8_e4m3fn_x4",) * 2, dst="float32"):
    return {
        "dst": bench.empty((m, n), dst, "psum"),
        "stationary": bench.empty((rows, m), kinds[0]),
        "moving": bench.empty((rows, n), kinds[1]),
        "stationary_scale": bench.empty((rows, m), "uint8"),
        "moving_scale": bench.empty((rows, n), "uint8"),
    }


@on_every_generation(
    "nc_matmul_mx",
    first=st.sampled_from(PACKED),
    second=st.sampled_from(PACKED),
    rows=st.sampled_from([32, 64, 128]),
    seed=seeds,
    lay=st.tuples(layouts, layouts),
)
def test_it_adds_scaled_products_over_partitions_and_lanes(core, first, second, rows, seed, lay):
    bench = Bench(core)
    a, b = random_packed((rows, 2), first, seed), random_packed((rows, 3), second, seed + 1)
    scales = random_scales(rows // 8, 2, seed), random_scales(rows // 8, 3, seed + 1)
    given = named(bench, rows, kinds=(first, second))
    given["dst"] = bench.room((2, 3), lay[0], where="psum")
    given["stationary"] = bench.lay(a, replace(lay[1], start=0), first)
    given["moving"] = bench.tile(b, second)
    given["stationary_scale"] = bench.tile(spread(scales[0], rows), "uint8")
    given["moving_scale"] = bench.tile(spread(scales[1], rows, 4), "float8_e8m0fnu", bits=True)
    given["moving_scale"] = AccessPattern(
        given["moving_scale"].tensor, (rows - 4, 3), (3, 1), 4 * 3
    )
    bench.run("nc_matmul_mx", **given)
    expected = exact(a, b, *scales, (first, second))
    # Sums of up to 512 products in fp32.
    np.testing.assert_allclose(
        bench.seen(given["dst"]), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize(("accumulate", "factor"), [(None, 2), (True, 2), (False, 1)])
def test_products_accumulate_as_those_of_nc_matmul(trn3, accumulate, factor):
    given = named(trn3)
    for name in ("stationary", "moving"):
        given[name] = trn3.tile(np.full(given[name].shape, 0x38383838), "float8_e4m3fn_x4")
        given[f"{name}_scale"] = trn3.tile(np.full(given[name].shape, 127), "uint8")
    trn3.run("nc_matmul_mx", **given)
    trn3.run("nc_matmul_mx", **given, accumulate=accumulate)
    np.testing.assert_array_equal(trn3.values(given["dst"]), factor * 32 * 4)  # 0x38 is 1.0


def test_a_bfloat16_destination_is_rounded(trn3):
    given = named(trn3, 64, dst="bfloat16")
    for name in ("stationary", "moving"):
        given[name] = trn3.tile(np.full(given[name].shape, 0x38383838), "float8_e4m3fn_x4")
    given["stationary_scale"] = trn3.tile(np.full((64, 2), 127), "uint8")
    given["moving_scale"] = trn3.tile(spread(np.array([[127] * 3] * 7 + [[119] * 3]), 64), "uint8")
    trn3.run("nc_matmul_mx", **given)
    # 224 + 32 / 256 lies within the spacing of 1 of bfloat16.
    np.testing.assert_array_equal(trn3.values(given["dst"]), 224)


@pytest.mark.parametrize(
    ("changes", "more", "match"),
    [
        ({"m": 3}, {}, "3 columns, an odd number"),
        ({"rows": 16}, {}, "stationary has 16 partitions"),
        ({"kinds": ("bfloat16",) * 2}, {}, "stationary .* is bfloat16"),
        ({"m": 130}, {}, "stationary has 130 columns"),
        ({"n": 4097}, {}, "moving has 4097 columns; the limit is 4096"),
        ({}, {"tile_position": (0, 64), "tile_size": (64, 64)}, "Only rows can be chosen"),
        ({"rows": 128}, {"tile_position": (0, 0), "tile_size": (64, 128)}, "stationary is 128 x 2"),
    ],
)
def test_operands_outside_the_array_are_refused(trn3, changes, more, match):
    with pytest.raises(HardwareLimitError, match=match):
        trn3.form("nc_matmul_mx", **named(trn3, **changes), **more)


@pytest.mark.parametrize("earlier", ["trn1", "trn2"])
def test_it_exists_from_v4_on(earlier, request):
    bench = request.getfixturevalue(earlier)
    with pytest.raises(HardwareLimitError, match="exists from NeuronCore-v4 on"):
        bench.form("nc_matmul_mx", **named(bench))


def test_it_takes_the_time_of_a_bfloat16_product_and_does_four_times_the_work(trn3):
    cost = trn3.form("nc_matmul_mx", **named(trn3, 128, 128, 512)).cost
    assert cost.cycles == 512 + trn3.core.timing.matmul_bubble_cycles
    assert cost.flops == 2 * 512 * 128 * 512

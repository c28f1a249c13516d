from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from emuron.errors import HardwareLimitError
from tests.isa.bench import Bench, integers, small
from tests.isa.generations import (
    KINDS,
    on_every_generation,
)


def test_a_shuffle_picks_rows_within_each_quadrant(bench):
    x, old = integers((64, 3)), integers((64, 3), 1)
    mask = tuple(255 if i == 5 else (7 * i) % 32 for i in range(32))
    dst = bench.tile(old)
    bench.run("nc_stream_shuffle", dst=dst, src=bench.tile(x), shuffle_mask=mask)
    for row in range(64):
        quadrant, i = divmod(row, 32)
        expected = old[row] if i == 5 else x[32 * quadrant + (7 * i) % 32]
        np.testing.assert_array_equal(bench.values(dst)[row], expected)


def test_a_shuffle_broadcasts_one_row(bench):
    dst = bench.empty((32, 3))
    row = integers((1, 3))
    bench.run("nc_stream_shuffle", dst=dst, src=bench.tile(row), shuffle_mask=(0,) * 32)
    np.testing.assert_array_equal(bench.values(dst), np.repeat(row, 32, axis=0))


@pytest.mark.parametrize(
    ("mask", "match"), [((0,) * 31, "has 31 entries"), ((32,) + (0,) * 31, "holds 32")]
)
def test_a_shuffle_refuses_masks_of_another_kind(bench, mask, match):
    tiles = {"dst": bench.empty((32, 3)), "src": bench.empty((32, 3))}
    with pytest.raises(HardwareLimitError, match=match):
        bench.form("nc_stream_shuffle", **tiles, shuffle_mask=mask)


@on_every_generation(
    "nc_stream_shuffle",
    rows=st.sampled_from([32, 64, 128]),
    count=st.integers(1, 4),
    kind=st.sampled_from(KINDS),
    mask=st.lists(st.one_of(st.integers(0, 31), st.just(255)), min_size=32, max_size=32),
)
def test_each_row_comes_from_its_quadrant(core, rows, count, kind, mask):
    bench = Bench(core)
    x, old = small((rows, count), kind), small((rows, count), kind, 1)
    dst = bench.tile(old, kind)
    bench.run("nc_stream_shuffle", dst=dst, src=bench.tile(x, kind), shuffle_mask=tuple(mask))
    for row in range(rows):
        entry = mask[row % 32]
        expected = old[row] if entry == 255 else x[row - row % 32 + entry]
        assert bench.values(dst)[row].tolist() == expected.tolist()


def test_a_shuffle_streams(bench):
    tiles = {"dst": bench.empty((32, 512)), "src": bench.empty((32, 512))}
    form = bench.form("nc_stream_shuffle", **tiles, shuffle_mask=(0,) * 32)
    assert form.cost.cycles == 512  # ISA v2.26

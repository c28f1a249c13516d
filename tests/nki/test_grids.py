"""Grids of tiles and blocks: what they select equals slices of an array of the elements."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import OutOfBoundsError, UsageError

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def numbered(*shape):
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


@st.composite
def selections(draw):
    """Draw a shape, its tiles and a slice of tiles in each dimension."""
    shape = tuple(draw(st.integers(1, 9)) for _ in range(draw(st.integers(1, 3))))
    tile = tuple(draw(st.integers(1, 5)) for _ in shape)
    spans = []
    for size, step in zip(shape, tile, strict=True):
        count = -(-size // step)
        first = draw(st.integers(0, count - 1))
        spans.append((first, draw(st.integers(first + 1, count))))
    return shape, tile, spans


@SHARED
@given(selections())
def test_a_tile_grid_selects_the_elements_of_its_tiles(active, in_hbm, case):
    shape, tile, spans = case
    source = numbered(*shape)
    grid = nl.tiles(in_hbm(source), tile_shape=tile)
    assert grid.shape == tuple(-(-n // t) for n, t in zip(shape, tile, strict=True))
    chosen = grid[tuple(slice(a, b) for a, b in spans)]
    wanted = source
    for axis, ((a, b), step) in enumerate(zip(spans, tile, strict=True)):
        wanted = wanted.take(range(a * step, min(b * step, shape[axis])), axis)
    assert isinstance(chosen, nl.NkiTileGrid)
    assert chosen.element_shape == wanted.shape
    assert active.contents(chosen.data).tolist() == wanted.tolist()
    assert chosen.is_remainder == any(n % t for n, t in zip(wanted.shape, tile, strict=True))


def test_blocks_hold_tiles_which_can_be_selected_in_turn(active, in_hbm):
    source = numbered(10, 12)
    grid = nl.blocks(in_hbm(source), tile_shape=(2, 3), block_shape=(2, 2))
    assert (grid.shape, grid.index_step_elements, grid.block_shape) == ((3, 2), (4, 6), (2, 2))
    block = grid[1, 1]
    assert isinstance(block, nl.NkiBlockGrid)
    assert active.contents(block.data).tolist() == source[4:8, 6:12].tolist()
    tile = nl.tiles(block)[1, 0]
    assert active.contents(tile.data).tolist() == source[6:8, 6:9].tolist()
    assert grid[-1].element_shape == (2, 12)
    assert grid[-1].is_remainder


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.private_hbm])
def test_an_allocated_grid_holds_more_rows_than_a_tile(active, in_hbm, buffer):
    source = numbered(300, 8)
    grid = nl.alloc_tiles(
        tile_shape=(128, 4), element_shape=(300, 8), buffer=buffer, dtype=nl.float32
    )
    assert (grid.shape, grid.buffer, grid.dtype) == ((3, 2), buffer, "float32")
    for row in range(3):
        for column in range(2):
            tile = grid[row, column]
            part = source[row * 128 : (row + 1) * 128, column * 4 : (column + 1) * 4]
            assert tile.element_shape == part.shape
            nisa.dma_copy(tile.data, in_hbm(part.copy()))
    for row in range(3):
        part = source[row * 128 : (row + 1) * 128]
        assert active.contents(grid[row].data).reshape(part.shape).tolist() == part.tolist()


def test_several_whole_tile_rows_on_chip_are_one_view_and_partial_ones_are_not(active):
    grid = nl.alloc_blocks(
        tile_shape=(4, 2),
        block_shape=(2, 1),
        element_shape=(10, 2),
        buffer=nl.sbuf,
        dtype=nl.float32,
    )
    assert grid[0].is_data_representable
    assert grid[0].data.shape == (4, 2, 2)
    tiles = nl.tiles(grid)
    assert not tiles[1:].is_data_representable
    with pytest.raises(UsageError, match="rows end within a tile of 4"):
        tiles[1:].data  # noqa: B018
    assert tiles[2].data.shape == (2, 2)
    with pytest.raises(ValueError, match="keep their 4 rows"):
        nl.tiles(grid, tile_shape=(2, 2))


def test_tensors_and_grids_have_data(active):
    tile = nl.ndarray((4, 2), nl.float32)
    assert tile.data is tile
    assert [part.element_shape for part in nl.tiles(tile, tile_shape=(3, 2))] == [(3, 2), (1, 2)]
    assert len(nl.tiles(tile)) == 1


@pytest.mark.parametrize(
    ("error", "shape"),
    [(TypeError, [2, 2]), (TypeError, (2, True)), (ValueError, (0, 2)), (ValueError, (2, 2, 2))],
)
def test_shapes_are_tuples_of_exact_ints(active, error, shape):
    tile = nl.ndarray((4, 2), nl.float32)
    with pytest.raises(error, match="tile_shape"):
        nl.tiles(tile, tile_shape=shape)
    with pytest.raises(error, match="block_shape"):
        nl.blocks(tile, tile_shape=(1, 1), block_shape=shape)


@pytest.mark.parametrize("key", [2, -3, slice(1, 3), slice(0, 2, 2), slice(1, 1)])
def test_an_index_outside_a_grid_raises(active, key):
    grid = nl.tiles(nl.ndarray((4, 2), nl.float32), tile_shape=(2, 2))
    with pytest.raises(OutOfBoundsError, match=r"grid of \[2, 1\] tiles"):
        grid[key]

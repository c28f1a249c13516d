"""Contents of tiles live as long as a view of the tile."""

from __future__ import annotations

import numpy as np
import pytest

import emuron.nki as nki
import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UninitializedReadError
from emuron.nki.recorder import recorder

ROWS, COLUMNS = 128, 64


def _held() -> int:
    """Return the number of tiles whose contents the running machine holds."""
    storages = recorder().executor.machine.storages
    return sum(tensor.buffer.is_on_chip for tensor in storages)


def _filled(value: float):
    tile = nl.ndarray((ROWS, COLUMNS), nl.float32)
    nisa.memset(tile, value)
    return tile


def test_tiles_of_a_loop_do_not_pile_up():
    counts = []

    def kernel():
        for step in range(20):
            _filled(step)
            counts.append(_held())

    nki.simulate(kernel)()
    assert max(counts) <= 1


@pytest.mark.parametrize(
    "view_of",
    [
        lambda tile: tile[0:4, 0:8],
        lambda tile: tile[:, 3],
        lambda tile: tile.reshape((ROWS, 8, 8)).permute((0, 2, 1)),
        lambda tile: tile.view(nl.int32).view(nl.float32)[32:33, :],
        lambda tile: tile.ap([[COLUMNS, 4], [2, 8]], offset=1),
        lambda tile: tile.expand_dim(1),
    ],
)
def test_a_view_keeps_the_contents_of_its_tile(view_of):
    def kernel():
        view = view_of(_filled(7.0))
        other = _filled(1.0)
        copy = nl.ndarray(view.shape, nl.float32)
        nisa.tensor_copy(copy, view)
        nisa.tensor_copy(nl.ndarray(other.shape, nl.float32), other)
        out = nl.ndarray(view.shape, nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=copy)
        return out

    assert (nki.simulate(kernel)() == 7.0).all()


def test_a_new_tile_on_reused_memory_is_unwritten():
    def kernel():
        _filled(1.0)
        fresh = nl.ndarray((ROWS, COLUMNS), nl.float32)
        nisa.tensor_copy(fresh[:, 0:4], _filled(2.0)[:, 0:4])
        nisa.tensor_copy(nl.ndarray((ROWS, COLUMNS), nl.float32), fresh)

    with pytest.raises(UninitializedReadError, match=r"partition 0, byte 16"):
        nki.simulate(kernel)()


def test_a_product_on_reused_psum_starts_anew():
    ones = np.ones((ROWS, ROWS), np.float32)

    def kernel(x):
        tile = nl.ndarray((ROWS, ROWS), nl.float32)
        nisa.dma_copy(dst=tile, src=x)
        out = nl.ndarray((ROWS, ROWS), nl.float32, buffer=nl.shared_hbm)
        for _ in range(2):
            product = nl.ndarray((ROWS, ROWS), nl.float32, buffer=nl.psum)
            nisa.nc_matmul(product, tile, tile)
            result = nl.ndarray((ROWS, ROWS), nl.float32)
            nisa.tensor_copy(result, product)
            nisa.dma_copy(dst=out, src=result)
        return out

    assert (nki.simulate(kernel)(ones) == ROWS).all()

"""Reads of what nothing has written."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UninitializedReadError
from tests.illegal.table import Table
from tests.illegal.tiles import hbm, sbuf

TABLE = Table("NKI 0.6, nki.simulate: fresh memory is poisoned")


@TABLE.refuses(
    "A tile is written before it is read.",
    "tensor_copy reads src … partition 0, byte 0 … Write all",
    UninitializedReadError,
    runs=True,
)
def a_read_of_a_fresh_tile():
    nisa.tensor_copy(sbuf(4, 4), nl.ndarray((4, 4), nl.float32, buffer=nl.sbuf))


@TABLE.refuses(
    "A tile is written before it is read.",
    "tensor_copy reads src … psum … never written … Write all",
    UninitializedReadError,
    runs=True,
)
def a_read_of_fresh_psum():
    nisa.tensor_copy(sbuf(4, 4), nl.ndarray((4, 4), nl.float32, buffer=nl.psum))


@TABLE.refuses(
    "A tensor is written before it is read.",
    "dma_copy reads src … shared_hbm … byte 0 … Write all",
    UninitializedReadError,
    runs=True,
)
def a_load_of_what_nothing_stored():
    nisa.dma_copy(dst=sbuf(4, 4), src=hbm(4, 4))


@TABLE.refuses(
    "All that is read has been written.",
    "tensor_copy reads src … partition 0, byte 16 … Write all",
    UninitializedReadError,
    runs=True,
)
def a_read_of_a_tile_written_in_part():
    tile = nl.ndarray((4, 8), nl.float32, buffer=nl.sbuf)
    nisa.memset(tile[:, 0:4], 0)
    nisa.tensor_copy(sbuf(4, 8), tile)


@TABLE.refuses(
    "All that is read has been written.",
    "tensor_copy reads src … partition 32, byte 0 … Write all",
    UninitializedReadError,
    runs=True,
)
def a_read_of_a_partition_that_nothing_wrote():
    tile = nl.ndarray((64, 8), nl.float32, buffer=nl.sbuf)
    nisa.memset(tile[0:32], 0)
    nisa.tensor_copy(sbuf(64, 8), tile)

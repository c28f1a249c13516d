"""Allocation, capacity, addresses, start partitions and outputs."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import CapacityError, UninitializedReadError, UnknownNameError, UsageError
from tests.illegal.table import Table
from tests.illegal.tiles import hbm, psum, sbuf

TABLE = Table("NKI 0.6, nki.language.ndarray")


@TABLE.refuses(
    "The partition dimension exceeds the maximum of 128.",
    "ndarray … 129 … 128 … Split dimension 0",
    UsageError,
)
def more_partitions_than_there_are():
    nl.ndarray((129, 4), nl.float32, buffer=nl.sbuf)


@TABLE.refuses(
    "A dimension has at least one element.",
    "Tensor ndarray … [0, 4] … at least 1",
    UsageError,
)
def an_empty_tensor():
    nl.ndarray((0, 4), nl.float32, buffer=nl.sbuf)


@TABLE.refuses(
    "A shape is a tuple of ints.",
    "The shape … 4.5 … must be a tuple of ints",
    UsageError,
)
def a_shape_that_is_no_tuple_of_ints():
    nl.ndarray((4, 4.5), nl.float32, buffer=nl.sbuf)


@TABLE.refuses(
    "SBUF of Trainium2 has 224 KiB in each partition, less what the compiler keeps.",
    "ndarray … 240000 … 212992 … Tile its free",
    CapacityError,
    source="Trainium2 architecture guide for NKI",
)
def a_tile_larger_than_a_partition_of_sbuf():
    nl.ndarray((128, 60_000), nl.float32, buffer=nl.sbuf)


@TABLE.refuses(
    "PSUM has 16 KiB in each partition.",
    "ndarray … 20000 … 16384 … Tile its free",
    CapacityError,
    source="Trainium2 architecture guide for NKI",
)
def a_tile_larger_than_a_partition_of_psum():
    nl.ndarray((128, 5000), nl.float32, buffer=nl.psum)


@TABLE.refuses(
    "All tiles alive at one time fit in SBUF.",
    "240000 bytes of SBUF … (memory.py: … 212992 … Use smaller tiles",
    CapacityError,
    source="Trainium2 architecture guide for NKI",
    is_placed=False,
)
def tiles_that_do_not_fit_together():
    tiles = [nl.ndarray((128, 20_000), nl.float32, buffer=nl.sbuf) for _ in range(3)]
    for tile in tiles:
        nisa.memset(tile, 0)
    for tile in tiles[1:]:
        nisa.tensor_tensor(tiles[0], tiles[0], tile, nl.add)


@TABLE.refuses(
    "PSUM has 8 banks of 2 KiB in each partition.",
    "18432 bytes of PSUM … NeuronCore-v3 has … 16384 … Use smaller tiles",
    CapacityError,
    source="Trainium2 architecture guide for NKI",
    is_placed=False,
)
def more_banks_than_there_are():
    products = [psum(128, 512) for _ in range(9)]
    total = sbuf(128, 512)
    for product in products:
        nisa.tensor_tensor(total, total, product, nl.add)


@TABLE.refuses(
    "PSUM tensors start at a bank boundary.",
    "ndarray … 100 … 2048 … Use a multiple",
    source="NKI 0.2 release notes",
)
def an_address_inside_a_bank():
    nl.ndarray((128, 4), nl.float32, buffer=nl.psum, address=(0, 100))


@TABLE.refuses(
    "An address lies in the memory, with all of the tensor.",
    "ndarray … 213300 … 212992 … Place it lower",
    CapacityError,
)
def an_address_past_the_end_of_a_partition():
    nl.ndarray((128, 100), nl.float32, buffer=nl.sbuf, address=(0, 212_900))


@TABLE.refuses(
    "An address lies in the memory, with all of the tensor.",
    "ndarray … partition 160 … 128 partitions … Place it lower",
    CapacityError,
)
def an_address_past_the_last_partition():
    nl.ndarray((64, 100), nl.float32, buffer=nl.sbuf, address=(96, 0))


@TABLE.refuses(
    "Addresses are multiples of the element's size.",
    "ndarray … byte 2 … 4 bytes … Align it",
    UsageError,
)
def an_address_between_elements():
    nl.ndarray((64, 100), nl.float32, buffer=nl.sbuf, address=(0, 2))


@TABLE.refuses(
    "An address is (partition, byte in the partition).",
    "Tensor ndarray … -4 … must be (partition, byte in the partition), not negative",
    UsageError,
)
def a_negative_address():
    nl.ndarray((64, 100), nl.float32, buffer=nl.sbuf, address=(0, -4))


@TABLE.refuses(
    "An address in HBM is a 1-tuple.",
    "Tensor ndarray … (0, 0) … must be (byte,)",
    UsageError,
    source="NKI 0.7, nki.language.ndarray",
)
def an_address_of_a_partition_in_hbm():
    nl.ndarray((64, 100), nl.float32, buffer=nl.hbm, address=(0, 0))


@TABLE.refuses(
    "The memories are sbuf, psum, private_hbm (hbm) and shared_hbm.",
    "buffer= … sram … use nl.sbuf, nl.psum",
    UsageError,
)
def an_unknown_memory():
    nl.ndarray((4, 4), nl.float32, buffer="sram")


@TABLE.refuses(
    "The data types are those of the table; there is none of 64 bits of floating point.",
    "Unknown dtype … float64 … Did you mean … Known:",
    UnknownNameError,
    source="NKI 0.6, data types",
)
def an_unknown_dtype():
    nl.ndarray((4, 4), "float64", buffer=nl.sbuf)


@TABLE.refuses(
    "No 64-bit types on chip.",
    "ndarray … int64 … 4 bytes … Use a type of",
    source="NKI 0.6, data types",
)
def a_64_bit_integer_on_chip():
    nl.ndarray((4, 4), "int64", buffer=nl.sbuf)


@TABLE.refuses(
    "float8_e4m3fn exists from Trainium3 on.",
    "memset: dst … float8_e4m3fn … NeuronCore-v3 does not have … Use one of",
    source="NKI 0.4 release notes",
)
def a_dtype_of_a_later_generation():
    nisa.memset(nl.ndarray((4, 4), nl.float8_e4m3fn, buffer=nl.sbuf), 0)


@TABLE.refuses(
    "Accesses of up to 32 partitions start at 0, 32, 64 or 96.",
    "tensor_copy … partition 17 … 0, 32, 64, 96 … Place the tile",
    source="Trainium/Inferentia2 architecture guide for NKI",
)
def few_partitions_from_an_odd_start():
    tile = sbuf(128, 8)
    nisa.tensor_copy(tile[17:33], tile[0:16])


@TABLE.refuses(
    "Accesses of 33 to 64 partitions start at 0 or 64.",
    "tensor_copy … partition 32 … 0, 64 … Place the tile",
    source="Trainium/Inferentia2 architecture guide for NKI",
)
def half_of_the_partitions_from_a_quarter():
    tile = sbuf(128, 8)
    nisa.tensor_copy(tile[32:96], tile[0:64])


@TABLE.refuses(
    "Accesses of more than 64 partitions start at 0.",
    "tensor_copy … partition 28 … start at 0 … Place the tile",
    source="Trainium/Inferentia2 architecture guide for NKI",
)
def most_partitions_not_from_the_first():
    tile = sbuf(128, 8)
    nisa.tensor_copy(tile[28:128], tile[0:100])


@TABLE.refuses(
    "The free size of an access is at most 64 Ki elements in SBUF.",
    "memset … 70000 … 65536 … Tile the free",
    source="NKI tiling overview",
)
def a_free_size_beyond_the_access_pattern():
    nisa.memset(nl.ndarray((1, 70_000), nl.uint8, buffer=nl.sbuf), 0)


@TABLE.refuses(
    "Returned tensors lie in shared_hbm.",
    "returns … sbuf … allocated with … nl.shared_hbm",
    UsageError,
    source="NKI 0.3 release notes",
    is_placed=False,
)
def a_result_on_chip():
    return sbuf(4, 4)


@TABLE.refuses(
    "What a kernel returns has been written.",
    "the host reads … shared_hbm_1 … never written … byte 0 … Write all",
    UninitializedReadError,
    source="NKI 0.6, nki.simulate: fresh memory is poisoned",
    runs=True,
    is_placed=False,
)
def a_result_that_nothing_wrote():
    return hbm(4, 4)

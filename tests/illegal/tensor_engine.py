"""Matrix products, transposes and microscaled products."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import UninitializedReadError
from tests.illegal.table import Table
from tests.illegal.tiles import hbm, psum, rows_of_two, sbuf

TABLE = Table("NKI 0.6, nki.isa.nc_matmul")

BF16 = nl.bfloat16
DOUBLE = nisa.matmul_perf_mode.double_row
X4 = "float8_e4m3fn_x4"


@TABLE.refuses(
    "Both operands have the contraction dimension on their partitions.",
    "nc_matmul: … 128 partitions … 64 … make them equal",
)
def operands_of_different_depth():
    nisa.nc_matmul(psum(128, 128), sbuf(128, 128, BF16), sbuf(64, 128, BF16))


@TABLE.refuses(
    "The stationary operand has at most 128 columns.",
    "nc_matmul: … 129 columns … 128 … Tile M",
)
def too_many_columns_of_the_stationary_operand():
    nisa.nc_matmul(psum(128, 128), sbuf(128, 129, BF16), sbuf(128, 128, BF16))


@TABLE.refuses(
    "The moving operand has at most 512 columns.",
    "nc_matmul: … 1024 columns … 512 … Tile N",
)
def too_many_columns_of_the_moving_operand():
    product = nl.ndarray((128, 1024), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(product, sbuf(128, 128, BF16), sbuf(128, 1024, BF16))


@TABLE.refuses(
    "On Trainium3 the moving operand has at most 4096 columns with an fp32 destination.",
    "nc_matmul: … 4097 columns … 4096 … Tile N",
    target="trn3",
)
def too_many_columns_on_trainium3():
    product = nl.ndarray((128, 4096), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(product, sbuf(128, 128, BF16), sbuf(128, 4097, BF16))


@TABLE.refuses(
    "The destination is [M, N].",
    "nc_matmul: … [128, 64] … [128, 128] … Give a destination",
)
def a_destination_of_another_size():
    nisa.nc_matmul(psum(128, 64), sbuf(128, 128, BF16), sbuf(128, 128, BF16))


@TABLE.refuses(
    "The destination lies in PSUM.",
    "nc_matmul: dst … must lie in psum … lies in sbuf",
)
def a_product_in_sbuf():
    nisa.nc_matmul(sbuf(128, 128), sbuf(128, 128, BF16), sbuf(128, 128, BF16))


@TABLE.refuses(
    "The operands lie in SBUF.",
    "nc_matmul: stationary … must lie in sbuf … lies in psum … Copy it",
)
def a_stationary_operand_in_psum():
    nisa.nc_matmul(psum(128, 128), psum(128, 128, BF16), sbuf(128, 128, BF16))


@TABLE.refuses(
    "The operands lie in SBUF.",
    "nc_matmul: moving … must lie in sbuf … lies in shared_hbm … Copy it",
)
def a_moving_operand_in_hbm():
    nisa.nc_matmul(psum(128, 128), sbuf(128, 128, BF16), hbm(128, 128, dtype=BF16))


@TABLE.refuses(
    "fp32 and tf32 multiply only with each other.",
    "nc_matmul: … float32 … bfloat16 … Cast one operand",
)
def fp32_with_bf16():
    nisa.nc_matmul(psum(128, 128), sbuf(128, 128), sbuf(128, 128, BF16))


@TABLE.refuses(
    "float8_e4m3fn is never mixed with float8_e4m3.",
    "nc_matmul: … float8_e4m3fn … float8_e4m3 … Use one of them",
    target="trn3",
)
def two_kinds_of_fp8():
    nisa.nc_matmul(psum(128, 128), sbuf(128, 128, nl.float8_e4m3fn), sbuf(128, 128, nl.float8_e4m3))


@TABLE.refuses(
    "Operands are floating-point numbers.",
    "nc_matmul: stationary … int32 … It must be one of",
)
def integers():
    nisa.nc_matmul(psum(128, 128), sbuf(128, 128, nl.int32), sbuf(128, 128, nl.int32))


@TABLE.refuses(
    "The destination is fp32; Trainium3 also has bf16.",
    "nc_matmul: dst … bfloat16 … It must be one of float32",
)
def a_bf16_product_before_trainium3():
    nisa.nc_matmul(psum(128, 128, BF16), sbuf(128, 128, BF16), sbuf(128, 128, BF16))


@TABLE.refuses(
    "A destination stays inside one 2 KiB bank.",
    "nc_matmul: dst … 1024 to 3071 … 2048 bytes … Align it",
    source="Trainium2 architecture guide for NKI",
)
def a_product_over_two_banks():
    product = nl.ndarray((128, 1024), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(product[:, 256:768], sbuf(128, 128, BF16), sbuf(128, 512, BF16))


@TABLE.refuses(
    "perf_mode is none or double_row.",
    "nc_matmul: perf_mode=triple … is not possible … Use none, double_row",
)
def an_unknown_performance_mode():
    nisa.nc_matmul(psum(128, 128), sbuf(128, 128, BF16), sbuf(128, 128, BF16), perf_mode="triple")


@TABLE.refuses(
    "double_row exists from Trainium2 on.",
    "nc_matmul: … double_row … NeuronCore-v2 … Use perf_mode=none",
    target="inf2",
)
def double_rows_on_inferentia2():
    nisa.nc_matmul(psum(128, 128), rows_of_two(128, BF16), rows_of_two(128, BF16), perf_mode=DOUBLE)


@TABLE.refuses(
    "double_row takes FP8 operands.",
    "nc_matmul: stationary … bfloat16 … It must be one of float8_e4m3",
)
def double_rows_of_bf16():
    nisa.nc_matmul(psum(128, 128), rows_of_two(128, BF16), rows_of_two(128, BF16), perf_mode=DOUBLE)


@TABLE.refuses(
    "With double_row the first free dimension of the operands is 2.",
    "nc_matmul: stationary … [128, 128] … must be 2",
)
def double_rows_without_their_dimension():
    fp8 = sbuf(128, 128, nl.float8_e4m3)
    nisa.nc_matmul(psum(128, 128), fp8, fp8, perf_mode=DOUBLE)


@TABLE.refuses(
    "double_row has no column tiling.",
    "nc_matmul: perf_mode=double_row … tile_size=(128, 64) … Use all 128 columns",
)
def double_rows_on_half_of_the_columns():
    fp8 = nl.float8_e4m3
    nisa.nc_matmul(
        psum(64, 128),
        rows_of_two(64, fp8),
        rows_of_two(128, fp8),
        tile_position=(0, 0),
        tile_size=(128, 64),
        perf_mode=DOUBLE,
    )


@TABLE.refuses(
    "tile_position and tile_size are given both or not at all.",
    "nc_matmul: … tile_position=() … (64, 64) … Give both",
)
def a_tile_size_without_a_position():
    nisa.nc_matmul(psum(64, 128), sbuf(64, 64, BF16), sbuf(64, 128, BF16), tile_size=(64, 64))


@TABLE.refuses(
    "A tile starts at a multiple of its size.",
    "nc_matmul: … starts at 32 … 64 … multiple of the size",
)
def a_tile_between_its_places():
    nisa.nc_matmul(
        psum(64, 128),
        sbuf(64, 64, BF16),
        sbuf(64, 128, BF16),
        tile_position=(32, 0),
        tile_size=(64, 64),
    )


@TABLE.refuses(
    "Tile sizes are 32, 64 and 128.",
    "nc_matmul: … size 48 … 32, 64, 128 … Choose such a tile",
)
def a_tile_of_odd_size():
    nisa.nc_matmul(
        psum(48, 128),
        sbuf(48, 48, BF16),
        sbuf(48, 128, BF16),
        tile_position=(0, 0),
        tile_size=(48, 48),
    )


@TABLE.refuses(
    "On Inferentia2 the smallest tile has 64 rows.",
    "nc_matmul: … size 32 … 64, 128 … Choose such a tile",
    target="inf2",
)
def small_tiles_on_inferentia2():
    nisa.nc_matmul(
        psum(32, 128),
        sbuf(32, 32, BF16),
        sbuf(32, 128, BF16),
        tile_position=(0, 0),
        tile_size=(32, 32),
    )


@TABLE.refuses(
    "Operands fit in their tile of the array.",
    "nc_matmul: … 128 x 128 … (64, 64) … larger tile_size",
)
def operands_larger_than_their_tile():
    nisa.nc_matmul(
        psum(128, 128),
        sbuf(128, 128, BF16),
        sbuf(128, 128, BF16),
        tile_position=(0, 0),
        tile_size=(64, 64),
    )


@TABLE.refuses(
    "accumulate=True adds to a location that was written.",
    "nc_matmul reads dst … never written … Write all",
    UninitializedReadError,
    runs=True,
)
def adding_to_what_nothing_wrote():
    product = nl.ndarray((128, 128), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(product, sbuf(128, 128, BF16), sbuf(128, 128, BF16), accumulate=True)


@TABLE.refuses(
    "The tensor engine transposes at most 128 by 128.",
    "nc_transpose: … 128 x 256 … 128 x 128 … block by block",
    source="NKI 0.6, nki.isa.nc_transpose",
)
def a_transpose_beyond_the_array():
    nisa.nc_transpose(psum(128, 128, BF16), sbuf(128, 256, BF16))


@TABLE.refuses(
    "The vector engine transposes at most 32 by 32.",
    "nc_transpose: … 64 x 64 … 32 x 32 … block by block",
    source="NKI 0.6, nki.isa.nc_transpose",
)
def a_transpose_beyond_the_vector_engine():
    nisa.nc_transpose(sbuf(64, 64), sbuf(64, 64))


@TABLE.refuses(
    "The tensor engine writes to PSUM.",
    "nc_transpose: dst … must lie in psum … lies in sbuf",
    source="NKI 0.6, nki.isa.nc_transpose",
)
def a_transpose_on_the_tensor_engine_into_sbuf():
    nisa.nc_transpose(sbuf(128, 128), sbuf(128, 128), engine=nisa.engine.tensor)


@TABLE.refuses(
    "The destination is [F, P].",
    "nc_transpose: dst is 64 x 64 … 64 x 32 … needs 32 x 64",
    source="NKI 0.6, nki.isa.nc_transpose",
)
def a_transpose_into_the_wrong_shape():
    nisa.nc_transpose(psum(64, 64, BF16), sbuf(64, 32, BF16))


@TABLE.refuses(
    "The destination of a transpose has the type of the data.",
    "nc_transpose: dst … float32 … bfloat16 … same dtype",
    source="NKI 0.6, nki.isa.nc_transpose",
)
def a_transpose_that_converts():
    nisa.nc_transpose(psum(64, 64), sbuf(64, 64, BF16))


@TABLE.refuses(
    "nc_transpose runs on the tensor or the vector engine.",
    "nc_transpose: engine=scalar … cannot run it … It runs on tensor or vector",
    source="NKI 0.6, nki.isa.nc_transpose",
)
def a_transpose_on_the_scalar_engine():
    nisa.nc_transpose(psum(64, 64, BF16), sbuf(64, 64, BF16), engine=nisa.engine.scalar)


@TABLE.refuses(
    "nc_matmul_mx exists from Trainium3 on.",
    "nc_matmul_mx: … NeuronCore-v4 … NeuronCore-v3 … Choose a later chip",
    source="NKI 0.6, nki.isa.nc_matmul_mx",
)
def microscaling_before_trainium3():
    packed, scale = sbuf(128, 128, nl.uint32), sbuf(128, 128, nl.uint8)
    nisa.nc_matmul_mx(psum(128, 128), packed, packed, scale, scale)


@TABLE.refuses(
    "Operands are packed by four.",
    "nc_matmul_mx: stationary … bfloat16 … It must be one of float8_e4m3fn_x4",
    target="trn3",
    source="NKI 0.6, nki.isa.nc_matmul_mx",
)
def microscaling_of_unpacked_numbers():
    plain, scale = sbuf(128, 128, BF16), sbuf(128, 128, nl.uint8)
    nisa.nc_matmul_mx(psum(128, 128), plain, plain, scale, scale)


@TABLE.refuses(
    "Partitions are a multiple of 32.",
    "nc_matmul_mx: stationary … 48 partitions … multiple of 32 … pad",
    target="trn3",
    source="NKI 0.6, nki.isa.nc_matmul_mx",
)
def microscaling_of_an_odd_number_of_partitions():
    packed, scale = sbuf(48, 128, X4), sbuf(48, 128, nl.uint8)
    nisa.nc_matmul_mx(psum(128, 128), packed, packed, scale, scale)


@TABLE.refuses(
    "The stationary operand has an even number of columns.",
    "nc_matmul_mx: stationary … 127 columns … Pad it",
    target="trn3",
    source="NKI 0.6, nki.isa.nc_matmul_mx",
)
def microscaling_of_an_odd_number_of_columns():
    packed, odd = sbuf(128, 128, X4), sbuf(128, 127, X4)
    scale, odd_scale = sbuf(128, 128, nl.uint8), sbuf(128, 127, nl.uint8)
    nisa.nc_matmul_mx(psum(127, 128), odd, packed, odd_scale, scale)

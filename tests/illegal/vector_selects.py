"""Selections, random numbers and packing."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from tests.illegal.table import Table
from tests.illegal.tiles import psum, sbuf

TABLE = Table("NKI 0.6, nki.isa.range_select")

X4 = "float8_e4m3fn_x4"


@TABLE.refuses(
    "range_select exists from Trainium2 on.",
    "range_select: … NeuronCore-v3 … NeuronCore-v2 … Choose a later chip",
    target="inf2",
    source="NKI 0.6, nki.isa.range_select",
)
def a_range_on_inferentia2():
    tile, bound = sbuf(4, 8), sbuf(4, 1)
    nisa.range_select(tile, tile, nl.greater_equal, nl.less, bound, bound)


@TABLE.refuses(
    "on_false_value is the lowest float32.",
    "range_select: on_false_value=0.0 … lowest float32 … is possible",
    source="NKI 0.6, nki.isa.range_select",
)
def a_range_filled_with_zeros():
    tile, bound = sbuf(4, 8), sbuf(4, 1)
    nisa.range_select(tile, tile, nl.greater_equal, nl.less, bound, bound, on_false_value=0.0)


@TABLE.refuses(
    "Bounds are [P, 1].",
    "range_select: bound0 … [4, 2] … [4, 1]",
    source="NKI 0.6, nki.isa.range_select",
)
def a_range_of_two_bounds():
    tile = sbuf(4, 8)
    nisa.range_select(tile, tile, nl.greater_equal, nl.less, sbuf(4, 2), sbuf(4, 1))


@TABLE.refuses(
    "comp_op0 is a comparison.",
    "range_select: comp_op0=add … is not possible … Use equal",
    source="NKI 0.6, nki.isa.range_select",
)
def a_range_by_addition():
    tile, bound = sbuf(4, 8), sbuf(4, 1)
    nisa.range_select(tile, tile, nl.add, nl.less, bound, bound)


@TABLE.refuses(
    "on_true_tile is a float type.",
    "range_select: on_true_tile … int32 … It must be one of",
    source="NKI 0.6, nki.isa.range_select",
)
def a_range_of_integers():
    bound = sbuf(4, 1)
    nisa.range_select(sbuf(4, 8), sbuf(4, 8, nl.int32), nl.greater_equal, nl.less, bound, bound)


@TABLE.refuses(
    "Indices stay below 2^24.",
    "range_select: … 16777223 … 16777215 … Lower range_start",
    source="NKI 0.6, nki.isa.range_select",
)
def a_range_that_fp32_cannot_count():
    tile, bound = sbuf(4, 8), sbuf(4, 1)
    nisa.range_select(tile, tile, nl.greater_equal, nl.less, bound, bound, range_start=1 << 24)


@TABLE.refuses(
    "The predicate has 8 or 16 bits.",
    "select_reduce: predicate … float32 … It must be one of",
    source="NKI 0.6, nki.isa.select_reduce",
)
def a_selection_by_floats():
    nisa.select_reduce(sbuf(4, 8), sbuf(4, 8), sbuf(4, 8), 0.0)


@TABLE.refuses(
    "on_true is not int32, uint32 or tfloat32.",
    "select_reduce: on_true … int32 … Cast it",
    source="NKI 0.6, nki.isa.select_reduce",
)
def a_selection_of_integers():
    nisa.select_reduce(sbuf(4, 8), sbuf(4, 8, nl.uint8), sbuf(4, 8, nl.int32), 0.0)


@TABLE.refuses(
    "on_true and predicate are not both in PSUM.",
    "select_reduce: predicate … on_true … both lie in PSUM … Copy one",
    source="NKI 0.6, nki.isa.select_reduce",
)
def a_selection_of_two_tiles_in_psum():
    nisa.select_reduce(sbuf(4, 8), psum(4, 8, nl.uint8), psum(4, 8), 0.0)


@TABLE.refuses(
    "reduce_op is maximum.",
    "select_reduce: reduce_op=add … is not possible … Use maximum",
    source="NKI 0.6, nki.isa.select_reduce",
)
def a_selection_that_adds():
    nisa.select_reduce(
        sbuf(4, 8),
        sbuf(4, 8, nl.uint8),
        sbuf(4, 8),
        0.0,
        sbuf(4, 1),
        nisa.reduce_cmd.reset_reduce,
        nl.add,
    )


@TABLE.refuses(
    "prob is 0 to 1.",
    "dropout: prob=1.5 … 0 to 1 … probability",
    source="NKI 0.6, nki.isa.dropout",
)
def a_probability_above_one():
    nisa.dropout(sbuf(4, 8), sbuf(4, 8), 1.5)


@TABLE.refuses(
    "dst and data have the same dtype.",
    "dropout: dst … bfloat16 … float32 … same dtype",
    source="NKI 0.6, nki.isa.dropout",
)
def a_dropout_that_converts():
    nisa.dropout(sbuf(4, 8, nl.bfloat16), sbuf(4, 8), 0.5)


@TABLE.refuses(
    "exponential exists from Trainium3 on.",
    "exponential: … NeuronCore-v4 … NeuronCore-v3 … Choose a later chip",
    source="NKI 0.6, nki.isa.exponential",
)
def an_exponential_before_trainium3():
    nisa.exponential(sbuf(4, 8), sbuf(4, 8))


@TABLE.refuses(
    "rand2 exists from Trainium3 on.",
    "rand2: … NeuronCore-v4 … NeuronCore-v3 … Choose a later chip",
    source="NKI 0.6, nki.isa.rand2",
)
def uniform_numbers_before_trainium3():
    nisa.rand2(sbuf(4, 8), 0.0, 1.0)


@TABLE.refuses(
    "min is below max.",
    "rand2: min=1.0 … max=0.0 … must be below",
    target="trn3",
    source="NKI 0.6, nki.isa.rand2",
)
def uniform_numbers_of_an_empty_range():
    nisa.rand2(sbuf(4, 8), 1.0, 0.0)


@TABLE.refuses(
    "The seed is [1, 1].",
    "set_rng_seed: src_seeds … [2, 1] … [1, 1]",
    source="NKI 0.6, nki.isa.set_rng_seed",
)
def two_seeds():
    nisa.set_rng_seed(sbuf(2, 1, nl.uint32))


@TABLE.refuses(
    "Raw random bits go into integers.",
    "rng: dst … float32 … It must be one of",
    source="NKI 0.6, nki.isa.rng",
)
def random_bits_as_floats():
    nisa.rng(sbuf(4, 8))


@TABLE.refuses(
    "quantize_mx exists from Trainium3 on.",
    "quantize_mx: … NeuronCore-v4 … NeuronCore-v3 … Choose a later chip",
    source="NKI 0.6, nki.isa.quantize_mx",
)
def packing_before_trainium3():
    nisa.quantize_mx(sbuf(128, 32, nl.uint32), sbuf(128, 128, nl.bfloat16), sbuf(128, 32, nl.uint8))


@TABLE.refuses(
    "src is fp16 or bf16.",
    "quantize_mx: src … float32 … float16, bfloat16",
    target="trn3",
    source="NKI 0.6, nki.isa.quantize_mx",
)
def packing_of_fp32():
    nisa.quantize_mx(sbuf(128, 32, X4), sbuf(128, 128), sbuf(128, 32, nl.uint8))


@TABLE.refuses(
    "Rows are a multiple of 4.",
    "quantize_mx: src … 126 elements … multiple of 4",
    target="trn3",
    source="NKI 0.6, nki.isa.quantize_mx",
)
def packing_of_an_odd_row():
    nisa.quantize_mx(sbuf(128, 32, X4), sbuf(128, 126, nl.bfloat16), sbuf(128, 32, nl.uint8))


@TABLE.refuses(
    "fp4 output is not supported by this instruction.",
    "quantize_mx: dst … float4_e2m1fn_x4 … It must be one of",
    target="trn3",
    source="NKI 0.6, nki.isa.quantize_mx",
)
def packing_to_fp4():
    nisa.quantize_mx(
        sbuf(128, 32, "float4_e2m1fn_x4"), sbuf(128, 128, nl.bfloat16), sbuf(128, 32, nl.uint8)
    )

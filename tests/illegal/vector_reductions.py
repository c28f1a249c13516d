"""Reductions, scans, searches, shuffles and statistics."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from tests.illegal.table import Table
from tests.illegal.tiles import psum, sbuf

TABLE = Table("NKI 0.6, nki.isa.tensor_reduce")


@TABLE.refuses(
    "The partition axis cannot be reduced.",
    "tensor_reduce: axis=0 … [128, 8] … across partitions use",
)
def a_reduction_over_partitions():
    nisa.tensor_reduce(sbuf(128, 1), nl.add, sbuf(128, 8), axis=0)


@TABLE.refuses(
    "axis names a dimension.",
    "tensor_reduce: axis=3 … [128, 8] … last free axes",
)
def a_reduction_over_an_axis_that_is_not_there():
    nisa.tensor_reduce(sbuf(128, 1), nl.add, sbuf(128, 8), axis=3)


@TABLE.refuses(
    "dst has what the reduction leaves.",
    "tensor_reduce: dst … [128, 2] … The reduction leaves … [128, 1]",
)
def a_reduction_into_the_wrong_size():
    nisa.tensor_reduce(sbuf(128, 2), nl.add, sbuf(128, 8), axis=1)


@TABLE.refuses(
    "op is an operator that reduces.",
    "tensor_reduce: op=equal … is not possible … Use add",
)
def a_reduction_by_comparison():
    nisa.tensor_reduce(sbuf(128, 1), nl.equal, sbuf(128, 8), axis=1)


@TABLE.refuses(
    "negate goes with arithmetic operators.",
    "tensor_reduce: negate … bitwise_or … arithmetic",
)
def negated_bits():
    bits = sbuf(128, 8, nl.int32)
    nisa.tensor_reduce(sbuf(128, 1, nl.int32), nl.bitwise_or, bits, axis=1, negate=True)


@TABLE.refuses(
    "reduce_op is add, multiply, maximum or minimum.",
    "tensor_scalar_reduce: reduce_op=power … is not possible … Use add",
    source="NKI 0.6, nki.isa.tensor_scalar_reduce",
)
def a_running_reduction_by_power():
    nisa.tensor_scalar_reduce(sbuf(4, 8), sbuf(4, 8), nl.add, 1.0, nl.power, sbuf(4, 1))


@TABLE.refuses(
    "reverse0 is not supported yet.",
    "tensor_scalar_reduce: reverse0=True … not supported … Swap",
    source="NKI 0.6, nki.isa.tensor_scalar_reduce",
)
def reversed_operands_before_a_reduction():
    nisa.tensor_scalar_reduce(
        sbuf(4, 8), sbuf(4, 8), nl.add, 1.0, nl.add, sbuf(4, 1), reverse0=True
    )


@TABLE.refuses(
    "reduce_res is [P, 1].",
    "tensor_scalar_reduce: reduce_res … [4, 2] … [4, 1]",
    source="NKI 0.6, nki.isa.tensor_scalar_reduce",
)
def a_result_of_two_columns():
    nisa.tensor_scalar_reduce(sbuf(4, 8), sbuf(4, 8), nl.add, 1.0, nl.add, sbuf(4, 2))


@TABLE.refuses(
    "load_reduce starts from reduce_init.",
    "tensor_scalar_reduce: reduce_cmd=load_reduce … reduce_init … Give",
    source="NKI 0.6, nki.isa.tensor_scalar_reduce",
)
def a_start_that_is_not_given():
    nisa.tensor_scalar_reduce(
        sbuf(4, 8),
        sbuf(4, 8),
        nl.add,
        1.0,
        nl.add,
        sbuf(4, 1),
        reduce_cmd=nisa.reduce_cmd.load_reduce,
    )


@TABLE.refuses(
    "No 32-bit integers.",
    "tensor_scalar_cumulative: dst … 32-bit integer … Cast it",
    source="NKI 0.6, nki.isa.tensor_scalar_cumulative",
)
def running_sums_of_integers():
    ints = sbuf(4, 8, nl.int32)
    nisa.tensor_scalar_cumulative(ints, ints, nl.add, nl.add, 1)


@TABLE.refuses(
    "op1 is add, subtract, multiply, maximum or minimum.",
    "tensor_scalar_cumulative: op1=power … is not possible … Use add",
    source="NKI 0.6, nki.isa.tensor_scalar_cumulative",
)
def a_running_power():
    nisa.tensor_scalar_cumulative(sbuf(4, 8), sbuf(4, 8), nl.add, nl.power, 1)


@TABLE.refuses(
    "data0 and data1 are not both in PSUM.",
    "tensor_tensor_scan: data0 … data1 … both lie in PSUM … Copy one",
    source="NKI 0.6, nki.isa.tensor_tensor_scan",
)
def a_scan_of_two_tiles_in_psum():
    nisa.tensor_tensor_scan(sbuf(4, 8), psum(4, 8), psum(4, 8), 0.0, nl.multiply, nl.add)


@TABLE.refuses(
    "initial is a number or [P, 1].",
    "tensor_tensor_scan: initial … [4, 2] … [4, 1]",
    source="NKI 0.6, nki.isa.tensor_tensor_scan",
)
def a_scan_from_two_numbers():
    nisa.tensor_tensor_scan(sbuf(4, 8), sbuf(4, 8), sbuf(4, 8), sbuf(4, 2), nl.multiply, nl.add)


@TABLE.refuses(
    "A row has at least 8 elements.",
    "max8: src … 4 elements … 8 to 16384 … Pad",
    source="NKI 0.6, nki.isa.max8",
)
def eight_largest_of_four():
    nisa.max8(sbuf(4, 8), sbuf(4, 4))


@TABLE.refuses(
    "A row has at most 16384 elements.",
    "max8: src … 16385 elements … 8 to 16384 … split",
    source="NKI 0.6, nki.isa.max8",
)
def eight_largest_of_too_many():
    nisa.max8(sbuf(4, 8), sbuf(4, 16385))


@TABLE.refuses(
    "The destination has 8 columns.",
    "max8: dst … [4, 4] … [4, 8]",
    source="NKI 0.6, nki.isa.max8",
)
def eight_largest_in_four_columns():
    nisa.max8(sbuf(4, 4), sbuf(4, 64))


@TABLE.refuses(
    "Indices are uint16 or uint32.",
    "nc_find_index8: dst … float32 … uint16, uint32",
    source="NKI 0.6, nki.isa.nc_find_index8",
)
def indices_as_floats():
    nisa.nc_find_index8(sbuf(4, 8), sbuf(4, 64), sbuf(4, 8))


@TABLE.refuses(
    "vals has 8 columns.",
    "nc_find_index8: vals … [4, 4] … [4, 8]",
    source="NKI 0.6, nki.isa.nc_find_index8",
)
def a_search_for_four_values():
    nisa.nc_find_index8(sbuf(4, 8, nl.uint32), sbuf(4, 64), sbuf(4, 4))


@TABLE.refuses(
    "dst has the size of data.",
    "nc_match_replace8: … 32 elements … 4 of 64 … must be equal",
    source="NKI 0.6, nki.isa.nc_match_replace8",
)
def a_replacement_of_another_size():
    nisa.nc_match_replace8(sbuf(4, 32), sbuf(4, 64), sbuf(4, 8), 0.0)


@TABLE.refuses(
    "The mask has 32 entries.",
    "nc_stream_shuffle: … 16 entries … Give 32",
    source="NKI 0.6, nki.isa.nc_stream_shuffle",
)
def half_a_shuffle_mask():
    nisa.nc_stream_shuffle(sbuf(32, 8), sbuf(32, 8), list(range(16)))


@TABLE.refuses(
    "Entries are 0 to 31, or 255.",
    "nc_stream_shuffle: … 40 … 0 to 31, or 255",
    source="NKI 0.6, nki.isa.nc_stream_shuffle",
)
def a_shuffle_from_outside_of_the_quadrant():
    nisa.nc_stream_shuffle(sbuf(32, 8), sbuf(32, 8), [40] * 32)


@TABLE.refuses(
    "src and dst have the same dtype.",
    "nc_stream_shuffle: dst … bfloat16 … float32 … same dtype",
    source="NKI 0.6, nki.isa.nc_stream_shuffle",
)
def a_shuffle_that_converts():
    nisa.nc_stream_shuffle(sbuf(32, 8, nl.bfloat16), sbuf(32, 8), [0] * 32)


@TABLE.refuses(
    "A row has at most 512 elements.",
    "bn_stats: … 513 elements … 512 … bn_aggr",
    source="NKI 0.6, nki.isa.bn_stats",
)
def statistics_of_too_many():
    nisa.bn_stats(sbuf(4, 6), sbuf(4, 513))


@TABLE.refuses(
    "bn_stats writes 6 values.",
    "bn_stats: dst … [4, 5] … [4, 6]",
    source="NKI 0.6, nki.isa.bn_stats",
)
def statistics_in_five_columns():
    nisa.bn_stats(sbuf(4, 5), sbuf(4, 512))


@TABLE.refuses(
    "bn_aggr takes triples of count, mean and variance.",
    "bn_aggr: … 7 elements … groups of three",
    source="NKI 0.6, nki.isa.bn_aggr",
)
def statistics_that_are_no_triples():
    nisa.bn_aggr(sbuf(4, 2), sbuf(4, 7))

"""Patterns, gathers and searches of GpSimd."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from tests.illegal.table import Table
from tests.illegal.tiles import psum, sbuf

TABLE = Table("NKI 0.6, nki.isa.iota")


@TABLE.refuses(
    "A pattern has at most 4 dimensions.",
    "iota: pattern has 5 dimensions … 4 … Merge",
)
def a_pattern_of_five_dimensions():
    nisa.iota(nl.ndarray((128, 32), nl.int32), [[1, 2]] * 5)


@TABLE.refuses(
    "The pattern covers all elements.",
    "iota: pattern … 16 elements … 32 … Make both equal",
)
def a_pattern_that_does_not_fill():
    nisa.iota(nl.ndarray((128, 32), nl.int32), [[1, 16]])


@TABLE.refuses(
    "A pattern is a list of [step, count].",
    "iota: pattern … [1, 32] … [[1, 512]]",
)
def a_pattern_without_pairs():
    nisa.iota(nl.ndarray((128, 32), nl.int32), [1, 32])


@TABLE.refuses(
    "SBUF only.",
    "iota: dst … must lie in sbuf … psum",
)
def a_pattern_in_psum():
    nisa.iota(nl.ndarray((128, 32), nl.int32, buffer=nl.psum), [[1, 32]])


@TABLE.refuses(
    "cmp_op is a comparison.",
    "affine_select: cmp_op=add … is not possible … Use equal",
    source="NKI 0.6, nki.isa.affine_select",
)
def a_selection_by_addition():
    tile = sbuf(128, 32)
    nisa.affine_select(tile, [[1, 32]], 1, tile, 0.0, cmp_op=nl.add)


@TABLE.refuses(
    "A pattern has at most 4 dimensions.",
    "affine_select: pattern has 5 dimensions … 4 … Merge",
    source="NKI 0.6, nki.isa.affine_select",
)
def a_selection_of_five_dimensions():
    tile = sbuf(128, 32)
    nisa.affine_select(tile, [[1, 2]] * 5, 1, tile, 0.0)


@TABLE.refuses(
    "SBUF only.",
    "affine_select: on_true_tile … must lie in sbuf … psum … Copy it",
    source="NKI 0.6, nki.isa.affine_select",
)
def a_selection_in_psum():
    nisa.affine_select(sbuf(128, 32), [[1, 32]], 1, psum(128, 32), 0.0)


@TABLE.refuses(
    "Partitions are a multiple of 16.",
    "local_gather: src_buffer … 24 partitions … the same multiple of 16",
    source="NKI 0.6, nki.isa.local_gather",
)
def a_gather_over_half_a_group():
    nisa.local_gather(sbuf(24, 32), sbuf(24, 64), sbuf(24, 2, nl.uint16))


@TABLE.refuses(
    "num_elem_per_idx is 1, 2, 4, 8, 16 or 32.",
    "local_gather: num_elem_per_idx=3 … 1, 2, 4 … 32",
    source="NKI 0.6, nki.isa.local_gather",
)
def a_gather_of_three_elements():
    nisa.local_gather(sbuf(16, 96), sbuf(16, 64), sbuf(16, 2, nl.uint16), num_elem_per_idx=3)


@TABLE.refuses(
    "A group has at most 4096 indices.",
    "local_gather: … 4112 indices … 4096 … in parts",
    source="NKI 0.6, nki.isa.local_gather",
)
def a_gather_of_too_many_indices():
    nisa.local_gather(sbuf(16, 4112), sbuf(16, 64), sbuf(16, 257, nl.uint16))


@TABLE.refuses(
    "Indices are uint16.",
    "local_gather: index … int32 … uint16",
    source="NKI 0.6, nki.isa.local_gather",
)
def a_gather_by_signed_indices():
    nisa.local_gather(sbuf(16, 32), sbuf(16, 64), sbuf(16, 2, nl.int32))


@TABLE.refuses(
    "No cast.",
    "local_gather: dst … bfloat16 … float32 … same dtype",
    source="NKI 0.6, nki.isa.local_gather",
)
def a_gather_that_converts():
    nisa.local_gather(sbuf(16, 32, nl.bfloat16), sbuf(16, 64), sbuf(16, 2, nl.uint16))


@TABLE.refuses(
    "An index lies in the source.",
    "local_gather: … 64 … has 64 elements … Correct",
    runs=True,
    source="NKI 0.6, nki.isa.local_gather",
)
def a_gather_past_the_row():
    nisa.local_gather(sbuf(16, 32), sbuf(16, 64), sbuf(16, 2, nl.uint16, 64))


@TABLE.refuses(
    "Indices are uint32.",
    "nc_n_gather: indices … int32 … uint32",
    source="NKI 0.6, nki.isa.nc_n_gather",
)
def a_gather_by_int32():
    nisa.nc_n_gather(sbuf(16, 4), sbuf(16, 64), sbuf(16, 4, nl.int32))


@TABLE.refuses(
    "An index lies in the source.",
    "nc_n_gather: … 64 … has 64 elements … Correct",
    runs=True,
    source="NKI 0.6, nki.isa.nc_n_gather",
)
def a_gather_from_past_the_end():
    nisa.nc_n_gather(sbuf(16, 4), sbuf(16, 64), sbuf(16, 4, nl.uint32, 64))


@TABLE.refuses(
    "SBUF only.",
    "nc_n_gather: data … must lie in sbuf … psum … Copy it",
    source="NKI 0.6, nki.isa.nc_n_gather",
)
def a_gather_from_psum():
    nisa.nc_n_gather(sbuf(16, 4), psum(16, 64), sbuf(16, 4, nl.uint32))


@TABLE.refuses(
    "nonzero_with_count exists from Trainium2 on.",
    "nonzero_with_count: … NeuronCore-v3 … NeuronCore-v2 … Choose a later chip",
    target="inf2",
    source="NKI 0.6, nki.isa.nonzero_with_count",
)
def a_count_on_inferentia2():
    nisa.nonzero_with_count(sbuf(128, 9, nl.int32), sbuf(128, 8))


@TABLE.refuses(
    "dst has one more element than src.",
    "nonzero_with_count: dst … [128, 8] … [128, 9]",
    source="NKI 0.6, nki.isa.nonzero_with_count",
)
def a_count_without_its_column():
    nisa.nonzero_with_count(sbuf(128, 8, nl.int32), sbuf(128, 8))


@TABLE.refuses(
    "src is fp32 or int32.",
    "nonzero_with_count: src … bfloat16 … float32, int32",
    source="NKI 0.6, nki.isa.nonzero_with_count",
)
def a_count_of_bf16():
    nisa.nonzero_with_count(sbuf(128, 9, nl.int32), sbuf(128, 8, nl.bfloat16))


@TABLE.refuses(
    "dst is (1, 2, n).",
    "sequence_bounds: dst … [1, 8] … [1, 16]",
    source="NKI 0.6, nki.isa.sequence_bounds",
)
def bounds_in_one_row():
    nisa.sequence_bounds(sbuf(1, 8), sbuf(1, 8))


@TABLE.refuses(
    "segment_ids is (1, n).",
    "sequence_bounds: segment_ids … [2, 8] … [1, 8]",
    source="NKI 0.6, nki.isa.sequence_bounds",
)
def bounds_of_two_partitions():
    nisa.sequence_bounds(nl.ndarray((2, 2, 8), nl.float32), sbuf(2, 8))


@TABLE.refuses(
    "n is 8 to 65535.",
    "topk: n=4 … 8 to … 65535",
    source="NKI 0.6, nki.isa.topk",
)
def the_largest_of_four():
    nisa.topk(sbuf(16, 1, nl.bfloat16), sbuf(16, 1, nl.uint32), sbuf(16, 8, nl.bfloat16), 4)


@TABLE.refuses(
    "topk works on bf16.",
    "topk: val_dst … float32 … bfloat16",
    source="NKI 0.6, nki.isa.topk",
)
def the_largest_of_fp32():
    nisa.topk(sbuf(16, 1), sbuf(16, 1, nl.uint32), sbuf(16, 8), 64)


@TABLE.refuses(
    "op is add, average, maximum, bitwise_or or bitwise_and.",
    "tensor_partition_reduce: op=multiply … is not possible … Use add",
    source="NKI 0.6, nki.isa.tensor_partition_reduce",
)
def a_product_over_partitions():
    nisa.tensor_partition_reduce(sbuf(1, 8), nl.multiply, sbuf(128, 8))


@TABLE.refuses(
    "dst has 1 partition.",
    "tensor_partition_reduce: dst … [2, 8] … [1, 8]",
    source="NKI 0.6, nki.isa.tensor_partition_reduce",
)
def a_sum_over_partitions_in_two():
    nisa.tensor_partition_reduce(sbuf(2, 8), nl.add, sbuf(128, 8))

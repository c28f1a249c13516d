"""Transfers: copies, computations, transposes, run-time addresses."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import OutOfBoundsError, UsageError, WrongCallError
from tests.illegal.table import Table
from tests.illegal.tiles import hbm, psum, sbuf

TABLE = Table("NKI 0.6, nki.isa.dma_copy")

BF16 = nl.bfloat16


@TABLE.refuses(
    "DMA cannot read PSUM since 0.3.",
    "dma_copy: src … sbuf or … psum … Copy it",
    source="NKI 0.3 release notes",
)
def a_transfer_from_psum():
    nisa.dma_copy(dst=hbm(128, 8), src=psum(128, 8))


@TABLE.refuses(
    "DMA cannot write PSUM since 0.3.",
    "dma_copy: dst … sbuf or … psum … Copy it",
    source="NKI 0.3 release notes",
)
def a_transfer_to_psum():
    nisa.dma_copy(dst=psum(128, 8), src=sbuf(128, 8))


@TABLE.refuses(
    "Element counts are equal.",
    "dma_copy: … 1024 elements … 512 … same number",
)
def a_transfer_of_unequal_sizes():
    nisa.dma_copy(dst=hbm(128, 8), src=sbuf(128, 4))


@TABLE.refuses(
    "hwdge exists from Trainium2 on.",
    "dma_copy: dge_mode=hwdge … NeuronCore-v2 … Use dge_mode",
    target="inf2",
)
def hardware_descriptors_on_inferentia2():
    nisa.dma_copy(dst=hbm(128, 8), src=sbuf(128, 8), dge_mode=nisa.dge_mode.hwdge)


@TABLE.refuses(
    "hwdge moves identical dtypes.",
    "dma_copy: dge_mode=hwdge … float32 … bfloat16 … same dtype",
)
def hardware_descriptors_that_convert():
    nisa.dma_copy(
        dst=hbm(128, 8, dtype=nl.bfloat16), src=sbuf(128, 8), dge_mode=nisa.dge_mode.hwdge
    )


@TABLE.refuses(
    "A vector_offset needs swdge.",
    "dma_copy: dge_mode=hwdge … row indices … Use dge_mode=swdge",
)
def hardware_descriptors_of_rows_by_index():
    rows = hbm(16, 8).ap([[8, 4], [1, 8]], vector_offset=sbuf(4, 1, nl.int32))
    nisa.dma_copy(dst=sbuf(4, 8), src=rows, dge_mode=nisa.dge_mode.hwdge)


@TABLE.refuses(
    "hwdge is triggered from the scalar or the sync engine.",
    "dma_copy: engine=vector … is not possible … Use unknown, scalar, sync",
)
def hardware_descriptors_by_the_vector_engine():
    nisa.dma_copy(
        dst=hbm(128, 8), src=sbuf(128, 8), dge_mode=nisa.dge_mode.hwdge, engine=nisa.engine.vector
    )


@TABLE.refuses(
    "Priorities exist from Trainium3 on.",
    "dma_copy: priority=2 … NeuronCore-v3 … Leave it out",
)
def a_priority_before_trainium3():
    nisa.dma_copy(dst=hbm(128, 8), src=sbuf(128, 8), priority=2)


@TABLE.refuses(
    "priority is 0 to 3.",
    "dma_copy: priority=7 … NeuronCore-v4 … 0 to 3",
    target="trn3",
)
def a_priority_beyond_three():
    nisa.dma_copy(dst=hbm(128, 8), src=sbuf(128, 8), priority=7)


@TABLE.refuses(
    "dge_mode is one of the enum.",
    "dma_copy: dge_mode=fast … is not possible … Use unknown",
)
def an_unknown_descriptor_mode():
    nisa.dma_copy(dst=hbm(128, 8), src=sbuf(128, 8), dge_mode="fast")


@TABLE.refuses(
    "oob_mode is error or skip.",
    "dma_copy: oob_mode=wrap … is not possible … Use error, skip",
)
def an_unknown_bounds_mode():
    nisa.dma_copy(dst=hbm(128, 8), src=sbuf(128, 8), oob_mode="wrap")


@TABLE.refuses(
    "One side is indirect.",
    "dma_copy: dst and src … row indices … two steps",
)
def row_indices_on_both_sides():
    index = sbuf(4, 1, nl.int32)
    pattern = [[8, 4], [1, 8]]
    src, dst = (hbm(16, 8).ap(pattern, vector_offset=index) for _ in range(2))
    nisa.dma_copy(dst=dst, src=src)


@TABLE.refuses(
    "vector_offset works on HBM.",
    "ap: vector_offset … in sbuf … tensor in HBM",
    UsageError,
    source="NKI 0.6, access patterns",
)
def row_indices_of_a_tile():
    sbuf(4, 8).ap([[8, 4], [1, 8]], vector_offset=sbuf(4, 1, nl.int32))


@TABLE.refuses(
    "vector_offset works on dimension 0.",
    "ap: vector_offset … indirect_dim=1 … indirect_dim=0",
    UsageError,
    source="NKI 0.6, access patterns",
)
def row_indices_of_a_column():
    hbm(16, 8).ap([[8, 4], [1, 8]], vector_offset=sbuf(4, 1, nl.int32), indirect_dim=1)


@TABLE.refuses(
    "Indices are int32 or uint32.",
    "ap: … float32 … must hold integers … convert it",
    UsageError,
    source="NKI 0.6, access patterns",
)
def row_indices_that_are_floats():
    hbm(16, 8).ap([[8, 4], [1, 8]], vector_offset=sbuf(4, 1))


@TABLE.refuses(
    "scalar_offset holds one element.",
    "ap: … [2, 1] … one element … vector_offset",
    UsageError,
    source="NKI 0.6, access patterns",
)
def an_offset_of_two_numbers():
    hbm(16, 8).ap([[8, 4], [1, 8]], scalar_offset=sbuf(2, 1, nl.int32))


@TABLE.refuses(
    "At most one of scalar_offset and vector_offset.",
    "ap … scalar_offset or vector_offset … not both",
    UsageError,
    source="NKI 0.6, access patterns",
)
def both_kinds_of_offset():
    hbm(4, 8).ap(
        [[8, 4], [1, 8]], scalar_offset=sbuf(1, 1, nl.int32), vector_offset=sbuf(4, 1, nl.int32)
    )


@TABLE.refuses(
    "scalar_offset is a tile, a register or an int.",
    "ap cannot use … float … integer",
    WrongCallError,
    source="NKI 0.6, access patterns",
)
def an_offset_that_is_a_fraction():
    hbm(4, 8).ap([[8, 4], [1, 8]], scalar_offset=1.5)


@TABLE.refuses(
    "oob_mode.error: an index out of range is an error.",
    "dma_copy: … row 0 of src … 0 to 15 … oob_mode.skip",
    OutOfBoundsError,
    runs=True,
)
def an_index_of_no_row():
    table = hbm(16, 8)
    nisa.dma_copy(dst=table, src=sbuf(16, 8))
    rows = table.ap([[8, 4], [1, 8]], vector_offset=sbuf(4, 1, nl.int32, 99))
    nisa.dma_copy(dst=sbuf(4, 8), src=rows)


@TABLE.refuses(
    "oob_mode.error: an index out of range is an error.",
    "dma_copy: … row 0 of src … 0 to 15 … oob_mode.skip",
    OutOfBoundsError,
    runs=True,
)
def a_negative_index():
    table = hbm(16, 8)
    nisa.dma_copy(dst=table, src=sbuf(16, 8))
    rows = table.ap([[8, 4], [1, 8]], vector_offset=sbuf(4, 1, nl.int32, -1))
    nisa.dma_copy(dst=sbuf(4, 8), src=rows)


@TABLE.refuses(
    "oob_mode.error: an index out of range is an error.",
    "dma_copy: … row 0 of dst … 0 to 15 … oob_mode.skip",
    OutOfBoundsError,
    runs=True,
)
def a_scatter_past_the_end():
    rows = hbm(16, 8).ap([[8, 4], [1, 8]], vector_offset=sbuf(4, 1, nl.int32, 16))
    nisa.dma_copy(dst=rows, src=sbuf(4, 8))


@TABLE.refuses(
    "A run-time address lies in the tensor.",
    "dma_copy: src reaches … 112 to 143 … holds 128 … Shorten",
    OutOfBoundsError,
    runs=True,
)
def an_offset_past_the_end():
    table = hbm(16, 8)
    nisa.dma_copy(dst=table, src=sbuf(16, 8))
    rows = table.ap([[8, 4], [1, 8]], scalar_offset=sbuf(1, 1, nl.int32, 14))
    nisa.dma_copy(dst=sbuf(4, 8), src=rows)


@TABLE.refuses(
    "A run-time address lies in the tile.",
    "tensor_copy: src reaches … 7 to 32 … holds 32 … Shorten",
    OutOfBoundsError,
    runs=True,
)
def an_offset_past_the_row_of_a_tile():
    index = sbuf(1, 1, nl.int32, 7)
    part = sbuf(4, 8).ap([[8, 4], [1, 2]], scalar_offset=index, indirect_dim=1)
    nisa.tensor_copy(sbuf(4, 2), part)


@TABLE.refuses(
    "reduce_op is add.",
    "dma_compute: reduce_op=multiply … is not possible … Use add",
    source="NKI 0.6, nki.isa.dma_compute",
)
def a_product_in_flight():
    nisa.dma_compute(hbm(128, 8), [sbuf(128, 8), sbuf(128, 8)], nl.multiply)


@TABLE.refuses(
    "Scales are 1.0.",
    "dma_compute: scales=(1.0, 2.0) … 1.0 … not supported",
    source="NKI 0.6, nki.isa.dma_compute",
)
def a_weighted_sum_in_flight():
    nisa.dma_compute(hbm(128, 8), [sbuf(128, 8), sbuf(128, 8)], nl.add, scales=[1.0, 2.0])


@TABLE.refuses(
    "At most 16 sources.",
    "dma_compute: … 17 tensors … 16 … several steps",
    source="NKI 0.6, nki.isa.dma_compute",
)
def a_sum_of_too_many():
    nisa.dma_compute(hbm(128, 8), [sbuf(128, 8)] * 17, nl.add)


@TABLE.refuses(
    "There is at least one source.",
    "dma_compute: srcs is empty … at least one … source",
    UsageError,
    source="NKI 0.6, nki.isa.dma_compute",
)
def a_sum_of_nothing():
    nisa.dma_compute(hbm(128, 8), [], nl.add)


@TABLE.refuses(
    "Sources and destination have equally many elements.",
    "dma_compute: … 512 elements … 1024 … same number",
    source="NKI 0.6, nki.isa.dma_compute",
)
def a_sum_of_unequal_sizes():
    nisa.dma_compute(hbm(128, 8), [sbuf(128, 8), sbuf(128, 4)], nl.add)


@TABLE.refuses(
    "axes restate the default permutation.",
    "dma_transpose: axes=(0, 1) … 2-D (1, 0) … only",
    source="NKI 0.6, nki.isa.dma_transpose",
)
def a_permutation_that_is_no_transpose():
    nisa.dma_transpose(sbuf(8, 128, BF16), hbm(128, 8, dtype=BF16), axes=(0, 1))


@TABLE.refuses(
    "dst has the permuted shape exactly.",
    "dma_transpose: dst … [8, 64] … The transpose of src is … [8, 128]",
    source="NKI 0.4 release notes",
)
def a_transpose_into_the_wrong_shape():
    nisa.dma_transpose(sbuf(8, 64, BF16), hbm(128, 8, dtype=BF16))


@TABLE.refuses(
    "src and dst have the same dtype.",
    "dma_transpose: dst … float32 … bfloat16 … same dtype",
    source="NKI 0.6, nki.isa.dma_transpose",
)
def a_transpose_that_converts():
    nisa.dma_transpose(sbuf(8, 128), hbm(128, 8, dtype=BF16))


@TABLE.refuses(
    "hwdge: a 2-D src has 16 rows.",
    "dma_transpose: dge_mode=hwdge … [32, 8] … 16 rows",
    source="NKI 0.6, nki.isa.dma_transpose",
)
def a_transpose_of_too_many_rows_by_hardware():
    nisa.dma_transpose(sbuf(8, 32, BF16), hbm(32, 8, dtype=BF16), dge_mode=nisa.dge_mode.hwdge)


@TABLE.refuses(
    "hwdge: the last dimension is at most 128.",
    "dma_transpose: dge_mode=hwdge … [16, 256] … at most 128",
    source="NKI 0.6, nki.isa.dma_transpose",
)
def a_transpose_of_long_rows_by_hardware():
    nisa.dma_transpose(
        hbm(256, 16, dtype=BF16), hbm(16, 256, dtype=BF16), dge_mode=nisa.dge_mode.hwdge
    )


@TABLE.refuses(
    "hwdge: the dtype has 2 bytes.",
    "dma_transpose: dge_mode=hwdge … float32 … 2-byte",
    source="NKI 0.6, nki.isa.dma_transpose",
)
def a_transpose_of_four_bytes_by_hardware():
    nisa.dma_transpose(sbuf(8, 16), hbm(16, 8), dge_mode=nisa.dge_mode.hwdge)


@TABLE.refuses(
    "dst lies in SBUF or HBM.",
    "dma_transpose: dst … sbuf or … psum … Copy it",
    source="NKI 0.6, nki.isa.dma_transpose",
)
def a_transpose_into_psum():
    nisa.dma_transpose(psum(8, 128, BF16), hbm(128, 8, dtype=BF16))

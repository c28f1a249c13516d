"""The maths of nki.language, names, order and versions."""

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import OutOfBoundsError, UsageError
from tests.illegal.table import Table
from tests.illegal.tiles import hbm, psum, sbuf

TABLE = Table("NKI 0.6, nki.language")


@TABLE.refuses(
    "A tile has at most 128 partitions.",
    "256 rows … 128 partitions … Split",
    UsageError,
)
def a_load_of_too_many_rows():
    nl.load(hbm(256, 4))


@TABLE.refuses(
    "A value in PSUM is not stored.",
    "nl.store: … PSUM … Copy it to SBUF",
    UsageError,
    source="NKI 0.3 release notes",
)
def a_store_from_psum():
    nl.store(hbm(4, 4), psum(4, 4))


@TABLE.refuses(
    "Value and destination have equally many elements.",
    "dma_copy: … 16 elements … 32 … same number",
)
def a_store_of_another_size():
    nl.store(hbm(4, 4), sbuf(4, 8))


@TABLE.refuses(
    "There is no broadcasting between tiles.",
    "nl.add: … 4 in … 8 in … equal or 1",
    UsageError,
)
def tiles_of_different_shape():
    nl.add(sbuf(4, 4), sbuf(4, 8))


@TABLE.refuses(
    "One operand is a tile.",
    "nl.add(1, 2) … no tile … compute it in Python",
    UsageError,
)
def two_numbers():
    nl.add(1, 2)


@TABLE.refuses(
    "Reductions are over free axes.",
    "nl.sum: axis=0 … [4, 4] … Across partitions use",
    UsageError,
)
def a_sum_over_partitions():
    nl.sum(sbuf(4, 4), axis=0)


@TABLE.refuses(
    "A transpose puts columns on partitions.",
    "256 rows … 128 partitions … Split",
    UsageError,
)
def a_transpose_of_too_many_columns():
    nl.transpose(sbuf(128, 256))


@TABLE.refuses(
    "Dimensions of size 1 expand.",
    "broadcast … size 1 … it has 4",
    UsageError,
)
def a_broadcast_of_four():
    nl.broadcast_to(sbuf(4, 4), (4, 8))


@TABLE.refuses(
    "axis lies in the shape.",
    "expand_dim: … 0 to 2 … not 9",
    OutOfBoundsError,
)
def a_dimension_far_outside():
    nl.expand_dims(sbuf(4, 4), 9)


@TABLE.refuses(
    "The grid has one axis.",
    "program_id … axis=3 … axis 0 only",
    UsageError,
    source="NKI 0.2 release notes",
)
def a_second_grid_axis():
    nl.program_id(3)


@TABLE.refuses(
    "A tile has at most 128 partitions.",
    "256 rows … 128 partitions … Split",
    UsageError,
)
def an_identity_of_too_many_rows():
    nl.shared_identity_matrix(256)


@TABLE.refuses(
    "name is a string.",
    "name=7 … must be … a string",
    UsageError,
    source="NKI 0.6, scheduling guide",
)
def a_name_that_is_a_number():
    nisa.memset(nl.ndarray((4, 4), nl.float32), 0, name=7)


@TABLE.refuses(
    "depends_on takes instructions.",
    "depends_on: 3 … no instruction … nki.isa function",
    UsageError,
    source="NKI 0.6, scheduling guide",
)
def an_order_after_a_number():
    nisa.memset(nl.ndarray((4, 4), nl.float32), 0).depends_on(3)


@TABLE.refuses(
    "topk came with NKI 0.6.",
    "nisa.topk … 0.6 … held to NKI 0.5 … later version",
    UsageError,
    version="0.5",
    source="NKI 0.6 release notes",
)
def an_instruction_of_a_later_version():
    nisa.topk(sbuf(16, 4, nl.bfloat16), sbuf(16, 4, nl.uint32), sbuf(16, 8, nl.bfloat16), 64)


@TABLE.refuses(
    "accumulate came with NKI 0.3.",
    "accumulate= of nisa.nc_matmul … 0.3 … held to NKI 0.2 … later version",
    UsageError,
    version="0.2",
    source="NKI 0.3 release notes",
)
def an_argument_of_a_later_version():
    tile = sbuf(128, 128, nl.bfloat16)
    nisa.nc_matmul(psum(128, 128), tile, tile, accumulate=False)

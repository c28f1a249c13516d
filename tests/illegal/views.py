"""Indices, views, reshapes and access patterns."""

import numpy as np

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import OutOfBoundsError, UsageError
from tests.illegal.table import Table
from tests.illegal.tiles import hbm, sbuf

TABLE = Table("NKI 0.6, NkiTensor")


@TABLE.refuses(
    "A slice lies in the tensor.",
    "[0:8] … dimension 0 … size 4 … Clamp",
    OutOfBoundsError,
)
def a_slice_past_the_partitions():
    sbuf(4, 4)[0:8]


@TABLE.refuses(
    "A slice lies in the tensor.",
    "[0:8] … dimension 1 … size 4 … Clamp",
    OutOfBoundsError,
)
def a_slice_past_the_columns():
    sbuf(4, 4)[:, 0:8]


@TABLE.refuses(
    "An index lies in the tensor.",
    "[4:5] … dimension 0 … size 4",
    OutOfBoundsError,
)
def an_index_past_the_end():
    sbuf(4, 4)[4]


@TABLE.refuses(
    "nl.ds(start, size) lies in the tensor.",
    "[2:6] … dimension 1 … size 4 … Clamp",
    OutOfBoundsError,
)
def a_dynamic_slice_past_the_end():
    sbuf(4, 4)[:, nl.ds(2, 4)]


@TABLE.refuses(
    "A slice has at least one element.",
    "[2:2] … dimension 1 … empty",
    OutOfBoundsError,
)
def an_empty_slice():
    sbuf(4, 4)[:, 2:2]


@TABLE.refuses(
    "There is one index for each dimension.",
    "2 dimensions … 3 … Leave 1 out",
    UsageError,
)
def too_many_indices():
    sbuf(4, 4)[0, 0, 0]


@TABLE.refuses(
    "An index has one ellipsis at most.",
    "index of … 2 ellipses … one at most",
    UsageError,
)
def two_ellipses():
    sbuf(4, 4)[..., ...]


@TABLE.refuses(
    "Steps are positive.",
    "slice(3, 0, -1) … step -1 … at least 1",
    UsageError,
)
def a_backward_slice():
    sbuf(4, 4)[:, 3:0:-1]


@TABLE.refuses(
    "Steps are positive.",
    "slice(0, 4, 0) … step 0 … at least 1",
    UsageError,
)
def a_slice_that_stands_still():
    sbuf(4, 4)[:, 0:4:0]


@TABLE.refuses(
    "Indices are ints, slices, nl.ds and registers.",
    "Dimension 0 … 1.5 … use an int",
    UsageError,
)
def an_index_that_is_a_fraction():
    sbuf(4, 4)[1.5]


@TABLE.refuses(
    "Assignment to a view is illegal.",
    "Cannot assign … sbuf … Write with an instruction",
    UsageError,
)
def an_assignment_to_elements():
    sbuf(4, 4)[0] = 1


@TABLE.refuses(
    "There are no operators on tensors.",
    "Tensor … no Python operators … Use nl.add",
    UsageError,
)
def a_sum_of_tensors():
    sbuf(4, 4) + sbuf(4, 4)


@TABLE.refuses(
    "A tensor is no sequence.",
    "Tensor … cannot be iterated … range(4)",
    UsageError,
)
def a_loop_over_a_tensor():
    list(sbuf(4, 4))


@TABLE.refuses(
    "The contents of a tensor exist on the device.",
    "Tensor … no NumPy array … nl.device_print",
    UsageError,
)
def an_array_of_a_tensor():
    np.asarray(sbuf(4, 4))


@TABLE.refuses(
    "reshape keeps the element count.",
    "Cannot reshape 16 … [4, 5] … must be 16",
    UsageError,
)
def a_reshape_of_another_size():
    sbuf(4, 4).reshape((4, 5))


@TABLE.refuses(
    "On chip reshape keeps the partition dimension.",
    "reshape … dimension 0 … [4, 4] … nc_transpose",
    UsageError,
)
def a_reshape_of_the_partitions():
    sbuf(4, 4).reshape((2, 8))


@TABLE.refuses(
    "reshape is expressible with strides.",
    "Cannot reshape … [4, 4, 4] … [4, 16] … Copy it first",
    UsageError,
)
def a_reshape_that_would_move_data():
    nl.ndarray((4, 4, 8), nl.float32)[:, :, 0:4].reshape((4, 16))


@TABLE.refuses(
    "On chip dims[0] is 0.",
    "permute … dimension 0 … [4, 4] … nc_transpose",
    UsageError,
)
def a_permutation_of_the_partitions():
    sbuf(4, 4).permute((1, 0))


@TABLE.refuses(
    "dims is a permutation.",
    "permute([0, 0]) … each of the 2 … once",
    UsageError,
)
def a_permutation_that_is_none():
    sbuf(4, 4).permute((0, 0))


@TABLE.refuses(
    "broadcast repeats a dimension of size 1.",
    "broadcast … dimension 1 … it has 4",
    UsageError,
)
def a_broadcast_of_more_than_one():
    sbuf(4, 4).broadcast(1, 8)


@TABLE.refuses(
    "On chip dimension 0 is not broadcast.",
    "broadcast … dimension 0 … [1, 4] … nc_transpose",
    UsageError,
)
def a_broadcast_over_partitions():
    sbuf(1, 4).broadcast(0, 8)


@TABLE.refuses(
    "view: the last dimension is divisible.",
    "Cannot view … 3 bytes … multiples of 4",
    UsageError,
)
def a_view_of_a_row_that_does_not_divide():
    nl.ndarray((4, 3), nl.int8).view(nl.float32)


@TABLE.refuses(
    "view: the last dimension is contiguous.",
    "Cannot view … strides [8, 2] … must be contiguous",
    UsageError,
)
def a_view_of_strided_bytes():
    nl.ndarray((4, 8), nl.bfloat16)[:, 0:8:2].view(nl.int8)


@TABLE.refuses(
    "0 <= start < end <= shape[dim].",
    "[2:6] … dimension 1 … size 4 … Clamp",
    OutOfBoundsError,
)
def a_method_slice_past_the_end():
    sbuf(4, 4).slice(1, 2, 6)


@TABLE.refuses(
    "dim names a dimension.",
    "select: … 0 to 1 … not 2",
    OutOfBoundsError,
)
def a_selection_of_a_dimension_that_is_not_there():
    sbuf(4, 4).select(2, 0)


@TABLE.refuses(
    "On chip expand_dim is not at dimension 0.",
    "expand_dim … dimension 0 … [4, 4] … nc_transpose",
    UsageError,
)
def a_new_partition_dimension():
    sbuf(4, 4).expand_dim(0)


@TABLE.refuses(
    "squeeze_dim removes a dimension of size 1.",
    "squeeze_dim: … size 4 … not 1",
    UsageError,
)
def a_squeeze_of_four():
    sbuf(4, 4).squeeze_dim(1)


@TABLE.refuses(
    "On chip start_dim is above 0.",
    "flatten_dims … dimension 0 … [4, 4, 4] … nc_transpose",
    UsageError,
)
def a_flattened_partition_dimension():
    nl.ndarray((4, 4, 4), nl.float32).flatten_dims(0, 1)


@TABLE.refuses(
    "reshape_dim keeps the element count.",
    "Cannot reshape 8 … [3, 3] … must be 8",
    UsageError,
)
def a_split_that_does_not_divide():
    sbuf(4, 8).reshape_dim(1, (3, 3))


@TABLE.refuses(
    "vector_select works on HBM.",
    "vector_select: dimension 0 … in sbuf … tensor in HBM",
    UsageError,
)
def rows_of_a_tile_by_index():
    sbuf(4, 4).vector_select(0, sbuf(4, 1, nl.int32))


@TABLE.refuses(
    "vector_select works on dimension 0.",
    "vector_select: dimension 1 … dimension 0 … in HBM",
    UsageError,
)
def columns_by_index():
    hbm(4, 4).vector_select(1, sbuf(4, 1, nl.int32))


@TABLE.refuses(
    "The partition step is the number of elements in a partition.",
    "ap: … steps 4 … is 8",
    UsageError,
    source="NKI 0.6, access patterns",
)
def a_pattern_with_the_wrong_partition_step():
    sbuf(4, 8).ap([[4, 4], [1, 4]])


@TABLE.refuses(
    "All elements lie in the tensor.",
    "ap: elements 4 to 35 … 32 elements … Check pattern",
    OutOfBoundsError,
    source="NKI 0.6, access patterns",
)
def a_pattern_past_the_tile():
    nisa.tensor_copy(sbuf(4, 8), sbuf(4, 8).ap([[8, 4], [1, 8]], offset=4))


@TABLE.refuses(
    "All elements lie in the tensor.",
    "ap: elements 0 to 32 … 32 elements … Check pattern",
    OutOfBoundsError,
    source="NKI 0.6, access patterns",
)
def a_pattern_past_the_tensor():
    nisa.dma_copy(sbuf(4, 9), hbm(4, 8).ap([[8, 4], [1, 9]]))


@TABLE.refuses(
    "A pattern is a list of [step, count].",
    "ap: the pattern [8, 4] … [step, count] … such as",
    UsageError,
    source="NKI 0.6, access patterns",
)
def a_pattern_of_numbers():
    hbm(4, 8).ap([8, 4])


@TABLE.refuses(
    "Counts are positive.",
    "ap: the pattern … -8 … at least 1 … such as",
    UsageError,
    source="NKI 0.6, access patterns",
)
def a_pattern_of_negative_counts():
    hbm(4, 8).ap([[8, 4], [1, -8]])


@TABLE.refuses(
    "indirect_dim names a dimension.",
    "ap: … 0 to 1 … not 5",
    OutOfBoundsError,
    source="NKI 0.6, access patterns",
)
def an_offset_over_a_dimension_that_is_not_there():
    hbm(4, 8).ap([[8, 4], [1, 8]], scalar_offset=sbuf(1, 1, nl.int32), indirect_dim=5)


@TABLE.refuses(
    "On chip the partition dimension stays first.",
    "permute … dimension 0 … [4, 8] … nc_transpose",
    UsageError,
)
def a_rearrangement_of_the_partitions():
    sbuf(4, 8).rearrange(("p", "f"), ("f", "p"))


@TABLE.refuses(
    "Both patterns name the same dimensions.",
    "rearrange … p, f … p, g … each once",
    UsageError,
)
def a_rearrangement_of_other_names():
    sbuf(4, 8).rearrange(("p", "f"), ("p", "g"))

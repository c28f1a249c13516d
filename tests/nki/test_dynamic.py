"""Run-time addressing: each element is where the formula of the access-pattern guide puts it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import OutOfBoundsError, UsageError

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def numbered(*shape, dtype=np.float32):
    return np.arange(math.prod(shape)).reshape(shape).astype(dtype)


def by_formula(flat, pattern, start):
    """Return the elements of a pattern one by one: flat[start + Σ step·index]."""
    made = np.empty([count for _, count in pattern], flat.dtype)
    for index in np.ndindex(*made.shape):
        made[index] = flat[start + sum(i * step for i, (step, _) in zip(index, pattern))]  # noqa: B905
    return made


def index_tile(in_sbuf, values, dtype=np.int32):
    return in_sbuf(np.array(values, dtype).reshape(-1, 1))


@st.composite
def scalar_cases(draw):
    """Draw a base shape, a dimension, an index and a pattern that stays inside."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    dim = draw(st.integers(0, len(shape) - 1))
    index = draw(st.integers(0, shape[dim] - 1))
    start = index * math.prod(shape[dim + 1 :])
    room = math.prod(shape) - 1 - start
    offset = draw(st.integers(0, room))
    room -= offset
    pattern = []
    for _ in range(draw(st.integers(1, 3))):
        step = draw(st.integers(0, 3))
        count = draw(st.integers(1, 3 if step == 0 else min(3, room // step + 1)))
        pattern.append([step, count])
        room -= step * (count - 1)
    return shape, dim, index, offset, pattern


@SHARED
@given(scalar_cases())
def test_scalar_offset_shifts_by_rows_of_its_dimension(active, in_hbm, in_sbuf, case):
    # NKI access-pattern guide: offset + scalar_offset * prod(A.shape[indirect_dim+1:])
    shape, dim, index, offset, pattern = case
    source = numbered(*shape)
    view = in_hbm(source).ap(
        pattern, offset=offset, scalar_offset=index_tile(in_sbuf, [index]), indirect_dim=dim
    )
    made = nl.ndarray(view.shape, nl.float32, nl.private_hbm)
    nisa.dma_copy(made, view)
    start = offset + index * math.prod(shape[dim + 1 :])
    assert active.contents(made).tolist() == by_formula(source.ravel(), pattern, start).tolist()


@SHARED
@given(st.data())
def test_vector_offset_takes_each_row_from_its_index(active, in_hbm, in_sbuf, data):
    # The guide: A[offset + 1·z + prod(A.shape[1:])·dynamic_idx[w]]; the leading step is ignored.
    shape = (data.draw(st.integers(1, 6)), data.draw(st.integers(2, 5)), 3)
    indices = data.draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=5))
    offset = data.draw(st.integers(0, 2))
    source = numbered(*shape)
    view = in_hbm(source).ap(
        [[99, len(indices)], [3, 2], [2, 1]], offset, vector_offset=index_tile(in_sbuf, indices)
    )
    made = nl.ndarray((len(indices), 2), nl.float32)
    nisa.dma_copy(made, view)
    flat = source.ravel()
    wanted = [[flat[offset + 3 * z + i * shape[1] * 3] for z in range(2)] for i in indices]
    assert active.contents(made).tolist() == wanted


def test_an_index_may_be_a_view_of_an_index_table(active, in_hbm, in_sbuf):
    source = numbered(8, 4)
    table = in_sbuf(np.array([[1, 6], [0, 7], [3, 5]], np.int32))
    made = nl.ndarray((3, 4), nl.float32)
    column = table.ap([[2, 3], [1, 1]], offset=1)
    nisa.dma_copy(made, in_hbm(source).ap([[4, 3], [1, 4]], vector_offset=column))
    assert active.contents(made).tolist() == [source[i].tolist() for i in (6, 7, 5)]


@pytest.mark.parametrize("dim", [1, 2])
def test_compute_engines_read_and_write_at_run_time_addresses(active, in_sbuf, dim):
    source = numbered(4, 3, 6)
    index = index_tile(in_sbuf, [2])
    view = in_sbuf(source).select(dim, index)
    made = nl.zeros((4, 3, 6), nl.float32)
    target = made.select(dim, index)
    nisa.tensor_scalar(target, view, nl.multiply, 10.0)
    wanted = np.zeros_like(source)
    for p, a, b in np.ndindex(4, 3, 6):
        if (a if dim == 1 else b) == 2:
            wanted[p, a, b] = 10 * source[p, a, b]
    assert active.contents(made).tolist() == wanted.tolist()


def test_a_run_time_address_costs_an_engine_its_documented_minimum(active, in_sbuf):
    # Legacy reference, tensor_copy_dynamic_src: max(600, N) cycles.
    tile = in_sbuf(numbered(4, 8))
    made = nl.ndarray((4, 1), nl.float32)
    nisa.tensor_copy(made, tile[:, index_tile(in_sbuf, [3])])
    assert active.program.forms[-1].cost.cycles == active.core.timing.dynamic_min_cycles
    assert active.contents(made).ravel().tolist() == [3.0, 11.0, 19.0, 27.0]


def test_ds_takes_a_run_time_start(active, in_sbuf):
    tile = in_sbuf(numbered(4, 8))
    made = nl.ndarray((4, 3), nl.float32)
    start = index_tile(in_sbuf, [5])
    nisa.tensor_copy(made, tile[:, nl.ds(start, 3)])
    assert active.contents(made).tolist() == numbered(4, 8)[:, 5:8].tolist()
    nisa.memset(start, 6)
    with pytest.raises(OutOfBoundsError, match="index of src is 6; legal indices are 0 to 5"):
        nisa.tensor_copy(made, tile[:, nl.ds(start, 3)])


def test_dynamic_views_can_be_sliced_further_on_other_dimensions(active, in_hbm, in_sbuf):
    source = numbered(6, 4, 5)
    chosen = in_hbm(source)[index_tile(in_sbuf, [4])]
    assert chosen.shape == (4, 5)
    assert chosen.is_indirect()
    made = nl.ndarray((2, 3), nl.float32)
    nisa.dma_copy(made, chosen[1:3, 2:5])
    assert active.contents(made).tolist() == source[4, 1:3, 2:5].tolist()


def test_rows_chosen_at_run_time_keep_their_dimension(in_hbm, in_sbuf):
    chosen = in_hbm(numbered(6, 4)).vector_select(0, index_tile(in_sbuf, [4, 2]))
    assert chosen[:, 1:3].shape == (2, 2)
    for change in (
        lambda v: v[0:1],
        lambda v: v[0],
        lambda v: v.permute((1, 0)),
        lambda v: v.reshape((4, 2)),
        lambda v: v.flatten_dims(0, 1),
    ):
        with pytest.raises(UsageError, match="chosen at run time"):
            change(chosen)
    with pytest.raises(UsageError, match="once is possible"):
        chosen.select(1, index_tile(in_sbuf, [1]))
    with pytest.raises(UsageError, match="before that"):
        chosen.view(nl.bfloat16)


def test_indices_out_of_range_are_errors_and_name_the_row(active, in_hbm, in_sbuf):
    made = nl.zeros((3, 4), nl.float32)
    rows = in_hbm(numbered(6, 4)).vector_select(0, index_tile(in_sbuf, [1, 6, 2]))
    with pytest.raises(OutOfBoundsError, match=r"row 1 of src .* 0 to 5"):
        nisa.dma_copy(made, rows)


@pytest.mark.parametrize(("bad", "dtype"), [(-1, np.int32), (6, np.int32), (0xFFFFFFFF, np.uint32)])
def test_skipped_rows_keep_the_destination(active, in_hbm, in_sbuf, bad, dtype):
    made = nl.full((3, 4), 7.0, nl.float32)
    rows = in_hbm(numbered(6, 4)).vector_select(0, index_tile(in_sbuf, [1, bad, 2], dtype))
    nisa.dma_copy(made, rows, oob_mode=nisa.oob_mode.skip)
    source = numbered(6, 4)
    assert active.contents(made).tolist() == [source[1].tolist(), [7.0] * 4, source[2].tolist()]


def test_rows_that_a_scalar_offset_moves_out_of_the_tensor_are_skipped_one_by_one(
    active, in_hbm, in_sbuf
):
    source = numbered(6, 4)
    made = nl.full((3, 4), 7.0, nl.float32)
    view = in_hbm(source).ap([[4, 3], [1, 4]], scalar_offset=index_tile(in_sbuf, [4]))
    with pytest.raises(OutOfBoundsError, match="reaches elements"):
        nisa.dma_copy(made, view)
    nisa.dma_copy(made, view, oob_mode=nisa.oob_mode.skip)
    assert active.contents(made).tolist() == [*source[4:6].tolist(), [7.0] * 4]


def test_skipping_works_on_tiles_that_share_their_bytes(active, in_hbm, in_sbuf):
    lower = nl.ndarray((3, 8), nl.float32, address=(0, 0))
    upper = nl.ndarray((3, 4), nl.float32, address=(0, 16))
    nisa.memset(lower, 0.0)
    rows = in_hbm(numbered(6, 4)).vector_select(0, index_tile(in_sbuf, [1, 9, 2]))
    nisa.dma_copy(upper, rows, oob_mode=nisa.oob_mode.skip)
    wanted = np.zeros((3, 8))
    wanted[0, 4:], wanted[2, 4:] = numbered(6, 4)[1], numbered(6, 4)[2]
    assert active.contents(lower).tolist() == wanted.tolist()


def test_ap_reinterprets_bytes_and_scales_rows(active, in_hbm, in_sbuf):
    # NKI access-pattern guide: int32 (128, 256) as bf16 has a partition step of 512.
    source = numbered(4, 6, dtype=np.uint32) * 0x10001 + 7
    halves = source.view(np.uint16)
    tile = in_sbuf(source).ap([[12, 4], [1, 12]], dtype=nl.uint16)
    made = nl.ndarray((4, 12), nl.uint16)
    nisa.tensor_copy(made, tile)
    assert active.contents(made).tolist() == halves.tolist()
    row = in_hbm(source).ap(
        [[12, 1], [1, 12]], scalar_offset=index_tile(in_sbuf, [2]), dtype=nl.uint16
    )
    nisa.dma_copy(made[0:1], row)
    assert active.contents(made)[0].tolist() == halves[2].tolist()


def test_ap_counts_the_dimensions_of_the_reshaped_tensor(active, in_hbm, in_sbuf):
    source = numbered(12)
    view = (
        in_hbm(source)
        .reshape((4, 3))
        .ap([[3, 1], [1, 3]], scalar_offset=index_tile(in_sbuf, [2]), indirect_dim=0)
    )
    made = nl.ndarray((1, 3), nl.float32)
    nisa.dma_copy(made, view)
    assert active.contents(made).tolist() == [[6.0, 7.0, 8.0]]


def test_ap_takes_an_int_as_scalar_offset(in_hbm):
    view = in_hbm(numbered(6, 4)).ap([[4, 2], [1, 4]], scalar_offset=3)
    assert (view.offset, view.is_indirect()) == (12, False)
    with pytest.raises(OutOfBoundsError, match="scalar_offset=6"):
        in_hbm(numbered(6, 4)).ap([[4, 2], [1, 4]], scalar_offset=6)


def test_ap_overrides_the_view_it_is_called_on(in_sbuf):
    tile = in_sbuf(numbered(4, 8))
    inner = tile.ap([[8, 4], [2, 4]])
    assert inner.ap([[8, 4], [1, 3]]).get_pattern() == [[8, 4], [1, 3]]
    assert tile[:, 2:4].ap([[8, 4], [1, 3]]).offset == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t, i: t.ap([[4, 2], [1, 4]], scalar_offset=i, vector_offset=i), "not both"),
        (lambda t, i: t.ap([[4, 2], [1, 4]], vector_offset=i), "2 rows, vector_offset"),
        (lambda t, i: t.ap([[4, 2], [1, 4]], vector_offset=i, indirect_dim=1), "chooses rows"),
        (lambda t, i: t.ap([4, 2]), r"\[step, count\] pairs"),
        (lambda t, i: t.ap([[4, 0], [1, 4]]), "counts of at least 1"),
        (lambda t, i: t[i, i], "once is possible"),
        (lambda t, i: t.ap([[4, 2], [1, 4]], scalar_offset=t), "lie in SBUF or a register"),
        (lambda t, i: t.select(0, i.view("float32")), "must hold integers"),
    ],
)
def test_wrong_run_time_addresses_are_refused(in_hbm, in_sbuf, make, message):
    with pytest.raises(UsageError, match=message):
        make(in_hbm(numbered(6, 4)), index_tile(in_sbuf, [0]))


def test_partitions_are_not_addressed_at_run_time(in_sbuf):
    tile = in_sbuf(numbered(4, 8))
    with pytest.raises(UsageError, match="partition dimension"):
        tile[index_tile(in_sbuf, [0])]


def test_an_on_chip_pattern_in_use_stays_inside_its_partitions(in_sbuf):
    beyond = in_sbuf(numbered(4, 8)).ap([[8, 2], [1, 4]], offset=6)
    with pytest.raises(OutOfBoundsError, match="elements 6 to 9 of a partition"):
        nisa.tensor_copy(nl.ndarray((2, 4), nl.float32), beyond)

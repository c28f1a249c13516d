"""Logical views against NumPy, which does the same with real arrays."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emuron.compiler.kernels.view import LogicalView, take

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4).map(tuple)


def elements(view: LogicalView) -> np.ndarray:
    """Return the base element that each place of the view reads, by a loop over its runs."""
    runs = [run for dim in view.dims for run in dim]
    flat = [
        view.offset + sum(i * stride for i, (_, stride) in zip(at, runs, strict=True))
        for at in product(*(range(count) for count, _ in runs))
    ]
    return np.array(flat).reshape(view.shape)


def base(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(prod(shape)).reshape(shape)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=SHAPES, data=st.data())
def test_permuted_sliced_and_reshaped_views_read_what_numpy_reads(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    view, array = LogicalView.dense(shape), base(shape)
    for _ in range(4):
        act = data.draw(st.sampled_from(["permute", "slice", "reshape"]))
        if act == "permute":
            axes = tuple(data.draw(st.permutations(range(array.ndim))))
            view, array = view.permute(axes), array.transpose(axes)
        elif act == "slice":
            dim = data.draw(st.integers(0, array.ndim - 1))
            start = data.draw(st.integers(0, array.shape[dim] - 1))
            size = data.draw(st.integers(1, array.shape[dim] - start))
            sliced = view.slice(dim, start, size)
            if sliced is None:
                continue
            view, array = sliced, np.take(array, range(start, start + size), axis=dim)
        else:
            merge = data.draw(st.integers(0, array.ndim - 1))
            wanted = (prod(array.shape[: merge + 1]), *array.shape[merge + 1 :])
            reshaped = view.reshape(wanted)
            if reshaped is None:
                continue
            view, array = reshaped, array.reshape(wanted)
        assert view.shape == array.shape
        np.testing.assert_array_equal(elements(view), array)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=SHAPES, data=st.data())
def test_a_view_as_a_matrix_has_its_leading_dimensions_merged(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    matrix = LogicalView.dense(shape).permute(axes).matrix()
    array = base(shape).transpose(axes)
    np.testing.assert_array_equal(elements(matrix), array.reshape(-1, array.shape[-1]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=SHAPES)
def test_only_a_whole_row_major_view_is_dense(shape: tuple[int, ...]) -> None:
    view = LogicalView.dense(shape)
    assert view.is_dense
    turned = view.permute(tuple(reversed(range(len(shape)))))
    same = np.array_equal(elements(turned).ravel(), np.arange(prod(shape)))
    assert turned.is_dense == same


def test_heads_merge_with_their_size_without_a_copy() -> None:
    attended = LogicalView.dense((2, 4, 6, 8)).permute((0, 2, 1, 3))  # [batch, rows, heads, size]
    merged = attended.reshape((2, 6, 32))
    assert merged is not None
    expected = base((2, 4, 6, 8)).transpose(0, 2, 1, 3).reshape(2, 6, 32)
    np.testing.assert_array_equal(elements(merged), expected)


def test_a_broadcast_reads_one_element_again_and_again() -> None:
    view = LogicalView.dense((3, 1)).broadcast((2, 3, 4), (1, 2))
    expected = np.broadcast_to(base((3, 1)), (2, 3, 4))
    np.testing.assert_array_equal(elements(view), expected)


def test_a_range_that_cuts_through_inner_runs_needs_a_copy() -> None:
    dim = ((4, 100), (8, 1))
    assert take(dim, 4, 8) is None
    assert take(dim, 4, 4) == (4, ((4, 1),))
    assert take(dim, 8, 16) == (100, ((2, 100), (8, 1)))


def test_a_step_takes_every_other_element() -> None:
    sliced = LogicalView.dense((5, 6)).slice(1, 1, 3, 2)
    assert sliced is not None
    np.testing.assert_array_equal(elements(sliced), base((5, 6))[:, 1:7:2])

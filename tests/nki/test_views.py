"""Chains of views: each names the elements that the same steps of NumPy, or plain loops, name."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emuron.nki.language as nl
from emuron.errors import EmuronError, UsageError
from emuron.hardware import catalog
from emuron.nki.recorder import Recorder
from emuron.nki.tensor import NkiTensor

CORE = catalog.chip("trn2").core


def tensor(shape, buffer=nl.private_hbm, dtype="float32"):
    return NkiTensor(Recorder(CORE).tensor(shape, dtype, buffer, name="t"))


def numbered(shape):
    return np.arange(math.prod(shape)).reshape(shape)


def elements(view):
    """Return the storage elements that a view names, by its definition: offset + Σ stride·i."""
    numbers = np.empty(view.shape, np.int64)
    for index in itertools.product(*map(range, view.shape)):
        steps = (i * stride for i, stride in zip(index, view.strides, strict=True))
        numbers[index] = view.offset + sum(steps)
    return numbers


def _slice(draw, view, array, axis):
    start = draw(st.integers(0, array.shape[axis] - 1))
    end = draw(st.integers(start + 1, array.shape[axis]))
    step = draw(st.integers(1, 3))
    keys = (*[slice(None)] * axis, slice(start, end, step))
    return lambda: view.slice(axis, start, end, step), array[keys]


def _select(draw, view, array, axis):
    if array.ndim == 1:
        return _slice(draw, view, array, axis)
    index = draw(st.integers(0, array.shape[axis] - 1))
    return lambda: view.select(axis, index), np.take(array, index, axis)


def _permute(draw, view, array, axis):
    order = draw(st.permutations(range(array.ndim)))
    return lambda: view.permute(order), array.transpose(order)


def _expand(draw, view, array, axis):
    if array.ndim == 5:
        return _permute(draw, view, array, axis)
    return lambda: view.expand_dim(axis), np.expand_dims(array, axis)


def _squeeze(draw, view, array, axis):
    if array.shape[axis] != 1 or array.ndim == 1:
        return _expand(draw, view, array, axis)
    return lambda: view.squeeze_dim(axis), np.squeeze(array, axis)


def _broadcast(draw, view, array, axis):
    if array.shape[axis] != 1:
        return _slice(draw, view, array, axis)
    size = draw(st.integers(1, 3))
    return lambda: view.broadcast(axis, size), np.repeat(array, size, axis)


def _split(draw, view, array, axis):
    size = array.shape[axis]
    inner = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    shape = (*array.shape[:axis], size // inner, inner, *array.shape[axis + 1 :])
    given_shape = draw(st.sampled_from([(size // inner, inner), (-1, inner), (size // inner, -1)]))
    return lambda: view.reshape_dim(axis, given_shape), array.reshape(shape)


STEPS = (_slice, _select, _permute, _expand, _squeeze, _broadcast, _split)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_chain_of_views_names_the_elements_that_numpys_names(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    view, array = tensor(shape), numbered(shape)
    for _ in range(data.draw(st.integers(1, 5))):
        axis = data.draw(st.integers(0, array.ndim - 1))
        make, array = data.draw(st.sampled_from(STEPS))(data.draw, view, array, axis)
        view = make()
        assert view.shape == array.shape
    assert elements(view).tolist() == array.tolist()
    assert view.get_pattern() == [[s, n] for s, n in zip(view.strides, view.shape, strict=True)]
    dense = elements(view).ravel().tolist()
    assert view.is_contiguous() == (dense == list(range(dense[0], dense[0] + len(dense))))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_reshape_and_flatten_work_where_strides_can_say_it(data):
    """The oracle walks all strides that could say it: the new view must be an arithmetic grid."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    order = data.draw(st.permutations(range(len(shape))))
    view = tensor(shape).permute(order)
    axis = data.draw(st.integers(0, len(shape) - 1))
    view = view.slice(axis, 0, data.draw(st.integers(1, view.shape[axis])))
    size = view.size
    rows = data.draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    flat = elements(view).ravel().reshape(rows, size // rows)
    down = flat[1, 0] - flat[0, 0] if rows > 1 else 0
    across = flat[0, 1] - flat[0, 0] if size > rows else 0
    grid = flat[0, 0] + down * np.arange(rows)[:, None] + across * np.arange(size // rows)
    if (grid == flat).all():
        assert elements(view.reshape((rows, size // rows))).tolist() == flat.tolist()
    else:
        with pytest.raises(UsageError, match="without moving data"):
            view.reshape((rows, size // rows))


@st.composite
def rearrangements(draw):
    """Draw sizes of names, how a tensor groups them, and how the view shall group them."""
    names = "abcde"[: draw(st.integers(1, 5))]
    sizes = {name: draw(st.integers(1, 3)) for name in names}
    cuts = draw(st.lists(st.booleans(), min_size=len(names) - 1, max_size=len(names) - 1))
    source, group = [], [names[0]]
    for name, cut in zip(names[1:], cuts, strict=True):
        if cut:
            source.append(tuple(group))
            group = []
        group.append(name)
    source.append(tuple(group))
    return sizes, tuple(source), tuple(draw(st.permutations(names)))


@settings(deadline=None, max_examples=100)
@given(rearrangements())
def test_rearrange_places_each_element_where_its_names_say(case):
    sizes, source, target = case
    shape = tuple(math.prod(sizes[n] for n in group) for group in source)
    view = tensor(shape).rearrange(
        tuple(group if len(group) > 1 else group[0] for group in source), target, sizes
    )
    assert view.shape == tuple(sizes[n] for n in target)
    found = elements(view)
    names = [name for group in source for name in group]
    for place, index in enumerate(itertools.product(*(range(sizes[n]) for n in names))):
        at = dict(zip(names, index, strict=True))
        assert found[tuple(at[n] for n in target)] == place


def test_rearrange_takes_nested_groups_and_works_out_one_size_of_each():
    view = tensor((4, 30)).rearrange(
        ("p", (("a", "b"), "c")), ("p", "c", ("a", "b")), {"a": 2, "c": 3}
    )
    array = numbered((4, 30)).reshape(4, 10, 3).transpose(0, 2, 1)
    assert elements(view).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("dtype", "other", "shape", "wanted"),
    [
        ("float32", "bfloat16", (4, 6), (4, 12)),
        ("bfloat16", "float32", (4, 6), (4, 3)),
        ("uint8", "float32", (2, 3, 8), (2, 3, 2)),
        ("float32", "int32", (4, 5), (4, 5)),
    ],
)
@pytest.mark.parametrize("buffer", [nl.private_hbm, nl.sbuf])
def test_a_view_of_another_dtype_names_the_same_bytes(dtype, other, shape, wanted, buffer):
    view = tensor(shape, buffer, dtype)
    seen = view.view(other)
    assert (seen.shape, seen.dtype) == (wanted, other)
    first = elements(seen)[..., :1] * seen.dtype.itemsize
    assert (
        first.ravel().tolist() == (elements(view)[..., :1] * view.dtype.itemsize).ravel().tolist()
    )
    assert view.reinterpret_cast(other).shape == wanted


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.reshape((2, 2.5)),
        lambda t: t.reshape("ab"),
        lambda t: t.reshape((-1, -1)),
        lambda t: t.reshape((0, 120)),
        lambda t: t.permute((0, 1)),
        lambda t: t.permute(("a", "b", "c")),
        lambda t: t.slice(0, 3, 2),
        lambda t: t.slice(0, -1, 2),
        lambda t: t.slice(3, 0, 1),
        lambda t: t.slice(0, 0, 9),
        lambda t: t.slice(0, 0, 4, 0),
        lambda t: t.select(0, 4),
        lambda t: t.select(0, 1.5),
        lambda t: t.broadcast(0, 2),
        lambda t: t[:1].broadcast(0, 0),
        lambda t: t.squeeze_dim(0),
        lambda t: t.expand_dim(5),
        lambda t: t.reshape_dim(1, (2, 2)),
        lambda t: t.flatten_dims(2, 1),
        lambda t: t.rearrange(("a", "b"), ("b", "a")),
        lambda t: t.rearrange(("a", "b", "c"), ("a", "b")),
        lambda t: t.rearrange(("a", ("b", "d"), "c"), ("a", "b", "d", "c")),
        lambda t: t.vector_select(1, t),
        lambda t: t.view("no such dtype"),
        lambda t: t.ap(3),
        lambda t: t["x"],
        lambda t: t[None],
        lambda t: t[..., ...],
        lambda t: t[np.array([1, 2])],
    ],
)
def test_impossible_views_are_refused_with_a_message_of_ours(make):
    with pytest.raises(EmuronError, match=r"\bt\b|dtype|permute|ap:"):
        make(tensor((4, 5, 6)))

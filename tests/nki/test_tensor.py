"""Views: every way to make one gives the elements that NumPy's indexing gives."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emuron.nki.isa as nisa
import emuron.nki.language as nl
from emuron.errors import OutOfBoundsError, UsageError
from emuron.hardware import catalog
from emuron.isa.tensor import MemoryRegion
from emuron.nki.recorder import Recorder
from emuron.nki.tensor import NkiTensor

CORE = catalog.chip("trn2").core


def tensor(shape, buffer=nl.sbuf, dtype="float32"):
    return NkiTensor(Recorder(CORE).tensor(shape, dtype, buffer, name="t"))


def elements(view):
    """Return the storage elements that a view names, by its definition: offset + Σ stride·i."""
    numbers = np.empty(view.shape, np.int64)
    for index in np.ndindex(*view.shape):
        numbers[index] = view.offset + sum(
            i * stride for i, stride in zip(index, view.strides, strict=True)
        )
    return numbers


def numbered(shape):
    return np.arange(math.prod(shape)).reshape(shape)


@st.composite
def indexed(draw):
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    keys = []
    for size in shape[: draw(st.integers(1, len(shape)))]:
        start = draw(st.integers(0, size - 1))
        stop = draw(st.integers(start + 1, size))
        step = draw(st.sampled_from([None, 1, 2]))
        keys.append(
            draw(
                st.sampled_from(
                    [start, start - size, slice(start, stop, step), slice(None), slice(start, None)]
                )
            )
        )
    return shape, tuple(keys)


@settings(deadline=None)
@given(indexed())
def test_indexing_hbm_names_the_elements_that_numpy_names(case):
    shape, keys = case
    view = tensor(shape, nl.private_hbm)[keys]
    wanted = numbered(shape)[keys]
    assert elements(view).ravel().tolist() == wanted.ravel().tolist()
    assert view.shape == (wanted.shape or (1,))


@settings(deadline=None)
@given(indexed())
def test_indexing_on_chip_names_the_same_elements_and_keeps_partitions(case):
    shape, keys = case
    view = tensor(shape)[keys]
    wanted = numbered(shape)[keys]
    assert elements(view).ravel().tolist() == wanted.ravel().tolist()
    assert view.shape[0] == (1 if isinstance(keys[0], int) else wanted.shape[0])


@pytest.mark.parametrize(
    ("keys", "shape"),
    [
        ((0, 0, 10), (1, 1)),
        ((slice(None), 0), (64, 64)),
        ((slice(None), 0, 10), (64, 1)),
        ((0, ...), (1, 64, 64)),
    ],
)
def test_indexing_on_chip_gives_the_documented_shapes(keys, shape):
    # The examples of the NKI language guide.
    assert tensor((64, 64, 64))[keys].shape == shape


def test_views_of_views_add_up():
    whole = numbered((6, 8, 10))
    view = tensor((6, 8, 10))[1:5][:, 2:8:2][:, 1, 3:]
    assert elements(view).tolist() == whole[1:5][:, 2:8:2][:, 1, 3:].tolist()


def test_ds_is_a_slice_by_start_and_size():
    assert tensor((4, 10))[nl.ds(1, 2), nl.ds(start=3, size=5)].shape == (2, 5)


@pytest.mark.parametrize("key", [slice(0, 11), 10, -11, slice(5, 5), nl.ds(8, 3)])
def test_an_index_outside_raises(key):
    with pytest.raises(OutOfBoundsError, match=r"dimension 1 of t .*size 10"):
        tensor((4, 10))[:, key]


def test_too_many_indices_raise():
    with pytest.raises(UsageError, match="2 dimensions, not the 3 indexed"):
        tensor((4, 10))[0, 0, 0]


def test_an_index_of_a_wrong_type_is_named():
    with pytest.raises(UsageError, match="indexed with 'x'"):
        tensor((4, 10))[:, "x"]


def test_assignment_and_operators_point_to_instructions():
    tile = tensor((4, 10))
    with pytest.raises(UsageError, match=r"nisa\.tensor_copy"):
        tile[0:2] = 1.0
    with pytest.raises(UsageError, match=r"nl\.add"):
        tile + 1.0
    with pytest.raises(UsageError, match="truth value"):
        bool(tile)


def test_with_data_a_tensor_is_true_if_all_its_elements_are(active, in_sbuf):
    # The documentation's examples write `assert nl.equal(a, b)`.
    a = in_sbuf(np.array([[1.0, 2.0]], np.float32))
    assert nl.equal(a, a)
    assert not nl.equal(a, in_sbuf(np.array([[1.0, 3.0]], np.float32)))
    active.version = "0.6"
    with pytest.warns(DeprecationWarning, match="only a simulator knows it"):
        bool(a)


HBM = MemoryRegion.private_hbm


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda t: t.reshape((4, 30)), lambda a: a.reshape(4, 30)),
        (lambda t: t.reshape((2, -1)), lambda a: a.reshape(2, -1)),
        (lambda t: t.permute((2, 0, 1)), lambda a: a.transpose(2, 0, 1)),
        (lambda t: t.reshape_dim(2, (3, -1)), lambda a: a.reshape(4, 5, 3, 2)),
        (lambda t: t.flatten_dims(1, 2), lambda a: a.reshape(4, 30)),
        (lambda t: t.expand_dim(1), lambda a: a[:, None]),
        (lambda t: t.expand_dim(-1), lambda a: a[..., None]),
        (lambda t: t[1:2].squeeze_dim(0), lambda a: a[1]),
        (lambda t: t[:, 1:2].broadcast(1, 3), lambda a: np.repeat(a[:, 1:2], 3, 1)),
        (lambda t: t.slice(1, 1, 5, 2), lambda a: a[:, 1:5:2]),
        (lambda t: t.select(1, 2), lambda a: a[:, 2]),
    ],
)
def test_a_view_method_names_the_elements_of_its_numpy_equal(make, wanted):
    base = tensor((4, 5, 6), HBM)
    assert elements(make(base)).tolist() == wanted(numbered((4, 5, 6))).tolist()


def test_ap_addresses_the_storage_by_steps_and_counts():
    found = tensor((4, 5, 6), HBM).ap([[30, 4], [0, 2], [6, 5]], offset=1)
    by_hand = [[[1 + 30 * w + 6 * y for y in range(5)] for _ in range(2)] for w in range(4)]
    assert elements(found).tolist() == by_hand


def test_rearrange_refuses_what_strides_cannot_express():
    with pytest.raises(UsageError, match="without moving data"):
        tensor((4, 5, 6), HBM).rearrange(("a", "b", "c"), (("b", "a"), "c"))


def test_rearrange_splits_permutes_and_merges():
    view = tensor((4, 5, 6), HBM).rearrange(
        ("a", "b", ("c", "d")), ("c", ("a", "b"), "d"), {"d": 2}
    )
    wanted = numbered((4, 5, 6)).reshape(4, 5, 3, 2).transpose(2, 0, 1, 3).reshape(3, 20, 2)
    assert elements(view).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.permute((1, 0)),
        lambda t: t.reshape((2, 20)),
        lambda t: t.expand_dim(0),
        lambda t: t[0:1].squeeze_dim(0),
        lambda t: t.flatten_dims(0, 1),
    ],
)
def test_the_partition_dimension_stays(make):
    with pytest.raises(UsageError, match="partition"):
        make(tensor((4, 10)))


def test_view_as_another_dtype_scales_the_last_dimension():
    tile = tensor((4, 10), dtype="float32")
    narrow = tile[:, 2:6].view("bfloat16")
    assert (narrow.shape, narrow.strides, narrow.offset) == ((4, 8), (20, 1), 4)
    assert narrow.view(nl.float32).shape == (4, 4)
    with pytest.raises(UsageError, match="multiple"):
        tensor((4, 3), dtype="bfloat16").view("float32")


def test_ap_refuses_a_wrong_partition_step():
    with pytest.raises(UsageError, match="step is 10"):
        tensor((4, 10)).ap([[5, 4], [1, 10]])


def test_a_pattern_beyond_its_storage_has_a_shape_but_cannot_be_used(active):
    """nki-library's output_projection_tkg makes one in a round that it leaves out."""
    tile = nl.zeros((4, 10), nl.float32)
    beyond = tile.ap([[10, 4], [1, 11]])
    assert (beyond.shape, beyond.dtype) == ((4, 11), "float32")
    uses = (
        lambda: nisa.tensor_copy(nl.ndarray((4, 11), nl.float32), beyond),
        lambda: nisa.tensor_copy(beyond, nl.zeros((4, 11), nl.float32)),
        lambda: nisa.tensor_scalar(tile, tile, nl.add, beyond),
        lambda: beyond[0:2],
        lambda: beyond.reshape((44,)),
        lambda: active.contents(beyond),
    )
    for use in uses:
        with pytest.raises(OutOfBoundsError, match="elements 0 to 40"):
            use()


def test_ap_on_a_shifted_view_warns_that_offsets_are_absolute():
    with pytest.warns(UserWarning, match="tensor's start"):
        tensor((4, 10))[:, 2:].ap([[10, 4], [1, 2]], offset=0)


def test_contiguity_is_of_the_free_dimensions_on_chip():
    assert tensor((4, 10))[0:2].is_contiguous()
    assert tensor((4, 5, 6))[:, :, 0:6].is_contiguous()
    assert not tensor((4, 10))[:, ::2].is_contiguous()
    assert tensor((4, 10))[:, 2:4].get_pattern() == [[10, 4], [1, 2]]


def test_a_copied_object_holds_views_of_the_same_memory(active):
    tile = nl.ndarray((4, 4), nl.float32)
    register = nisa.register_alloc(3)
    held = copy.deepcopy({"tiles": [tile, tile[0:2, :]], "register": register})
    assert [view.tensor for view in held["tiles"]] == [tile.tensor] * 2
    assert held["register"] is register


def test_a_tensor_in_hbm_is_true_whatever_it_holds(active):
    """nki-library's blockwise products ask `if tensor:` of optional arguments."""
    zeros = nl.ndarray((4, 4), nl.float32, buffer=nl.shared_hbm)
    assert bool(zeros)
    assert not nl.zeros((4, 4), nl.float32)

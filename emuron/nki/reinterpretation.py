"""The same bytes as another dtype: what becomes of a view's shape, strides and offset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emuron.errors import UsageError
from emuron.isa.affine import Affine, Index
from emuron.numerics.dtypes import DType

if TYPE_CHECKING:
    from emuron.nki.tensor import NkiTensor


def offset_in(view: NkiTensor, new: DType) -> Index:
    """Return the offset of a view counted in elements of another dtype."""
    old, size = view.dtype.itemsize, new.itemsize
    if old == size:
        return view.offset
    if isinstance(view.offset, Affine) or view.offset * old % size:
        raise UsageError(
            f"The offset of {view.name}, {view.offset} elements of {view.dtype}, is no whole "
            f"number of {new} elements. Give ap offset=, or view the whole tensor as {new}."
        )
    return view.offset * old // size


def reinterpreted(view: NkiTensor, new: DType) -> NkiTensor:
    """Return the same bytes as another dtype; the last dimension scales by the size ratio."""
    if view.indirection is not None:
        raise UsageError(
            f"view: {view.name} is addressed at run time; view it as {new} before that."
        )
    old_size, new_size = view.dtype.itemsize, new.itemsize
    if old_size == new_size:
        return view._like(view.shape, view.strides, view.offset, new)
    last = view.shape[-1] * old_size
    outer = view.strides[:-1]
    if last % new_size or view.strides[-1] != 1 or any(s * old_size % new_size for s in outer):
        raise UsageError(
            f"Cannot view {view!r} as {new}: the last dimension must be contiguous and its "
            f"{last} bytes and the strides multiples of {new_size} bytes."
        )
    strides = tuple(step * old_size // new_size for step in outer)
    shape = (*view.shape[:-1], last // new_size)
    return view._like(shape, (*strides, 1), offset_in(view, new), new)

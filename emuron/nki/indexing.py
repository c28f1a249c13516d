"""Indexing of views: what one key means for one dimension, and whether it stays inside."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from emuron.errors import OutOfBoundsError, UsageError
from emuron.isa.affine import Affine, Index
from emuron.isa.tensor import AccessPattern


@dataclass(frozen=True, slots=True)
class DynamicSlice:
    """The slice [start, start + size) whose start is no int; made by `nl.ds`.

    It depends on a loop of the compiler, or is a [1, 1] tile or a register read at run time.
    """

    start: Index | AccessPattern
    size: int


Key = Any  # int | Affine | slice | DynamicSlice | Ellipsis | run-time index | tuple of these


def resolve(item: Key, size: int, axis: int, owner: AccessPattern) -> tuple[Index, int, int, bool]:
    """Return (start, count, step, drops the dimension) of one index."""
    if isinstance(item, slice):
        return _resolve_slice(item, size, axis, owner)
    if isinstance(item, DynamicSlice):
        if isinstance(item.start, int):
            _within(item.start, item.start + item.size, size, axis, owner)
        start: Any = item.start
        return start, item.size, 1, False
    if isinstance(item, Affine):
        return item, 1, 1, True
    try:
        position = operator.index(item)
    except TypeError:
        raise UsageError(
            f"Dimension {axis} of {owner.tensor.name} is indexed with {item!r}; use an int, a "
            "slice, nl.ds(start, size), … or a [1, 1] tile."
        ) from None
    if position < 0:
        position += size
    _within(position, position + 1, size, axis, owner)
    return position, 1, 1, True


def _resolve_slice(
    item: slice, size: int, axis: int, owner: AccessPattern
) -> tuple[Index, int, int, bool]:
    start, stop = _bound(item.start, 0, size), _bound(item.stop, size, size)
    step = 1 if item.step is None else operator.index(item.step)
    if step < 1:
        raise UsageError(
            f"Slice {item} of {owner.tensor.name} has step {step}; steps are at least 1."
        )
    length = stop - start
    if isinstance(length, Affine):
        if length.terms:
            raise UsageError(f"The length of slice {item} depends on a loop; use nl.ds.")
        length = length.base
    if isinstance(start, int) and isinstance(stop, int):
        _within(start, stop, size, axis, owner)
    return start, -(-int(length) // step), step, False


def _bound(value: Any, default: int, size: int) -> Index:
    if value is None:
        return default
    if isinstance(value, Affine):
        return value
    position = operator.index(value)
    return position + size if position < 0 else position


def _within(start: int, stop: int, size: int, axis: int, owner: AccessPattern) -> None:
    if not 0 <= start < stop <= size:
        raise OutOfBoundsError(
            f"Index [{start}:{stop}] is outside dimension {axis} of {owner.tensor.name} "
            f"(shape {list(owner.shape)}, size {size} there) or empty. "
            "Clamp the slice, say with min()."
        )


def has_rows(view: AccessPattern) -> bool:
    """Return whether the rows of a view are chosen one by one at run time."""
    return view.indirection is not None and view.indirection.kind == "vector"


def fixed_dimension(view: AccessPattern, method: str) -> UsageError:
    """Return the error for a view that would change dimension 0 where it must stay."""
    name, shape = view.tensor.name, list(view.shape)
    if has_rows(view):
        return UsageError(
            f"{method} cannot change dimension 0 of {name}: its rows are chosen at run time. Shape "
            "the tensor before vector_select, or choose fewer indices."
        )
    return UsageError(
        f"{method} cannot change dimension 0 of {name} {shape}: it is the partition dimension. "
        "Move data between partitions with nisa.nc_transpose or nisa.dma_copy."
    )

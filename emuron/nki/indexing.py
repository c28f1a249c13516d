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
    """The slice [start, start + size) whose start depends on a loop; made by `nl.ds`."""

    start: Index
    size: int


Key = Any  # int | Affine | slice | DynamicSlice | Ellipsis | [1, 1] tile | tuple of these


def resolve(item: Key, size: int, axis: int, owner: AccessPattern) -> tuple[Index, int, int, bool]:
    """Return (start, count, step, drops the dimension) of one index."""
    if isinstance(item, slice):
        return _resolve_slice(item, size, axis, owner)
    if isinstance(item, DynamicSlice):
        if isinstance(item.start, int):
            _within(item.start, item.start + item.size, size, axis, owner)
        return item.start, item.size, 1, False
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


def check_pattern(made: AccessPattern) -> None:
    """Refuse a raw pattern that leaves the storage or walks partitions with a wrong step."""
    if made.buffer.is_on_chip and made.shape[0] > 1 and made.strides[0] != made.row_elements:
        raise UsageError(
            f"ap: the first pair of {made.tensor.name} steps {made.strides[0]} elements; on chip "
            f"it runs over partitions, whose step is {made.row_elements} ({made.dtype})."
        )
    if made.indirection is not None:
        return
    low, high = made.bounds
    size = made.tensor.nbytes // made.dtype.itemsize
    if low < 0 or high >= size:
        raise OutOfBoundsError(
            f"ap: elements {low} to {high} are outside {made.tensor.name} "
            f"({size} elements of {made.dtype}). Check pattern and offset."
        )

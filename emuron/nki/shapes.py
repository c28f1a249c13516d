"""Shapes and strides of views: completing keys, splitting, reshaping, rearranging by names."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from emuron.errors import UsageError

if TYPE_CHECKING:
    from emuron.nki.tensor import NkiTensor


def completed(keys: tuple[Any, ...], ndim: int, name: str) -> tuple[Any, ...]:
    """Return one key for each dimension: `...` and missing trailing keys become full slices."""
    dots = [axis for axis, item in enumerate(keys) if item is Ellipsis]
    given = len(keys) - len(dots)
    if len(dots) > 1:
        raise UsageError(f"The index of {name} has {len(dots)} ellipses (…). Use one at most.")
    if given > ndim:
        raise UsageError(
            f"{name} has {ndim} dimensions, not the {given} indexed. Leave {given - ndim} out."
        )
    at = dots[0] if dots else given
    rest = keys[at + 1 :] if dots else ()
    return (*keys[:at], *[slice(None)] * (ndim - given), *rest)


def ints(values: Any, what: str) -> tuple[int, ...]:
    """Return a sequence of ints (NumPy's too) as a tuple; raise UsageError for anything else."""
    try:
        return tuple(operator.index(value) for value in values)
    except TypeError:
        raise UsageError(f"{what} is {values!r}; give a tuple of ints.") from None


def exact_split(size: int, shape: Sequence[int], name: str) -> tuple[int, ...]:
    """Return `shape` with one −1 worked out, if its product is `size`; else raise UsageError."""
    counts = ints(shape, f"The new shape of {name}")
    known = prod(count for count in counts if count != -1)
    if counts.count(-1) == 1 and known and size % known == 0:
        counts = tuple(size // known if count == -1 else count for count in counts)
    if prod(counts) != size or any(count < 1 for count in counts):
        raise UsageError(
            f"Cannot reshape {size} elements of {name} to {list(shape)}: the product must be "
            f"{size}, with at most one −1."
        )
    return counts


def reshaped_strides(
    old_shape: Sequence[int], old_strides: Sequence[int], shape: Sequence[int], name: str
) -> tuple[int, ...]:
    """Return strides of `shape` that keep the row-major order; raise UsageError if none do."""
    merged: list[tuple[int, int]] = []
    for count, stride in zip(old_shape, old_strides, strict=True):
        if count == 1:
            continue
        if merged and merged[-1][1] == stride * count:
            merged[-1] = (merged[-1][0] * count, stride)
        else:
            merged.append((count, stride))
    strides: list[int] = []
    for count in reversed(shape):
        if count == 1:
            strides.append(1)
            continue
        run, stride = merged.pop() if merged else (1, 1)
        if run % count:
            raise UsageError(
                f"Cannot reshape {name} of shape {list(old_shape)} and strides "
                f"{list(old_strides)} to {list(shape)} without moving data. Copy it first."
            )
        strides.append(stride)
        if run != count:
            merged.append((run // count, stride * count))
    return tuple(reversed(strides))


def rearranged(
    view: NkiTensor, source: Sequence[Any], target: Sequence[Any], sizes: dict[str, int]
) -> NkiTensor:
    """Return `view` with its dimensions split as in `source` and merged as in `target`.

    Entries are names, or tuples of names for a dimension made of several.
    """
    if len(source) != view.ndim:
        raise UsageError(f"rearrange: {view.name} has {view.ndim} dimensions, not {len(source)}.")
    names: list[str] = []
    split = view
    for entry in source:
        parts = _names(entry)
        counts = [sizes.get(part, -1) for part in parts]
        if len(parts) != 1:
            split = split.reshape_dim(len(names), counts)
        names.extend(parts)
    wanted = [name for entry in target for name in _names(entry)]
    if sorted(wanted) != sorted(names):
        raise UsageError(
            f"rearrange {view.name}: {tuple(source)} names {', '.join(names)}; {tuple(target)} "
            f"names {', '.join(wanted)}. Both must name the same dimensions, each once."
        )
    made = split.permute([names.index(name) for name in wanted])
    for axis, entry in enumerate(target):
        parts = _names(entry)
        if len(parts) > 1:
            made = made.flatten_dims(axis, axis + len(parts) - 1)
    return made


def _names(entry: Any) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(n for e in entry for n in _names(e))

"""Kernels that move parts of values: padding, reversal, slices at a start that is data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from emuron.compiler.kernels import elementwise
from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.movement import dense, in_hbm, move
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32, int32

Kept = Sequence[tuple[int, int, int]]
"""Of each dimension: the first element kept, its place in the result, the number kept."""

_MOST_EXACT = 1 << 24  # float32 counts so far


def sliced(value: Placed, dim: int, start: int, count: int, step: int = 1) -> Placed:
    """Return some elements of a dimension of a dense value; a negative step goes backwards."""
    view = value.view.slice(dim, start, count, step)
    assert view is not None
    return value.seen_as(view)


def pad(
    k: KernelContext, x: Placed, kept: Kept, steps: Sequence[int], number: float, out: Placed
) -> None:
    """Write one number everywhere, then the kept part of x, its neighbours `steps` apart."""
    elementwise.fill(k, out, number)
    source = dense(k, x)
    for dim, ((first, at, count), step) in enumerate(zip(kept, steps, strict=True)):
        if not count:
            return
        source = sliced(source, dim, first, count)
        out = sliced(out, dim, at, count, step)
    move(k, source, out)


def repeat(k: KernelContext, x: Placed, sources: Sequence[np.ndarray], out: Placed) -> None:
    """Write x with element sources[d][i] of dimension d at i, by runs of each dimension."""
    found = dense(k, x)
    for dim, places in enumerate(sources):
        if len(places) == found.shape[dim] and bool((np.diff(places, prepend=-1) == 1).all()):
            continue
        shape = (*found.shape[:dim], len(places), *found.shape[dim + 1 :])
        made = k.hbm(shape, x.dtype, "padded", "temporary")
        for at, first, count, step in _runs(places):
            move(k, sliced(found, dim, first, count, step), sliced(made, dim, at, count))
        found = made
    move(k, found, out)


def _runs(places: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Yield (place in the result, first source, number, step) of the longest regular runs."""
    at = 0
    while at < len(places):
        steps = np.diff(places[at:])
        step = int(steps[0]) if len(steps) and abs(int(steps[0])) == 1 else 1
        same = np.flatnonzero(steps != step)
        count = int(same[0]) + 1 if len(same) else len(places) - at
        yield at, int(places[at]), count, step
        at += count


def reverse(k: KernelContext, x: Placed, axes: Sequence[int], out: Placed) -> None:
    """Write x backwards along some dimensions."""
    source = dense(k, x)
    for axis in axes:
        source = sliced(source, axis, source.shape[axis] - 1, source.shape[axis], -1)
    move(k, source, out)


def dynamic_slice(k: KernelContext, x: Placed, start: Placed, out: Placed) -> None:
    """Write the window of x at a start that is data, tile by tile."""
    source = dense(k, x)
    base = _clamped_start(k, x.shape, out.shape, start)
    columns = out.view.matrix().shape[1]
    for first, row, count in _tiles(out.shape):
        tile = k.sbuf((count, columns), x.dtype, "window")
        nisa.dma_copy(tile, _window(source.storage, x.shape, base, first, (count, columns)))
        k.finish(tile, out, (row, count), (0, columns))


def dynamic_update_slice(
    k: KernelContext, x: Placed, update: Placed, start: Placed, out: Placed
) -> None:
    """Write x, then update at a start that is data; in place if out is x's memory."""
    target = in_hbm(k, x, out)
    base = _clamped_start(k, x.shape, update.shape, start)
    source = dense(k, update)
    columns = source.view.matrix().shape[1]
    for first, row, count in _tiles(update.shape):
        tile = k.read(source, (row, count), (0, columns), "update")
        nisa.dma_copy(_window(target.storage, x.shape, base, first, (count, columns)), tile)
    if target is not out:
        move(k, target, out)


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Yield (place of the first row, its number, rows) of tiles within the last two dimensions."""
    rows = shape[-2] if len(shape) > 1 else 1
    for number, lead in enumerate(np.ndindex(*shape[:-2])):
        for row in range(0, rows, 128):
            yield (*lead, row), number * rows + row, min(128, rows - row)


def _window(
    storage: NkiTensor,
    shape: tuple[int, ...],
    base: NkiTensor,
    first: tuple[int, ...],
    size: tuple[int, int],
) -> NkiTensor:
    """Return rows of a window of a dense tensor: `base` elements on from the place `first`."""
    strides = [prod(shape[d + 1 :]) for d in range(len(shape))]
    offset = sum(f * s for f, s in zip(first, strides, strict=False))
    row = strides[-2] if len(shape) > 1 else size[1]
    flat = storage.reshape((prod(shape),))
    return flat.ap(
        [[row, size[0]], [1, size[1]]], offset=storage.offset + offset, scalar_offset=base
    )


def _clamped_start(
    k: KernelContext, shape: tuple[int, ...], window: tuple[int, ...], start: Placed
) -> NkiTensor:
    """Return [1, 1]: the number of the window's first element, its start clamped to fit."""
    rank = len(shape)
    room = [float(n - w) for n, w in zip(shape, window, strict=True)]
    strides = [float(prod(shape[d + 1 :])) for d in range(rank)]
    given = k.read(k.spill(start), (0, 1), (0, rank), "start")
    bounds = k.constant(np.array([room, strides], np.float32), float32, "bounds")
    most, weight = (k.read(bounds, (row, 1), (0, rank)) for row in (0, 1))
    clamped, least = (k.sbuf((1, rank), float32) for _ in range(2))
    nisa.tensor_tensor(clamped, given, most, "minimum")
    nisa.scalar_tensor_tensor(least, clamped, "maximum", 0.0, "multiply", weight)
    total = k.sbuf((1, 1), int32, "first")
    nisa.tensor_reduce(total, "add", least, 1)
    return total


def fits_counting(shape: tuple[int, ...]) -> bool:
    """Tell whether the elements of a shape can be counted exactly in float32."""
    return prod(shape) <= _MOST_EXACT

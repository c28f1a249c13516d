"""Kernels along one dimension: places of extremes, the largest few, running reductions."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod

from emuron.compiler.kernels.context import KernelContext, Placed, Rows, nisa
from emuron.compiler.kernels.movement import dense, move
from emuron.compiler.kernels.view import LogicalView
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32, uint32

_COLUMNS = 4096  # of a row on chip at once
_EIGHT = 8  # values that one search instruction finds
_SEARCHED = 8192  # of a row at once, so that it fits on chip with what is left of it


def along_last(k: KernelContext, x: Placed, axis: int) -> Placed:
    """Return a value as rows [rows, n] of one dimension; in HBM unless it is the last one."""
    rank = len(x.shape)
    order = (*(d for d in range(rank) if d != axis), axis)
    source = x if axis == rank - 1 else k.spill(x)
    length = x.shape[axis]
    view = source.view.permute(order).reshape((prod(x.shape) // max(1, length), length))
    if view is None:
        source = dense(k, x)
        view = source.view.permute(order).reshape((prod(x.shape) // max(1, length), length))
    assert view is not None
    return source.seen_as(view)


def argreduce(k: KernelContext, x: Placed, kind: str, axis: int, out: Placed) -> None:
    """Write the first place of the extreme (or of NaN) of each row."""
    rows = along_last(k, x, axis)
    count, length = rows.shape
    rows = k.reachable(rows, length)
    view = out.view.reshape((count, 1))
    assert view is not None
    target = out.seen_as(view)
    for row in k.row_tiles(count, rows, target):
        best = k.sbuf((row[1], 1), float32, "best")
        _extreme(k, rows, row, "maximum" if kind == "max" else "minimum", best)
        written = k.target(target, row, (0, 1))
        _first_place(k, rows, row, best, written)
        k.finish(written, target, row, (0, 1))


def _pieces(length: int) -> list[tuple[int, int]]:
    return [(start, min(_COLUMNS, length - start)) for start in range(0, length, _COLUMNS)]


def _extreme(k: KernelContext, rows: Placed, row: Rows, op: str, best: NkiTensor) -> None:
    """Write the extreme of each row, piece by piece."""
    pieces = _pieces(rows.shape[1])
    found = k.sbuf((row[1], len(pieces)), float32, "extremes")
    for number, piece in enumerate(pieces):
        nisa.tensor_reduce(found[:, number : number + 1], op, k.read(rows, row, piece), 1)
    nisa.tensor_reduce(best, op, found, 1)


def _first_place(
    k: KernelContext, rows: Placed, row: Rows, best: NkiTensor, out: NkiTensor
) -> None:
    """Write the smallest place that holds `best` or NaN: others count as beyond the row."""
    length = rows.shape[1]
    pieces = _pieces(length)
    found = k.sbuf((row[1], len(pieces)), float32, "places")
    for number, (start, count) in enumerate(pieces):
        tile = k.read(rows, row, (start, count))
        equal, broken, away = (k.sbuf((row[1], count), float32) for _ in range(3))
        nisa.tensor_scalar(equal, tile, "equal", best)
        nisa.tensor_tensor(broken, tile, tile, "not_equal")
        nisa.tensor_tensor(equal, equal, broken, "maximum")
        # place − length where found, else 0: the smallest, plus length, is the place.
        nisa.tensor_scalar(away, k.places(_COLUMNS)[: row[1], :count], "add", float(start - length))
        nisa.tensor_tensor(away, away, equal, "multiply")
        nisa.tensor_reduce(found[:, number : number + 1], "minimum", away, 1)
    first = k.sbuf((row[1], 1), float32)
    nisa.tensor_reduce(first, "minimum", found, 1)
    nisa.tensor_scalar(out, first, "add", float(length))


def topk(
    k: KernelContext, x: Placed, count: int, largest: bool, values: Placed, places: Placed
) -> None:
    """Write the `count` extremes of each row and their places, eight at a time.

    A long row is searched piece by piece, then what its pieces gave.
    """
    length = x.shape[-1]
    rows = k.reachable(along_last(k, x, len(x.shape) - 1), length)
    targets = [v.seen_as(LogicalView.dense((rows.shape[0], count))) for v in (values, places)]
    pieces = -(-length // _SEARCHED)
    width = -(-length // pieces)
    sign = 1.0 if largest else -1.0
    for row in k.row_tiles(rows.shape[0], rows, *targets):
        found: list[_Found] = []
        for start in range(0, length, width):
            part = (start, min(width, length - start))
            found.append(_search(k, _signed(k, rows, row, part, sign), count, start))
        best = found[0] if pieces == 1 else _merged(k, found, count)
        written = [k.target(t, row, (0, count)) for t in targets]
        nisa.tensor_scalar(written[0], best.values[:, :count], "multiply", sign)
        nisa.tensor_copy(written[1], best.places[:, :count], engine="vector")
        for tile, target in zip(written, targets, strict=True):
            k.finish(tile, target, row, (0, count))


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The largest numbers of rows and their places, [rows, a multiple of eight]."""

    values: NkiTensor
    places: NkiTensor


def _signed(
    k: KernelContext, rows: Placed, row: Rows, part: tuple[int, int], sign: float
) -> NkiTensor:
    """Return columns of rows times ±1, as many as a search takes at least."""
    width = max(part[1], k.core.limits.max8_min)
    data = k.sbuf((row[1], width), float32, "data")
    if width > part[1]:
        nisa.memset(data, -inf)
    nisa.tensor_scalar(data[:, : part[1]], k.read(rows, row, part), "multiply", sign)
    return data


def _search(k: KernelContext, data: NkiTensor, count: int, start: int) -> _Found:
    """Return the largest of each row and their places, counted from `start`."""
    groups, rows = -(-count // _EIGHT), data.shape[0]
    values = k.sbuf((rows, groups * _EIGHT), float32, "found")
    at, places = (k.sbuf(values.shape, t, "at") for t in (uint32, float32))
    for group in range(groups):
        part = slice(group * _EIGHT, (group + 1) * _EIGHT)
        nisa.max8(values[:, part], data)
        nisa.nc_find_index8(at[:, part], data, values[:, part])
        if group + 1 < groups:
            rest = k.sbuf(tuple(data.shape), float32, "data")
            nisa.nc_match_replace8(rest, data, values[:, part], -inf)
            data = rest
    nisa.tensor_scalar(places, at, "add", float(start))
    return _Found(values, places)


def _merged(k: KernelContext, found: list[_Found], count: int) -> _Found:
    """Return the largest among what the pieces of rows gave, with their places in the rows."""
    rows, each = found[0].values.shape
    values, places = (k.sbuf((rows, len(found) * each), float32, "found") for _ in range(2))
    for number, piece in enumerate(found):
        part = slice(number * each, (number + 1) * each)
        nisa.tensor_copy(values[:, part], piece.values, engine="vector")
        nisa.tensor_copy(places[:, part], piece.places, engine="vector")
    best = _search(k, values, count, 0)
    chosen = k.sbuf(tuple(best.places.shape), float32, "places")
    numbers = k.places(values.shape[1])[:rows]
    for number in range(count):
        column = slice(number, number + 1)
        alone = k.sbuf(tuple(values.shape), float32, "chosen")
        at = best.places[:, column]
        nisa.scalar_tensor_tensor(alone, numbers, "equal", at, "multiply", places)
        nisa.tensor_reduce(chosen[:, column], "add", alone, 1)
    return _Found(best.values, chosen)


def running(k: KernelContext, x: Placed, op: str, axis: int, reverse: bool, out: Placed) -> None:
    """Write the running result of an ALU operator along one dimension, or against it."""
    source = along_last(k, x, axis)
    length = source.shape[1]
    if reverse:
        source = _backwards(dense(k, source))
    source = k.reachable(source, length)
    made = k.hbm(source.shape, out.dtype, "running", "temporary")
    for row in k.row_tiles(source.shape[0], source, made):
        target = k.target(made, row, (0, length))
        _scan(k, op, k.read(source, row, (0, length)), target)
        k.finish(target, made, row, (0, length))
    found = _backwards(made) if reverse else made
    others = [n for d, n in enumerate(x.shape) if d != axis]
    view = found.view.reshape((*others, length))
    assert view is not None
    order = [*range(axis), len(others), *range(axis, len(others))]
    move(k, found.seen_as(view.permute(tuple(order))), out)


def _scan(k: KernelContext, op: str, tile: NkiTensor, target: NkiTensor) -> None:
    """Write the running result of each row."""
    if op in ("maximum", "minimum"):
        nisa.tensor_tensor_scan(target, tile, tile, -inf if op == "maximum" else inf, op, op)
    elif op == "add":  # 1·before + x
        ones = k.filled(1.0, tile.shape[1])[: tile.shape[0]]
        nisa.tensor_tensor_scan(target, ones, tile, 0.0, "multiply", "add")
    else:  # x·before + 0
        zeros = k.filled(0.0, tile.shape[1])[: tile.shape[0]]
        nisa.tensor_tensor_scan(target, tile, zeros, 1.0, "multiply", "add")


def _backwards(value: Placed) -> Placed:
    """Return rows in HBM, each from its end."""
    length = value.shape[1]
    view = value.view.slice(1, length - 1, length, -1)
    assert view is not None
    return value.seen_as(view)

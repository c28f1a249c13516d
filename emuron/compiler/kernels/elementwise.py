"""Element-wise kernels over tiles of rows, in float32 and rounded once at the write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from emuron.compiler.kernels import folding
from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.isa.affine import Index
from emuron.isa.vector_engine import EXACT_INTEGER_OPS, INTEGERS_32
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32, uint8

_COLUMNS = 4096  # elements of a row that one instruction takes


def tiles(
    k: KernelContext, *values: Placed, width: int = _COLUMNS
) -> Iterator[tuple[tuple[Index, int], tuple[int, int]]]:
    """Yield (rows, columns) ranges, up to `width` columns, that cover matrices of one shape."""
    rows, columns = values[0].view.matrix().shape
    for row in k.row_tiles(rows, *values):
        for start in range(0, columns, width):
            yield row, (start, min(width, columns - start))


def activation(k: KernelContext, x: Placed, out: Placed, function: str) -> None:
    """Write function(x) on the Scalar engine."""
    x = k.reachable(x, out.view.matrix().shape[1])
    for rows, columns in tiles(k, out, x):
        target = k.target(out, rows, columns)
        nisa.activation(target, function, k.taken(x, rows, columns))
        k.finish(target, out, rows, columns)


def reciprocal(k: KernelContext, x: Placed, out: Placed) -> None:
    """Write 1 / x on the Vector engine."""
    x = k.reachable(x, out.view.matrix().shape[1])
    for rows, columns in tiles(k, out, x):
        target = k.target(out, rows, columns)
        nisa.reciprocal(target, k.taken(x, rows, columns))
        k.finish(target, out, rows, columns)


def copy(k: KernelContext, x: Placed, out: Placed) -> None:
    """Write x in out's dtype."""
    x = k.reachable(x, out.view.matrix().shape[1])
    for rows, columns in tiles(k, out, x):
        target = k.target(out, rows, columns)
        nisa.tensor_copy(target, k.taken(x, rows, columns), engine="vector")
        k.finish(target, out, rows, columns)


def scalar(
    k: KernelContext, x: Placed, op: str, number: float, out: Placed, reverse: bool = False
) -> None:
    """Write x op number (number op x with `reverse`)."""
    if folding.is_folded(out):
        x, out = folding.folded(k, x), folding.folded(k, out)
    x = k.reachable(x, out.view.matrix().shape[1])
    for rows, columns in tiles(k, out, x):
        target = k.target(out, rows, columns)
        nisa.tensor_scalar(target, k.taken(x, rows, columns), op, number, reverse)
        k.finish(target, out, rows, columns)


def binary(k: KernelContext, x: Placed, y: Placed, op: str, out: Placed) -> None:
    """Write x op y for two values of one shape; an operand of one number becomes an immediate.

    Not so in exact integer arithmetic, which takes two tiles.
    """
    if op in EXACT_INTEGER_OPS and out.dtype in INTEGERS_32:
        x, y = k.materialize(x), k.materialize(y)
        x, y = (replace(v, immediate=None) for v in (x, y))
    if y.immediate is not None:
        scalar(k, x, op, y.immediate, out)
        return
    if x.immediate is not None:
        scalar(k, y, op, x.immediate, out, reverse=True)
        return
    if folding.is_folded(out):
        x, y, out = (folding.folded(k, value) for value in (x, y, out))
    width = out.view.matrix().shape[1]
    x, y = k.reachable(x, width), k.reachable(y, width)
    for rows, columns in tiles(k, out, x, y):
        target = k.target(out, rows, columns)
        nisa.tensor_tensor(target, k.taken(x, rows, columns), k.taken(y, rows, columns), op)
        k.finish(target, out, rows, columns)


def divide(k: KernelContext, x: Placed, y: Placed, out: Placed) -> None:
    """Write x·(1 / y); the engines have no division."""
    if y.immediate is not None:
        y = k.materialize(y)
    width = out.view.matrix().shape[1]
    x, y = k.reachable(x, width), k.reachable(y, width)
    for rows, columns in tiles(k, out, x, y):
        target = k.target(out, rows, columns)
        inverse = k.sbuf((rows[1], columns[1]), float32)
        nisa.reciprocal(inverse, k.taken(y, rows, columns))
        if x.immediate is not None:
            nisa.tensor_scalar(target, inverse, "multiply", x.immediate)
        else:
            nisa.tensor_tensor(target, k.taken(x, rows, columns), inverse, "multiply")
        k.finish(target, out, rows, columns)


def select(k: KernelContext, condition: Placed, x: Placed, y: Placed, out: Placed) -> None:
    """Write x where the condition (0 or 1) holds, else y."""
    width = out.view.matrix().shape[1]
    condition, x, y = (k.reachable(k.materialize(v), width) for v in (condition, x, y))
    for rows, columns in tiles(k, out, condition, x, y):
        target = k.target(out, rows, columns)
        nisa.tensor_copy(target, k.taken(y, rows, columns), engine="vector")
        seen, chosen = k.read(condition, rows, columns), k.taken(x, rows, columns)
        if chosen.dtype != target.dtype:  # a predicated copy does not convert
            converted = k.sbuf(chosen.shape, target.dtype, "chosen")
            nisa.tensor_copy(converted, chosen, engine="vector")
            chosen = converted
        nisa.tensor_copy_predicated(target, chosen, seen.view(uint8))
        k.finish(target, out, rows, columns)


def fill(k: KernelContext, out: Placed, number: float) -> None:
    """Write one number everywhere."""
    for rows, columns in tiles(k, out):
        target = k.target(out, rows, columns)
        nisa.memset(target, number)
        k.finish(target, out, rows, columns)


def rope(
    k: KernelContext, x: Placed, cos: Placed, sin: Placed, out: Placed, interleaved: bool
) -> None:
    """Rotate the pairs of x [B, H, S, D] by angles [B, S, R / 2]; see the operator `rope`."""
    _, heads, _, size = x.shape
    half = cos.shape[-1]
    rows, targets = (_tokens(v) for v in (x, out))
    rows = k.reachable(rows, heads * size)
    angles = [k.reachable(v, half) for v in (cos, sin)]
    count = rows.view.matrix().shape[0]
    for row in k.row_tiles(count, rows, targets, *angles):
        tile = k.read(rows, row, (0, heads * size))
        turned = [
            k.read(v, row, (0, half)).reshape((row[1], 1, half)).broadcast(1, heads) for v in angles
        ]
        target = k.target(targets, row, (0, heads * size))
        shape = (row[1], heads, size)
        _rotate(k, tile.reshape(shape), target.reshape(shape), turned, half, interleaved)
        k.finish(target, targets, row, (0, heads * size))


def _tokens(value: Placed) -> Placed:
    """Return [B, H, S, D] as rows of tokens [B·S, H·D]."""
    batch, heads, length, size = value.shape
    view = value.view.permute((0, 2, 1, 3)).reshape((batch * length, heads * size))
    assert view is not None
    return value.seen_as(view)


def _rotate(
    k: KernelContext,
    tile: NkiTensor,
    target: NkiTensor,
    angles: list[NkiTensor],
    half: int,
    interleaved: bool,
) -> None:
    """Write the rotated pairs of [rows, heads, size], each in its old place."""
    cos, sin = angles
    if interleaved:
        places = [slice(0, 2 * half, 2), slice(1, 2 * half, 2)]
    else:
        places = [slice(0, half), slice(half, 2 * half)]
    first, second = (tile[:, :, p] for p in places)
    _products(k, target[:, :, places[0]], (first, cos), (second, sin), "subtract")
    _products(k, target[:, :, places[1]], (second, cos), (first, sin), "add")
    if 2 * half < tile.shape[2]:
        nisa.tensor_copy(target[:, :, 2 * half :], tile[:, :, 2 * half :], engine="vector")


def _products(
    k: KernelContext,
    target: NkiTensor,
    left: tuple[NkiTensor, NkiTensor],
    right: tuple[NkiTensor, NkiTensor],
    op: str,
) -> None:
    """Write a·b op c·d."""
    products = [k.sbuf(target.shape, float32) for _ in range(2)]
    for product, (a, b) in zip(products, (left, right), strict=True):
        nisa.tensor_tensor(product, a, b, "multiply")
    nisa.tensor_tensor(target, products[0], products[1], op)

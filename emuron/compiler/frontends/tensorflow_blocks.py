"""TensorFlow operators on blocks of images and on bands of matrices."""

from __future__ import annotations

import math

import numpy as np

from emuron.compiler.frontends import recipes
from emuron.compiler.frontends.tensorflow_call import Call, Operand, tensorflow
from emuron.compiler.graph import Value


@tensorflow("SpaceToBatchND")
def _space_to_batch(c: Call, x: Operand, block: Operand, paddings: Operand) -> Value:
    value, sizes = c.value(x), c.integers(block, "block")
    pairs = [[0, 0], *c.array(paddings, "paddings").reshape(-1, 2).tolist()]
    pairs += [[0, 0]] * (value.type.rank - len(pairs))
    value = c.b.pad(value, [p[0] for p in pairs], [p[1] for p in pairs])
    count, batch, rest = len(sizes), value.shape[0], value.shape[len(sizes) + 1 :]
    outer = [n // s for n, s in zip(value.shape[1:], sizes, strict=False)]
    split = [n for pair in zip(outer, sizes, strict=True) for n in pair]
    opened = c.b.reshape(value, batch, *split, *rest)
    order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2)]
    moved = c.b.permute(opened, *order, *range(2 * count + 1, opened.type.rank))
    return c.b.reshape(moved, batch * math.prod(sizes), *outer, *rest)


@tensorflow("BatchToSpaceND")
def _batch_to_space(c: Call, x: Operand, block: Operand, crops: Operand) -> Value:
    value, sizes = c.value(x), c.integers(block, "block")
    count, batch = len(sizes), value.shape[0] // math.prod(sizes)
    outer, rest = value.shape[1 : count + 1], value.shape[count + 1 :]
    opened = c.b.reshape(value, *sizes, batch, *outer, *rest)
    order = [count, *(n for i in range(count) for n in (count + 1 + i, i))]
    moved = c.b.permute(opened, *order, *range(2 * count + 1, opened.type.rank))
    merged = [n * s for n, s in zip(outer, sizes, strict=True)]
    value = c.b.reshape(moved, batch, *merged, *rest)
    for axis, (low, high) in enumerate(c.array(crops, "crops").reshape(-1, 2).tolist(), 1):
        value = c.b.slice(value, axis, low, value.shape[axis] - high)
    return value


@tensorflow("DepthToSpace", "SpaceToDepth")
def _depth_and_space(c: Call, x: Operand) -> Value:
    value, size = c.value(x), int(c.number("block_size", 1))
    if not c.channels_last:
        value = recipes.channels_last(c.b, value)
    n, height, width, depth = value.shape
    if c.op == "DepthToSpace":
        opened = c.b.reshape(value, n, height, width, size, size, depth // size**2)
        moved = c.b.permute(opened, 0, 1, 3, 2, 4, 5)
        value = c.b.reshape(moved, n, height * size, width * size, depth // size**2)
    else:
        opened = c.b.reshape(value, n, height // size, size, width // size, size, depth)
        moved = c.b.permute(opened, 0, 1, 3, 2, 4, 5)
        value = c.b.reshape(moved, n, height // size, width // size, depth * size**2)
    return value if c.channels_last else recipes.channels_first(c.b, value)


@tensorflow("MatrixBandPart")
def _matrix_band_part(c: Call, x: Operand, lower: Operand, upper: Operand) -> Value:
    value = c.value(x)
    rows, columns = value.shape[-2:]
    low, high = c.integer(lower, "lower"), c.integer(upper, "upper")
    distance = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    kept = (distance >= -(rows if low < 0 else low)) & (distance <= (columns if high < 0 else high))
    truth = c.b.broadcast(c.known.value(kept, c.name), value.shape)
    return c.b.select(truth, value, 0)


@tensorflow("MatrixDiag")
def _matrix_diag(c: Call, x: Operand) -> Value:
    value = c.value(x)
    size = value.shape[-1]
    wide = (*value.shape, size)
    spread = c.b.broadcast(c.b.reshape(value, *value.shape, 1), wide)
    eye = c.b.broadcast(c.known.value(np.eye(size, dtype=bool), c.name), wide)
    return c.b.select(eye, spread, 0)


@tensorflow("MatrixSetDiag")
def _matrix_set_diag(c: Call, x: Operand, diagonal: Operand) -> Value:
    value = c.value(x)
    rows, columns = value.shape[-2:]
    line = c.value(diagonal)
    line = c.b.reshape(line, *line.shape, 1)
    short = min(rows, columns)
    if rows > short:
        low = [0] * line.type.rank
        line = c.b.pad(line, low, [*low[:-2], rows - short, 0])
    eye = c.b.broadcast(c.known.value(np.eye(rows, columns, dtype=bool), c.name), value.shape)
    return c.b.select(eye, c.b.broadcast(line, value.shape), value)

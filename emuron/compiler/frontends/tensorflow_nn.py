"""TensorFlow operators that sum: products, convolutions, pooling, normalisation, reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from emuron.compiler.frontends import recipes
from emuron.compiler.frontends.tensorflow_call import Call, Operand, Variable, tensorflow
from emuron.compiler.graph import Value
from emuron.compiler.ops import find_op
from emuron.compiler.ops.order import TopK
from emuron.compiler.ops.reduction import ArgReduce
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bool_

Pairs = tuple[tuple[int, int], ...]

# Products


@tensorflow("MatMul")
def _matmul(c: Call, x: Operand, y: Operand) -> Value:
    left, right = c.values(x, y)
    left = recipes.swap(c.b, left) if c.flag("transpose_a") else left
    return recipes.matmul(c.b, left, recipes.swap(c.b, right) if c.flag("transpose_b") else right)


@tensorflow("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def _batch_matmul(c: Call, x: Operand, y: Operand) -> Value:
    left, right = c.values(x, y)
    left = recipes.swap(c.b, left) if c.flag("adj_x") else left
    return recipes.matmul(c.b, left, recipes.swap(c.b, right) if c.flag("adj_y") else right)


@tensorflow("Einsum")
def _einsum(c: Call, *operands: Operand) -> Value:
    return c.b.einsum(c.text("equation"), *c.values(*operands))


# Convolutions and pooling


def _spatial(c: Call, name: str, rank: int) -> tuple[int, ...]:
    """Return the entries of a list for the spatial dimensions, 1 if there is none."""
    found = c.numbers(name) or [1] * rank
    if len(found) != rank:
        raise UnsupportedOpError(f"{name} has {len(found)} entries for a tensor of rank {rank}")
    return tuple(found[1:-1] if c.channels_last else found[2:])


def _padding(
    c: Call, sizes: Sequence[int], window: Sequence[int], step: Sequence[int], spread: Sequence[int]
) -> Pairs:
    kind = c.text("padding")
    if kind == "VALID":
        return ((0, 0),) * len(window)
    if kind == "SAME":
        return recipes.same_padding(sizes, window, step, spread)
    found = c.numbers("explicit_paddings")
    pairs = list(zip(found[::2], found[1::2], strict=True))
    return tuple(pairs[1:-1] if c.channels_last else pairs[2:])


def _first(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return recipes.channels_first(c.b, value) if c.channels_last else value


def _back(c: Call, x: Value) -> Value:
    return recipes.channels_last(c.b, x) if c.channels_last else x


@tensorflow("Conv2D", "Conv3D", "DepthwiseConv2dNative")
def _conv(c: Call, x: Operand, weight: Operand) -> Value:
    value, kernel = _first(c, x), c.value(weight)
    rank, window = value.type.rank, kernel.shape[:-2]
    step, spread = _spatial(c, "strides", rank), _spatial(c, "dilations", rank)
    padding = _padding(c, value.shape[2:], window, step, spread)
    groups = value.shape[1] // max(kernel.shape[-2], 1)
    if c.op == "DepthwiseConv2dNative":
        # [height, width, channels, multiplier]: output c * multiplier + m reads channel c alone.
        groups = value.shape[1]
        kernel = c.b.reshape(kernel, *window, 1, math.prod(kernel.shape[-2:]))
    kernel = c.b.permute(kernel, rank - 1, rank - 2, *range(rank - 2))
    made = c.b.conv(value, kernel, stride=step, padding=padding, dilation=spread, groups=groups)
    return _back(c, made)


@tensorflow("Conv2DBackpropInput")
def _transposed_conv(c: Call, sizes: Operand, weight: Operand, gradient: Operand) -> Value:
    value, kernel = _first(c, gradient), c.value(weight)
    rank, window = value.type.rank, kernel.shape[:-2]
    step, spread = _spatial(c, "strides", rank), _spatial(c, "dilations", rank)
    shape = c.integers(sizes, "input sizes")
    wanted = shape[1:-1] if c.channels_last else shape[2:]
    given = _padding(c, wanted, window, step, spread)
    more = [
        size
        + low
        + high
        - (value.shape[2 + axis] - 1) * step[axis]
        - (window[axis] - 1) * spread[axis]
        - 1
        for axis, (size, (low, high)) in enumerate(zip(wanted, given, strict=True))
    ]
    # [height, width, outputs, inputs] as the forward convolution has it: inputs come first here.
    kernel = c.b.permute(kernel, rank - 1, rank - 2, *range(rank - 2))
    made = c.b.conv_transpose(
        value, kernel, stride=step, padding=given, output_padding=more, dilation=spread
    )
    return _back(c, made)


@tensorflow("MaxPool", "MaxPool3D", "AvgPool", "AvgPool3D", "MaxPoolV2")
def _pool(c: Call, x: Operand) -> Value:
    value = _first(c, x)
    window, step = (_spatial(c, n, value.type.rank) for n in ("ksize", "strides"))
    ones = (1,) * len(window)
    padding = _padding(c, value.shape[2:], window, step, ones)
    kind = "avg" if c.op.startswith("Avg") else "max"
    return _back(c, c.b.reduce_window(kind, value, window, stride=step, padding=padding))


# Normalisation


@tensorflow("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def _batch_norm(
    c: Call, x: Operand, scale: Operand, shift: Operand, mean: Operand, variance: Operand
) -> list[Value]:
    if "is_training" not in c.attributes or c.flag("is_training"):
        raise UnsupportedOpError(
            "normalises by the batch itself, as in training; export for serving"
        )
    value, factor, offset, middle, spread = c.values(x, scale, shift, mean, variance)
    rows = recipes.channels_first(c.b, value) if c.channels_last else value
    epsilon = c.number("epsilon", 1e-4)
    made = c.b.batch_norm(rows, factor, offset, middle, spread, epsilon=epsilon)
    return [_back(c, made), middle, spread]


@tensorflow("LRN")
def _local_response(c: Call, x: Operand) -> Value:
    b, value = c.b, c.value(x)
    radius = int(c.number("depth_radius", 5))
    square = b.mul(value, value)
    size = 2 * radius + 1
    total = b.reduce_window("sum", square, (size,), padding=radius)
    base = b.add(b.mul(total, c.number("alpha", 1)), c.number("bias", 1))
    power = b.binary(find_op("pow")(), base, -c.number("beta", 0.5))
    return b.mul(value, power)


@tensorflow("Softmax")
def _softmax(c: Call, x: Operand) -> Value:
    return c.b.softmax(c.value(x))


@tensorflow("LogSoftmax")
def _log_softmax(c: Call, x: Operand) -> Value:
    return recipes.log_softmax(c.b, c.value(x))


@tensorflow("SoftmaxCrossEntropyWithLogits")
def _cross_entropy(c: Call, logits: Operand, labels: Operand) -> list[Value]:
    scores, wanted = c.values(logits, labels)
    shape = tuple(max(p) for p in zip(scores.shape, wanted.shape, strict=True))
    scores, wanted = c.b.broadcast(scores, shape), c.b.broadcast(wanted, shape)
    product = c.b.mul(wanted, recipes.log_softmax(c.b, scores))
    loss = c.b.apply("neg", c.b.reduce("sum", product, (1,)))
    return [loss, c.b.sub(c.b.softmax(scores), wanted)]


@tensorflow("SparseSoftmaxCrossEntropyWithLogits")
def _sparse_cross_entropy(c: Call, logits: Operand, labels: Operand) -> list[Value]:
    scores, index = c.values(logits, labels)
    wanted = recipes.one_hot(c.b, index, scores.shape[1], 1, scores.type.dtype)
    product = c.b.mul(wanted, recipes.log_softmax(c.b, scores))
    loss = c.b.apply("neg", c.b.reduce("sum", product, (1,)))
    return [loss, c.b.sub(c.b.softmax(scores), wanted)]


# Reductions and order

_REDUCTIONS = {
    "All": "all",
    "Any": "any",
    "Max": "max",
    "Mean": "mean",
    "Min": "min",
    "Prod": "prod",
    "Sum": "sum",
}


@tensorflow(*_REDUCTIONS)
def _reduce(c: Call, x: Operand, axes: Operand) -> Value:
    value = c.value(x)
    over = [c.axis_of(a, value.type.rank) for a in c.integers(axes, "axes")]
    kind = _REDUCTIONS[c.op]
    return recipes.reduce(c.b, kind, value, over, keepdims=c.flag("keep_dims"))


@tensorflow("ArgMax", "ArgMin")
def _arg_reduce(c: Call, x: Operand, axis: Operand) -> Value:
    value = c.value(x)
    kind = "max" if c.op == "ArgMax" else "min"
    return c.b.one(ArgReduce(kind, c.axis(axis, value.type.rank)), value)


@tensorflow("TopK", "TopKV2")
def _top_k(c: Call, x: Operand, k: Operand | None = None) -> list[Value]:
    count = int(c.number("k")) if k is None else c.integer(k, "count")
    return list(c.b.append(TopK(count), c.value(x)))


# Places


@tensorflow("Gather", "GatherV2", "ResourceGather")
def _gather(c: Call, x: Operand, index: Operand, axis: Operand | None = None) -> Value:
    value = c.read(x) if isinstance(x, Variable) else c.value(x)
    places = c.value(index)
    at = 0 if axis is None else c.axis(axis, value.type.rank)
    batch = int(c.number("batch_dims"))
    if not batch:
        return c.b.take(value, places, at)
    if batch != 1 or at != 1 or places.type.rank != 2:
        raise UnsupportedOpError(f"gathers with {batch} batch dimensions along axis {at}")
    # Row b of the index chooses among the rows of x[b]: places in the joined rows.
    rows, size = value.shape[0], value.shape[1]
    first = c.b.mul(c.b.iota(places.shape, 0, places.type.dtype), size)
    joined = c.b.reshape(value, rows * size, *value.shape[2:])
    return c.b.take(joined, c.b.add(places, first), 0)


@tensorflow("GatherNd")
def _gather_nd(c: Call, x: Operand, index: Operand) -> Value:
    value, places = c.values(x, index)
    depth = places.shape[-1]
    # Places in x with its first dimensions joined into one.
    flat: Value | None = None
    for axis in range(depth):
        part = c.b.reshape(
            c.b.slice(places, places.type.rank - 1, axis, axis + 1), *places.shape[:-1]
        )
        scaled = part if flat is None else c.b.add(c.b.mul(flat, value.shape[axis]), part)
        flat = scaled
    if flat is None:
        raise UnsupportedOpError("gathers by an index of no dimensions")
    joined = c.b.reshape(value, -1, *value.shape[depth:])
    return c.b.take(joined, flat, 0)


@tensorflow("OneHot")
def _one_hot(c: Call, index: Operand, depth: Operand, on: Operand, off: Operand) -> Value:
    places, size = c.value(index), c.integer(depth, "depth")
    axis = int(c.number("axis", -1))
    at = c.axis_of(axis, places.type.rank + 1)
    truth = recipes.one_hot(c.b, places, size, at, bool_)
    high, low = (c.b.broadcast(c.value(v), truth.shape) for v in (on, off))
    return c.b.select(truth, high, low)


@tensorflow("SegmentSum", "UnsortedSegmentSum")
def _segment_sum(c: Call, x: Operand, segments: Operand, count: Operand | None = None) -> Value:
    value, names = c.values(x, segments)
    if count is None:
        size = int(c.array(segments, "segments").max()) + 1
    else:
        size = c.integer(count, "number of segments")
    # A product with the 0 and 1 that say which element belongs to which segment.
    rank = names.type.rank
    member = recipes.one_hot(c.b, c.b.reshape(names, -1), size, 0, value.type.dtype)
    rows = c.b.reshape(value, math.prod(names.shape), -1)
    return c.b.reshape(c.b.matmul(member, rows), size, *value.shape[rank:])


# Images


_MODES = {"ResizeBicubic": "cubic", "ResizeBilinear": "linear", "ResizeNearestNeighbor": "nearest"}


@tensorflow(*_MODES)
def _resize(c: Call, images: Operand, size: Operand) -> Value:
    value = recipes.channels_first(c.b, c.value(images))
    centred = c.flag("half_pixel_centers")
    if c.flag("align_corners"):
        coordinates, rounding = "align_corners", "round_prefer_ceil"
    elif centred:
        coordinates, rounding = "half_pixel", "round_prefer_ceil"
    else:
        coordinates, rounding = "asymmetric", "floor"
    made = c.b.resize(
        value,
        c.integers(size, "size"),
        _MODES[c.op],
        coordinates=coordinates,
        rounding=rounding,
        # TensorFlow's kernel is Keys's with centres of pixels, another without.
        cubic=-0.5 if centred else -0.75,
        exclude_outside=centred,
    )
    return recipes.channels_last(c.b, made)

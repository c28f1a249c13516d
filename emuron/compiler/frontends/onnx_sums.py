"""ONNX operators that sum, compare or order along dimensions."""

from __future__ import annotations

import math

import numpy as np

from emuron.compiler.frontends.onnx_call import Call, onnx_op
from emuron.compiler.graph import Value
from emuron.compiler.ops.reduction import ArgReduce
from emuron.errors import ModelFileError
from emuron.numerics.dtypes import DType, int32


@onnx_op("MatMul")
def _matmul(c: Call) -> Value:
    weight = c.operand(1)
    if weight.is_weight and len(weight.shape) == 2 and c.x().type.rank:
        return c.b.linear(c.x(), c.store.weight(weight, transposed=True))
    return matmul(c, c.x(0), c.x(1))


def matmul(c: Call, x: Value, y: Value) -> Value:
    """Return the product of matrices as NumPy means it: vectors, and stretched leading sizes."""
    left = c.b.reshape(x, 1, *x.shape) if x.type.rank == 1 else x
    right = c.b.reshape(y, *y.shape, 1) if y.type.rank == 1 else y
    lead = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left, right = (c.b.broadcast(v, (*lead, *v.shape[-2:])) for v in (left, right))
    rows = () if x.type.rank == 1 else x.shape[-2:-1]
    columns = () if y.type.rank == 1 else y.shape[-1:]
    return c.b.reshape(c.b.matmul(left, right), *lead, *rows, *columns)


@onnx_op("Gemm")
def _gemm(c: Call) -> Value:
    alpha, beta = c.attribute("alpha", 1.0), c.attribute("beta", 1.0)
    x = c.b.permute(c.x(0), 1, 0) if c.attribute("transA", 0) else c.x(0)
    weight, transposed = c.operand(1), bool(c.attribute("transB", 0))
    bias = c.maybe(2) if beta else None
    if weight.is_weight:
        matrix = c.x(1) if transposed else c.store.weight(weight, transposed=True)
        if alpha == beta == 1 and bias is not None and bias.shape == (matrix.shape[0],):
            return c.b.linear(x, matrix, bias)
        y = c.b.linear(x, matrix)
    else:
        y = c.b.matmul(x, c.b.permute(c.x(1), 1, 0) if transposed else c.x(1))
    y = y if alpha == 1 else c.b.mul(y, alpha)
    if bias is None:
        return y
    return c.b.add(y, bias if beta == 1 else c.b.mul(bias, beta))


@onnx_op("Softmax", "LogSoftmax")
def _softmax(c: Call) -> Value:
    x = c.x()
    axis = c.axis(c.attribute("axis", -1), x.type.rank)
    if c.kind == "LogSoftmax":
        shifted = c.b.sub(x, c.b.reduce("max", x, (axis,), keepdims=True))
        total = c.b.reduce("sum", c.b.apply("exp", shifted), (axis,), keepdims=True)
        return c.b.sub(shifted, c.b.apply("log", total))
    axes = swapped(axis, x.type.rank)
    if axes == sorted(axes):
        return c.b.softmax(x)
    return c.b.permute(c.b.softmax(c.b.permute(x, *axes)), *axes)


def swapped(axis: int, rank: int) -> list[int]:
    """Return the order of dimensions that has `axis` and the last one in each other's place."""
    axes = list(range(rank))
    axes[axis], axes[-1] = axes[-1], axes[axis]
    return axes


_REDUCED = {
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSum": "sum",
}
_OF_NOTHING = {"sum": 0.0, "prod": 1.0, "mean": math.nan}


@onnx_op(*_REDUCED)
def _reduce(c: Call) -> Value:
    x, kind, keepdims = c.x(), _REDUCED[c.kind], bool(c.attribute("keepdims", 1))
    axes = c.ints(1) if c.has(1) else list(c.attribute("axes", ()))
    if not axes and c.attribute("noop_with_empty_axes", 0):
        return x
    rank = x.type.rank
    axes = sorted({c.axis(a, rank) for a in axes}) or list(range(rank))
    if not axes:
        return x
    if not x.type.elements:
        shape = [1 if i in axes else n for i, n in enumerate(x.shape)]
        kept = [n for i, n in enumerate(shape) if keepdims or i not in axes]
        return c.b.full(_of_nothing(kind, x.type.dtype), kept, x.type.dtype)
    return c.b.reduce(kind, x, axes, keepdims=keepdims)


def _of_nothing(kind: str, dtype: DType) -> float:
    """Return what a reduction of no elements gives."""
    if kind not in ("max", "min"):
        return _OF_NOTHING[kind]
    if dtype.is_float:
        return -math.inf if kind == "max" else math.inf
    return dtype.min if kind == "max" else dtype.max


@onnx_op("ArgMax", "ArgMin")
def _argreduce(c: Call) -> Value:
    x, kind = c.x(), c.kind.removeprefix("Arg").lower()
    axis = c.axis(c.attribute("axis", 0), x.type.rank)
    last = bool(c.attribute("select_last_index", 0))
    places = c.one(ArgReduce(kind, axis), c.backwards(x, axis) if last else x)
    places = c.b.sub(x.shape[axis] - 1, places) if last else places
    if c.attribute("keepdims", 1):
        places = c.b.reshape(places, *(1 if i == axis else n for i, n in enumerate(x.shape)))
    return places


@onnx_op("CumSum")
def _cumsum(c: Call) -> Value:
    x = c.x()
    axis = c.axis(int(c.number(1, 0)), x.type.rank)
    backwards = bool(c.attribute("reverse", 0))
    y = c.backwards(x, axis) if backwards else x
    y = c.b.cumulative(y, axis)
    y = c.backwards(y, axis) if backwards else y
    return c.b.sub(y, x) if c.attribute("exclusive", 0) else y


@onnx_op("Hardmax")
def _hardmax(c: Call) -> Value:
    x = c.x()
    axis = c.axis(c.attribute("axis", -1), x.type.rank)
    place = c.one(ArgReduce("max", axis), x)
    shape = [1 if i == axis else n for i, n in enumerate(x.shape)]
    counts = c.b.iota(x.shape, axis, int32)
    found = c.b.compare("eq", counts, c.b.reshape(place, *shape))
    return c.b.cast(found, x.type.dtype)


def check_rank(c: Call, x: Value, rank: int) -> None:
    """Raise ModelFileError unless x has `rank` dimensions."""
    if x.type.rank != rank:
        raise ModelFileError(f"{c.kind} takes a tensor of rank {rank}, found {x.type}")

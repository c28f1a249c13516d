"""ONNX operators that sum, compare or order along dimensions."""

from __future__ import annotations

import math

import numpy as np

from emuron.compiler.frontends.onnx_call import Call, onnx_op
from emuron.compiler.graph import Value
from emuron.numerics.dtypes import DType, bool_, int32


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
    return c.b.softmax(x, axis) if c.kind == "Softmax" else c.b.log_softmax(x, axis)


@onnx_op("Einsum")
def _einsum(c: Call) -> Value:
    return c.b.einsum(c.required("equation"), *c.all())


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
    return _reduced(c, _REDUCED[c.kind], c.x(), keepdims=bool(c.attribute("keepdims", 1)))


@onnx_op("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare")
def _reduce_of_terms(c: Call) -> Value:
    x, keepdims = c.x(), bool(c.attribute("keepdims", 1))
    if c.kind == "ReduceL1":
        x = c.b.apply("abs", x) if x.type.dtype.is_float else c.b.maximum(x, c.b.sub(0, x))
    elif c.kind != "ReduceLogSum":
        x = c.b.mul(x, x)
    total = _reduced(c, "sum", x, keepdims=keepdims)
    function = {"ReduceL2": "sqrt", "ReduceLogSum": "log"}.get(c.kind)
    return c.b.apply(function, total) if function else total


@onnx_op("ReduceLogSumExp")
def _reduce_log_sum_exp(c: Call) -> Value:
    x, keepdims = c.x(), bool(c.attribute("keepdims", 1))
    most = _reduced(c, "max", x, keepdims=True)
    # Where all is -infinity there is nothing to take off.
    shift = c.b.select(c.b.compare("eq", most, -math.inf), 0, most)
    total = _reduced(c, "sum", c.b.apply("exp", c.b.sub(x, shift)), keepdims=True)
    y = c.b.add(c.b.apply("log", total), shift)
    return y if keepdims else c.b.reshape(y, *_reduced(c, "max", x, keepdims=False).shape)


def _reduced(c: Call, kind: str, x: Value, *, keepdims: bool) -> Value:
    """Return a reduction over the axes of the call, an operand or attribute; of all if none."""
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
    if x.type.dtype == bool_:
        kind = {"max": "any", "min": "all"}.get(kind, kind)
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
    places = c.b.argreduce(kind, c.b.reverse(x, [axis]) if last else x, axis)
    places = c.b.sub(x.shape[axis] - 1, places) if last else places
    if c.attribute("keepdims", 1):
        places = c.b.reshape(places, *(1 if i == axis else n for i, n in enumerate(x.shape)))
    return places


@onnx_op("CumSum", "CumProd")
def _cumulative(c: Call) -> Value:
    x, backwards = c.x(), bool(c.attribute("reverse", 0))
    axis = c.axis(int(c.number(1, 0)), x.type.rank)
    kind = "sum" if c.kind == "CumSum" else "prod"
    if c.attribute("exclusive", 0):
        x = _shifted(c, x, axis, 0.0 if kind == "sum" else 1.0, backwards)
    return c.b.cumulative(x, axis, kind, reverse=backwards)


def _shifted(c: Call, x: Value, axis: int, first: float, backwards: bool) -> Value:
    """Return x one place further along a dimension, `first` in the place that is free."""
    low = [0] * x.type.rank
    low[axis] = -1 if backwards else 1
    return c.b.pad(x, low, [-n for n in low], value=first)


@onnx_op("Hardmax")
def _hardmax(c: Call) -> Value:
    x = c.x()
    axis = c.axis(c.attribute("axis", -1), x.type.rank)
    place = c.b.argreduce("max", x, axis)
    shape = [1 if i == axis else n for i, n in enumerate(x.shape)]
    counts = c.b.iota(x.shape, axis, int32)
    found = c.b.compare("eq", counts, c.b.reshape(place, *shape))
    return c.b.cast(found, x.type.dtype)

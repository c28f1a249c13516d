"""ATen operators that sum: products, composites kept whole, reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from emuron.compiler.frontends.torch_call import Call, aten, axis_of
from emuron.compiler.graph import Value
from emuron.compiler.ops.order import TopK
from emuron.compiler.ops.reduction import ArgReduce
from emuron.errors import UnsupportedOpError

Scalar = float | int | bool


# Products.


@aten("linear.default")
def _linear(c: Call, x: Value, weight: Value, bias: Value | None = None) -> Value:
    if c.is_parameter(weight) and x.type.rank >= 1:
        return c.b.linear(x, weight, bias)
    rows = c.b.reshape(x, -1, x.shape[-1])
    product = c.b.reshape(c.b.matmul(rows, c.b.permute(weight, 1, 0)), *c.out.shape)
    return product if bias is None else c.b.add(product, bias)


@aten("mm.default", "bmm.default")
def _matmul(c: Call, x: Value, y: Value) -> Value:
    return c.b.matmul(x, y)


@aten("matmul.default")
def _any_matmul(c: Call, x: Value, y: Value) -> Value:
    x = c.b.reshape(x, 1, *x.shape) if x.type.rank == 1 else x
    y = c.b.reshape(y, *y.shape, 1) if y.type.rank == 1 else y
    rank = max(x.type.rank, y.type.rank)
    lead = [
        max(pair)
        for pair in zip(
            (1,) * (rank - x.type.rank) + x.shape[:-2],
            (1,) * (rank - y.type.rank) + y.shape[:-2],
            strict=True,
        )
    ]
    x, y = (c.b.broadcast(v, (*lead, *v.shape[-2:])) for v in (x, y))
    return c.b.reshape(c.b.matmul(x, y), *c.out.shape)


@aten("addmm.default", "baddbmm.default")
def _addmm(
    c: Call, bias: Value, x: Value, y: Value, *, beta: Scalar = 1, alpha: Scalar = 1
) -> Value:
    product = c.b.matmul(x, y)
    product = product if alpha == 1 else c.b.mul(product, alpha)
    return c.b.add(product, bias if beta == 1 else c.b.mul(bias, beta))


# Composites.


@aten("layer_norm.default")
def _layer_norm(
    c: Call,
    x: Value,
    shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    epsilon: float = 1e-5,
    enable: bool = True,
) -> Value:
    return _normalized(c, x, shape, weight, bias, epsilon, "layer_norm")


@aten("rms_norm.default")
def _rms_norm(
    c: Call, x: Value, shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    # Without an epsilon PyTorch takes that of the computation's dtype, float32.
    epsilon = 2.0**-23 if eps is None else eps
    return _normalized(c, x, shape, weight, None, epsilon, "rms_norm")


def _normalized(
    c: Call,
    x: Value,
    shape: Sequence[int],
    weight: Value | None,
    bias: Value | None,
    epsilon: float,
    kind: str,
) -> Value:
    size, b = math.prod(shape), c.b
    rows = b.reshape(x, *x.shape[: x.type.rank - len(shape)], size)
    weight, bias = (None if v is None else b.reshape(v, size) for v in (weight, bias))
    if kind == "rms_norm":
        y = b.rms_norm(rows, weight, epsilon=epsilon)
    elif weight is None and bias is not None:
        y = b.add(b.layer_norm(rows, epsilon=epsilon), bias)
    else:
        y = b.layer_norm(rows, weight, bias, epsilon=epsilon)
    return b.reshape(y, *x.shape)


@aten("softmax.int", "_softmax.default")
def _softmax(c: Call, x: Value, dim: int, to: Any = None) -> Value:
    axis, axes = _last(x, dim)
    y = c.b.softmax(c.b.permute(c.to_out(x), *axes) if axis else c.to_out(x))
    return c.b.permute(y, *axes) if axis else y


def _last(x: Value, dim: int) -> tuple[bool, list[int]]:
    """Return whether `dim` is not the last dimension, and the order that swaps the two."""
    axes = list(range(x.type.rank))
    axis = axis_of(dim, len(axes))
    axes[axis], axes[-1] = axes[-1], axes[axis]
    return axis != len(axes) - 1, axes


@aten("log_softmax.int", "_log_softmax.default")
def _log_softmax(c: Call, x: Value, dim: int, to: Any = None) -> Value:
    b, axis = c.b, axis_of(dim, x.type.rank)
    x = c.to_out(x)
    shifted = b.sub(x, b.reduce("max", x, (axis,), keepdims=True))
    total = b.reduce("sum", b.apply("exp", shifted), (axis,), keepdims=True)
    return b.sub(shifted, b.apply("log", total))


@aten("scaled_dot_product_attention.default")
def _attention(
    c: Call,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    if dropout_p:
        raise UnsupportedOpError(f"attention with dropout {dropout_p}; call module.eval() first")
    b = c.b
    q, k, v = (_four_dimensions(c, x) for x in (q, k, v))
    k, v = (b.broadcast(x, (q.shape[0], *x.shape[1:])) for x in (k, v))
    queries, keys = q.shape[2], k.shape[2]
    if is_causal and queries != keys:
        # PyTorch aligns the first query with the first key, the operator the last with the last.
        rows, columns = (b.iota((queries, keys), axis) for axis in (0, 1))
        mask, is_causal = b.compare("le", columns, rows), False
    if mask is not None:
        mask = b.reshape(mask, *(1,) * (4 - mask.type.rank), *mask.shape)
        mask = b.broadcast(mask, (*mask.shape[:3], keys))
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    y = b.attention(q, k, v, mask, scale=float(scale), causal=is_causal)
    return b.reshape(y, *c.out.shape)


def _four_dimensions(c: Call, x: Value) -> Value:
    if x.type.rank > 4:
        raise UnsupportedOpError(f"attention over more than four dimensions, found {x.type}")
    return c.b.reshape(x, *(1,) * (4 - x.type.rank), *x.shape)


# Reductions.


def _reduced(c: Call, kind: str, x: Value, axes: list[int]) -> Value:
    """Return a reduction in the form that kernels take: of the last dimensions, which stay."""
    rank = x.type.rank
    kept = [i for i in range(rank) if i not in axes]
    if axes != [rank - 2] and kept + axes != list(range(rank)):
        x, axes = c.b.permute(x, *kept, *axes), list(range(len(kept), rank))
    return c.b.reshape(c.b.reduce(kind, x, axes, keepdims=True), *c.out.shape)


def _reduction(kind: str, *overloads: str) -> None:
    @aten(*overloads)
    def reduce(
        c: Call,
        x: Value,
        dims: Sequence[int] | int | None = None,
        keepdim: bool = False,
        **options: Any,
    ) -> Value:
        if isinstance(dims, int):
            dims = (dims,)
        rank = x.type.rank
        axes = sorted(axis_of(d, rank) for d in dims) if dims else list(range(rank))
        return _reduced(c, kind, c.to_out(x), axes) if axes else c.to_out(x)


_reduction("sum", "sum.dim_IntList", "sum.default")
_reduction("mean", "mean.dim", "mean.default")
_reduction("max", "amax.default", "max.default", "any.default", "any.dim", "any.dims")
_reduction("min", "amin.default", "min.default", "all.default", "all.dim", "all.dims")


@aten("var.correction")
def _variance(
    c: Call,
    x: Value,
    dims: Sequence[int] | None = None,
    *,
    correction: Scalar | None = 1,
    keepdim: bool = False,
) -> Value:
    b, rank = c.b, x.type.rank
    axes = sorted(axis_of(d, rank) for d in dims) if dims else list(range(rank))
    count = math.prod(x.shape[a] for a in axes)
    offset = b.sub(x, b.reduce("mean", x, axes, keepdims=True))
    total = _reduced(c, "sum", b.mul(offset, offset), axes)
    return b.mul(total, 1 / (count - (1 if correction is None else correction)))


def _extreme(kind: str) -> None:
    @aten(f"{kind}.dim")
    def extreme(c: Call, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
        axis = axis_of(dim, x.type.rank)
        places = c.b.one(ArgReduce(kind, axis), x)
        values = c.b.reduce(kind, x, (axis,), keepdims=keepdim)
        return values, c.b.reshape(places, *values.shape)


def _place(kind: str) -> None:
    @aten(f"arg{kind}.default")
    def place(c: Call, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None:
            x, dim = c.b.reshape(x, -1), 0
        found = c.b.one(ArgReduce(kind, axis_of(dim, x.type.rank)), x)
        return c.b.reshape(found, *c.out.shape)


for _name in ("max", "min"):
    _extreme(_name)
    _place(_name)


@aten("topk.default")
def _topk(
    c: Call, x: Value, k: int, dim: int = -1, largest: bool = True, is_sorted: bool = True
) -> tuple[Value, ...]:
    if not largest or axis_of(dim, x.type.rank) != x.type.rank - 1:
        raise UnsupportedOpError("topk is built for the largest along the last dimension")
    return c.b.append(TopK(k), x)


@aten("cumsum.default")
def _cumsum(c: Call, x: Value, dim: int, **options: Any) -> Value:
    return c.b.cumulative(c.to_out(x), axis_of(dim, x.type.rank))

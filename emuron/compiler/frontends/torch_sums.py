"""ATen operators that contract: products, norms, softmax, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from emuron.compiler.frontends.torch_call import Call, aten, axis_of
from emuron.compiler.graph import Value
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
    return (
        c.b.softmax(c.to_out(x), axis_of(dim, x.type.rank))
        if x.type.rank
        else c.b.full(1, (), c.out.dtype)
    )


@aten("log_softmax.int", "_log_softmax.default")
def _log_softmax(c: Call, x: Value, dim: int, to: Any = None) -> Value:
    return (
        c.b.log_softmax(c.to_out(x), axis_of(dim, x.type.rank))
        if x.type.rank
        else c.b.full(0, (), c.out.dtype)
    )


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
    lead = np.broadcast_shapes(*(x.shape[:-3] for x in (q, k, v)))
    q, k, v = (_four_dimensions(c, x, lead) for x in (q, k, v))
    k, v = (b.broadcast(x, (q.shape[0], *x.shape[1:])) for x in (k, v))
    queries, keys = q.shape[2], k.shape[2]
    if is_causal and queries != keys:
        # PyTorch aligns the first query with the first key, the operator the last with the last.
        rows, columns = (b.iota((queries, keys), axis) for axis in (0, 1))
        mask, is_causal = b.compare("le", columns, rows), False
    if mask is not None:
        mask = _four_dimensions(c, mask, lead if len(lead) > 1 else mask.shape[:-3])
        mask = b.broadcast(mask, (*mask.shape[:3], keys))
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    y = b.attention(q, k, v, mask, scale=float(scale), causal=is_causal)
    return b.reshape(y, *c.out.shape)


def _four_dimensions(c: Call, x: Value, lead: tuple[int, ...]) -> Value:
    """Return x as [batch, heads, rows, columns], several leading dimensions as one batch."""
    if x.type.rank <= 4:
        return c.b.reshape(x, *(1,) * (4 - x.type.rank), *x.shape)
    return c.b.reshape(c.b.broadcast(x, (*lead, *x.shape[-3:])), -1, *x.shape[-3:])

"""ATen operators that reduce, scan and order: sums, extremes, running sums, sorts, histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from emuron.compiler.frontends.torch_call import Call, aten, axis_of
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import bool_

Scalar = float | int | bool
Dims = Sequence[int] | int | None


def _axes(x: Value, dims: Dims) -> list[int]:
    """Return the axes that `dims` means: all of them where it is None or empty."""
    given = [dims] if isinstance(dims, int) else dims
    rank = x.type.rank
    return sorted(axis_of(d, rank) for d in given) if given else list(range(rank))


def _reduced(c: Call, kind: str, x: Value, axes: list[int]) -> Value:
    """Return a reduction in the form that kernels take: of the last dimensions, which stay."""
    rank = x.type.rank
    if not axes:
        return x
    kept = [i for i in range(rank) if i not in axes]
    if axes != [rank - 2] and kept + axes != list(range(rank)):
        x, axes = c.b.permute(x, *kept, *axes), list(range(len(kept), rank))
    return c.b.reshape(c.b.reduce(kind, x, axes, keepdims=True), *c.out.shape)


def _reduction(kind: str, *overloads: str) -> None:
    @aten(*overloads)
    def reduce(
        c: Call, x: Value, dims: Dims = None, keepdim: bool = False, **options: Any
    ) -> Value:
        return _reduced(c, kind, c.to_out(x), _axes(x, dims))


_reduction("sum", "sum.dim_IntList", "sum.default")
_reduction("mean", "mean.dim", "mean.default")
_reduction("max", "amax.default", "max.default")
_reduction("min", "amin.default", "min.default")
_reduction("any", "any.default", "any.dim", "any.dims")
_reduction("all", "all.default", "all.dim", "all.dims")
_reduction("prod", "prod.default", "prod.dim_int")


@aten("var.correction")
def _variance(
    c: Call,
    x: Value,
    dims: Sequence[int] | None = None,
    *,
    correction: Scalar | None = 1,
    keepdim: bool = False,
) -> Value:
    b, axes = c.b, _axes(x, dims)
    count = math.prod(x.shape[a] for a in axes)
    offset = b.sub(x, b.reduce("mean", x, axes, keepdims=True))
    total = _reduced(c, "sum", b.mul(offset, offset), axes)
    return b.mul(total, 1 / (count - (1 if correction is None else correction)))


@aten("linalg_vector_norm.default")
def _vector_norm(
    c: Call, x: Value, order: Scalar = 2, dims: Dims = None, keepdim: bool = False, **options: Any
) -> Value:
    b, x, axes = c.b, c.to_out(x), _axes(x, dims)
    if order == 2:
        return b.apply("sqrt", _reduced(c, "sum", b.mul(x, x), axes))
    size = b.apply("abs", x)
    if order in (math.inf, -math.inf):
        return _reduced(c, "max" if order > 0 else "min", size, axes)
    if order == 0:
        return _reduced(c, "sum", b.cast(b.compare("ne", x, 0), c.out.dtype), axes)
    if order == 1:
        return _reduced(c, "sum", size, axes)
    total = _reduced(c, "sum", b.combine("pow", size, float(order)), axes)
    return b.combine("pow", total, 1 / order)


# Extremes and their places.


def _extreme(kind: str) -> None:
    @aten(f"{kind}.dim")
    def extreme(c: Call, x: Value, dim: int, keepdim: bool = False) -> tuple[Value, Value]:
        axis = axis_of(dim, x.type.rank)
        places = c.b.argreduce(kind, x, axis)
        values = c.b.reduce(kind, x, (axis,), keepdims=keepdim)
        return values, c.b.reshape(places, *values.shape)

    @aten(f"arg{kind}.default")
    def place(c: Call, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None:
            x, dim = c.b.reshape(x, -1), 0
        found = c.b.argreduce(kind, x, axis_of(dim, x.type.rank))
        return c.b.reshape(found, *c.out.shape)


_extreme("max")
_extreme("min")


# Scans.


def _scan(kind: str, overload: str) -> None:
    @aten(overload)
    def scan(c: Call, x: Value, dim: int, **options: Any) -> Value:
        return c.b.cumulative(c.to_out(x), axis_of(dim, x.type.rank), kind)


_scan("sum", "cumsum.default")
_scan("prod", "cumprod.default")
_scan("logsumexp", "logcumsumexp.default")


# Order.


@aten("sort.default", "sort.stable")
def _sort(
    c: Call, x: Value, dim: int = -1, descending: bool = False, *, stable: bool | None = None
) -> tuple[Value, ...]:
    if x.type.dtype == bool_:
        raise UnsupportedOpError("sort of truth values; sort numbers")
    return c.b.sort(x, axis_of(dim, x.type.rank), descending=descending)


@aten("topk.default")
def _topk(
    c: Call, x: Value, k: int, dim: int = -1, largest: bool = True, is_sorted: bool = True
) -> tuple[Value, ...]:
    order = list(range(x.type.rank))
    axis = axis_of(dim, len(order))
    order[axis], order[-1] = order[-1], order[axis]
    found = c.b.topk(c.b.permute(x, *order), k, largest=largest)
    return tuple(c.b.permute(v, *order) for v in found)


@aten("histc.default")
def _histogram(c: Call, x: Value, bins: int = 100, low: Scalar = 0, high: Scalar = 0) -> Value:
    if low == high:
        raise UnsupportedOpError("histc takes its range from the data; give min and max")
    return c.b.cast(c.b.histogram(x, bins, low, high), c.out.dtype)

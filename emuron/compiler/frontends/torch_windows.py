"""ATen operators of images and signals: convolution, pooling, resizing, norms over channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from emuron.compiler.frontends.torch_call import Call, aten
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError

Sizes = Sequence[int] | int


def _each(sizes: Sizes, count: int) -> list[int]:
    """Return one number for each dimension; PyTorch takes one for all."""
    given = [sizes] if isinstance(sizes, int) else list(sizes)
    return given * count if len(given) == 1 else given


def _batched(c: Call, x: Value, spatial: int) -> Value:
    """Return x with a batch: PyTorch takes one image without."""
    return x if x.type.rank == spatial + 2 else c.b.reshape(x, 1, *x.shape)


# Convolution.


def _pairs(padding: Sizes, count: int) -> list[tuple[int, int]]:
    return [(n, n) for n in _each(padding, count)]


@aten("conv1d.default", "conv2d.default", "conv3d.default")
def _conv(
    c: Call,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Value:
    around = _pairs(padding, weight.type.rank - 2)
    return _convolved(c, (x, weight, bias), around, groups, stride=stride, dilation=dilation)


def _convolved(
    c: Call,
    operands: tuple[Value, Value, Value | None],
    padding: Sequence[tuple[int, int]],
    groups: int,
    *,
    stride: Sizes,
    dilation: Sizes,
) -> Value:
    """Return the convolution of x, weight and bias, each side padded as said."""
    x, weight, bias = operands
    n = weight.type.rank - 2
    y = c.b.conv(
        _batched(c, x, n),
        weight,
        bias,
        stride=_each(stride, n),
        padding=padding,
        dilation=_each(dilation, n),
        groups=groups,
    )
    return c.b.reshape(y, *c.out.shape)


@aten("conv1d.padding", "conv2d.padding", "conv3d.padding")
def _conv_by_name(
    c: Call,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sizes = 1,
    padding: str = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
) -> Value:
    n = weight.type.rank - 2
    rates = _each(dilation, n)
    reach = [
        r * (k - 1) if padding == "same" else 0
        for r, k in zip(rates, weight.shape[2:], strict=True)
    ]
    around = [(r // 2, r - r // 2) for r in reach]
    return _convolved(c, (x, weight, bias), around, groups, stride=stride, dilation=dilation)


@aten("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _conv_transpose(
    c: Call,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Value:
    n = weight.type.rank - 2
    y = c.b.conv_transpose(
        _batched(c, x, n),
        weight,
        bias,
        stride=_each(stride, n),
        padding=_pairs(padding, n),
        output_padding=_each(output_padding, n),
        dilation=_each(dilation, n),
        groups=groups,
    )
    return c.b.reshape(y, *c.out.shape)


@aten("convolution.default")
def _any_convolution(
    c: Call,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> Value:
    if transposed:
        return _conv_transpose(
            c, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return _conv(c, x, weight, bias, stride, padding, dilation, groups)


# Pooling.


@aten("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def _avg_pool(
    c: Call,
    x: Value,
    window: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    sizes = _window(x, window)
    kind = "avg" if divisor_override is None else "sum"
    y = _pooled(c, kind, x, sizes, stride, padding, 1, ceil_mode, count_include_pad)
    return y if divisor_override is None else c.b.mul(y, 1 / divisor_override)


def _window(x: Value, window: Sizes) -> list[int]:
    """Return the window's sizes; one number is for all dimensions behind the channels."""
    if isinstance(window, int) or len(window) == 1:
        return _each(window, 1 if x.type.rank < 3 else x.type.rank - 2)
    return list(window)


def _pooled(
    c: Call,
    kind: str,
    x: Value,
    window: list[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    counted: bool = False,
) -> Value:
    n = len(window)
    y = c.b.reduce_window(
        kind,
        _batched(c, x, n),
        window,
        stride=_each(stride, n) if stride != [] and stride != () else window,
        padding=_pairs(padding, n),
        dilation=_each(dilation, n),
        ceil=ceil_mode,
        count_include_pad=counted,
    )
    return c.b.reshape(y, *c.out.shape)


@aten("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def _max_pool(
    c: Call,
    x: Value,
    window: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Value:
    return _pooled(c, "max", x, _window(x, window), stride, padding, dilation, ceil_mode)


@aten("_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default", "adaptive_avg_pool1d.default")
def _adaptive_avg_pool(c: Call, x: Value, sizes: Sizes) -> Value:
    return _adapted(c, x, _each(sizes, 1), "avg", "mean")


def _adapted(c: Call, x: Value, sizes: list[int], pooled: str, reduced: str) -> Value:
    """Return x reduced to `sizes`, by equal windows where they divide it, else one by one."""
    spatial = x.shape[-len(sizes) :]
    if all(n % size == 0 for n, size in zip(spatial, sizes, strict=True)):
        window = [n // size for n, size in zip(spatial, sizes, strict=True)]
        return _pooled(c, pooled, x, window, window, 0, 1, False)
    axes = range(x.type.rank - len(sizes), x.type.rank)
    cells = []
    for place in product(*(range(size) for size in sizes)):
        cell = x
        for axis, i, n, size in zip(axes, place, spatial, sizes, strict=True):
            cell = c.b.slice(cell, axis, i * n // size, -(-(i + 1) * n // size))
        cells.append(c.b.reshape(c.b.reduce(reduced, cell, tuple(axes)), *x.shape[: axes[0]], 1))
    return c.b.reshape(c.b.concat(cells, axes[0]), *c.out.shape)


# Norms over channels.


@aten("group_norm.default")
def _group_norm(
    c: Call,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    epsilon: float = 1e-5,
    *options: Any,
) -> Value:
    if weight is None and bias is not None:
        weight = c.b.full(1, bias.shape, bias.type.dtype)
    return c.b.group_norm(x, weight, bias, groups=groups, epsilon=epsilon)


@aten("instance_norm.default")
def _instance_norm(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    variance: Value | None,
    from_input: bool,
    momentum: float,
    epsilon: float,
    *options: Any,
) -> Value:
    if from_input:
        return _group_norm(c, x, x.shape[1], weight, bias, epsilon)
    return _batch_norm(c, x, weight, bias, mean, variance, epsilon)


def _batch_norm(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    variance: Value | None,
    epsilon: float,
) -> Value:
    if mean is None or variance is None:
        raise UnsupportedOpError("batch_norm without running statistics; call module.eval() first")
    scale = c.b.full(1, mean.shape, mean.type.dtype) if weight is None else weight
    shift = c.b.full(0, mean.shape, mean.type.dtype) if bias is None else bias
    return c.b.batch_norm(x, scale, shift, mean, variance, epsilon=epsilon)


@aten("_native_batch_norm_legit_no_training.default")
def _batch_norm_of_inference(
    c: Call,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    momentum: float,
    epsilon: float,
) -> list[Value]:
    y = _batch_norm(c, x, weight, bias, mean, variance, epsilon)
    return [y, *(c.b.full(0, out.shape, out.dtype) for out in c.outs[1:])]


# Resizing.


def _upsample(name: str, mode: str, **options: Any) -> None:
    """Register both forms of an operator: sizes with scales, or sizes or factors."""
    has_corners = mode != "nearest"

    @aten(f"{name}.vec")
    def by_factors(c: Call, x: Value, sizes: Any, *rest: Any) -> Value:
        corners, factors = rest if has_corners else (False, rest[0])
        return _resized(c, x, mode, corners, factors or (), options)

    @aten(f"{name}.default")
    def by_sizes(c: Call, x: Value, sizes: Any, *rest: Any) -> Value:
        corners, factors = (rest[0], rest[1:]) if has_corners else (False, rest)
        known = factors if factors and all(f is not None for f in factors) else ()
        return _resized(c, x, mode, corners, known, options)


def _resized(
    c: Call, x: Value, mode: str, corners: bool, factors: Sequence[float], options: Any
) -> Value:
    form = options | {"coordinates": "align_corners"} if corners else options
    return c.b.resize(x, c.out.shape[2:], mode, scales=() if corners else tuple(factors), **form)


for _dims in ("1d", "2d", "3d"):
    _upsample(f"upsample_nearest{_dims}", "nearest", coordinates="asymmetric", rounding="floor")
    _upsample(f"_upsample_nearest_exact{_dims}", "nearest", rounding="round_prefer_ceil")
for _name in ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"):
    _upsample(_name, "linear")
_upsample("upsample_bicubic2d", "cubic")
_upsample("_upsample_bilinear2d_aa", "linear", antialias=True)
_upsample("_upsample_bicubic2d_aa", "cubic", antialias=True, cubic=-0.5)

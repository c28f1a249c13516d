"""ONNX operators that slide windows over images: convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

from emuron.compiler.frontends.onnx_call import Call, NotWholeError, onnx_op
from emuron.compiler.graph import Value
from emuron.errors import ModelFileError

Pairs = tuple[tuple[int, int], ...]


def sizes(c: Call, name: str, count: int) -> tuple[int, ...]:
    """Return an attribute of one number for each spatial dimension, 1 if it is not given."""
    found = tuple(c.attribute(name) or (1,) * count)
    if len(found) != count:
        raise ModelFileError(f"{c.kind}: {name} has {len(found)} numbers for {count} dimensions")
    return found


def padding(c: Call, spatial: Sequence[int], kernel: Sequence[int]) -> Pairs:
    """Return the padding before and after each spatial dimension."""
    count = len(spatial)
    automatic = c.attribute("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        given = tuple(c.attribute("pads") or (0,) * (2 * count))
        if len(given) != 2 * count:
            raise ModelFileError(f"{c.kind}: pads has {len(given)} numbers for {count} dimensions")
        return tuple(zip(given[:count], given[count:], strict=True))
    if automatic == "VALID":
        return ((0, 0),) * count
    rates = zip(
        spatial, kernel, sizes(c, "strides", count), sizes(c, "dilations", count), strict=True
    )
    total = [max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n) for n, k, s, d in rates]
    return tuple(_halves(n, more_after=automatic == "SAME_UPPER") for n in total)


def _halves(total: int, *, more_after: bool) -> tuple[int, int]:
    less = int(total / 2)
    return (less, total - less) if more_after else (total - less, less)


@onnx_op("Conv")
def _conv(c: Call) -> Value:
    x, weight = c.x(0), c.x(1)
    count = x.type.rank - 2
    return c.b.conv(
        x,
        weight,
        c.maybe(2),
        stride=sizes(c, "strides", count),
        padding=padding(c, x.shape[2:], weight.shape[2:]),
        dilation=sizes(c, "dilations", count),
        groups=c.attribute("group", 1),
    )


@onnx_op("ConvTranspose")
def _conv_transpose(c: Call) -> Value:
    x, weight = c.x(0), c.x(1)
    count = x.type.rank - 2
    stride, dilation = (sizes(c, name, count) for name in ("strides", "dilations"))
    extra = tuple(c.attribute("output_padding") or (0,) * count)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    full = [(n - 1) * s + r for n, s, r in zip(x.shape[2:], stride, reach, strict=True)]
    pairs = _cropped(c, x.shape[2:], stride, [f + e for f, e in zip(full, extra, strict=True)])
    return c.b.conv_transpose(
        x,
        weight,
        c.maybe(2),
        stride=stride,
        padding=pairs,
        output_padding=extra,
        dilation=dilation,
        groups=c.attribute("group", 1),
    )


def _cropped(c: Call, spatial: Sequence[int], stride: Sequence[int], full: Sequence[int]) -> Pairs:
    """Return what is cut from the full result of a transposed convolution."""
    automatic, wanted = c.attribute("auto_pad", "NOTSET"), c.attribute("output_shape")
    if wanted is None and automatic in ("NOTSET", "VALID"):
        return padding(c, spatial, spatial)
    if wanted is None:
        wanted = [n * s for n, s in zip(spatial, stride, strict=True)]
    total = [f - w for f, w in zip(full, list(wanted)[-len(full) :], strict=True)]
    return tuple(_halves(n, more_after=automatic != "SAME_LOWER") for n in total)


@onnx_op("MaxPool", "AveragePool")
def _pool(c: Call) -> Value:
    if c.wants(1):
        raise NotWholeError("MaxPool gives no places of the largest elements here")
    x = c.x()
    return _windowed(c, "max" if c.kind == "MaxPool" else "avg", x)


def _windowed(c: Call, kind: str, x: Value) -> Value:
    count = x.type.rank - 2
    window = sizes(c, "kernel_shape", count)
    return c.b.reduce_window(
        kind,
        x,
        window,
        stride=sizes(c, "strides", count),
        padding=padding(c, x.shape[2:], window),
        dilation=sizes(c, "dilations", count),
        ceil=bool(c.attribute("ceil_mode", 0)),
        count_include_pad=bool(c.attribute("count_include_pad", 0)),
    )


@onnx_op("LpPool")
def _lp_pool(c: Call) -> Value:
    return _norm_of(c, lambda powers: _windowed(c, "sum", powers))


@onnx_op("GlobalLpPool")
def _global_lp_pool(c: Call) -> Value:
    return _norm_of(c, lambda powers: _overall(c, "sum", powers))


def _norm_of(c: Call, total: object) -> Value:
    """Return the p-norm of sums that `total` makes of powers."""
    assert callable(total)
    x, p = c.x(), c.attribute("p", 2)
    if p == 1:
        return c.b.cast(total(c.b.apply("abs", x)), x.type.dtype)
    if p == 2:
        return c.b.apply("sqrt", total(c.b.mul(x, x)))
    powers = c.b.combine("pow", c.b.apply("abs", x), float(p))
    return c.b.combine("pow", total(powers), 1 / p)


@onnx_op("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(c: Call) -> Value:
    return _overall(c, "mean" if c.kind == "GlobalAveragePool" else "max", c.x())


def _overall(c: Call, kind: str, x: Value) -> Value:
    return c.b.reduce(kind, x, range(2, x.type.rank), keepdims=True)


@onnx_op("LRN")
def _lrn(c: Call) -> Value:
    x, size = c.x(), c.required("size")
    ones = (1,) * (x.type.rank - 2)
    pairs = (((size - 1) // 2, size - 1 - (size - 1) // 2), *((0, 0) for _ in ones))
    total = c.b.reduce_window("sum", c.b.mul(x, x), (size, *ones), padding=pairs)
    scaled = c.b.mul(total, c.attribute("alpha", 1e-4) / size)
    base = c.b.add(scaled, c.attribute("bias", 1.0))
    return c.b.mul(x, c.b.combine("pow", base, -c.attribute("beta", 0.75)))


@onnx_op("Resize", "Upsample")
def _resize(c: Call) -> Value:
    x = c.x()
    wanted, scales = _wanted(c, x)
    changed = [i for i, (n, w) in enumerate(zip(x.shape, wanted, strict=True)) if n != w]
    changed += [i for i, s in enumerate(scales) if s != 1]
    coordinates = c.attribute("coordinate_transformation_mode", "half_pixel")
    if c.kind == "Upsample":
        coordinates = "asymmetric"
    if coordinates == "tf_crop_and_resize":
        raise NotWholeError("Resize does not crop here (tf_crop_and_resize)")
    if not changed:
        return x
    first = min(changed)
    return c.b.resize(
        x,
        wanted[first:],
        {"bilinear": "linear"}.get(mode := c.attribute("mode", "nearest"), mode),
        coordinates=coordinates,
        rounding="floor"
        if c.kind == "Upsample"
        else c.attribute("nearest_mode", "round_prefer_floor"),
        scales=scales[first:],
        cubic=c.attribute("cubic_coeff_a", -0.75),
        antialias=bool(c.attribute("antialias", 0)),
        exclude_outside=bool(c.attribute("exclude_outside", 0)),
    )


def _wanted(c: Call, x: Value) -> tuple[list[int], list[float]]:
    """Return the size of every dimension and its scale."""
    rank = x.type.rank
    axes = [c.axis(a, rank) for a in c.attribute("axes", range(rank))]
    sizes_at = 3 if c.kind == "Resize" else -1
    if c.has(sizes_at) and c.known(sizes_at).size:
        sizes = list(x.shape)
        for axis, size in zip(axes, c.ints(sizes_at), strict=True):
            sizes[axis] = size
        return _kept_ratio(c, x, axes, sizes)
    scales = [1.0] * rank
    given = c.known(2 if c.kind == "Resize" else 1).reshape(-1)
    for axis, scale in zip(axes, given.tolist(), strict=True):
        scales[axis] = scale
    return [int(n * s) for n, s in zip(x.shape, scales, strict=True)], scales


def _kept_ratio(
    c: Call, x: Value, axes: Sequence[int], sizes: list[int]
) -> tuple[list[int], list[float]]:
    policy = c.attribute("keep_aspect_ratio_policy", "stretch")
    scales = [w / n for w, n in zip(sizes, x.shape, strict=True)]
    if policy != "stretch":
        chosen = (min if policy == "not_larger" else max)(scales[a] for a in axes)
        for axis in axes:
            scales[axis] = chosen
            sizes[axis] = int(chosen * x.shape[axis] + 0.5)
    return sizes, scales


@onnx_op("DepthToSpace")
def _depth_to_space(c: Call) -> Value:
    x, size = c.x(), c.required("blocksize")
    n, channels, height, width = x.shape
    kept = channels // (size * size)
    if c.attribute("mode", "DCR") == "DCR":
        split = c.b.permute(c.b.reshape(x, n, size, size, kept, height, width), 0, 3, 4, 1, 5, 2)
    else:
        split = c.b.permute(c.b.reshape(x, n, kept, size, size, height, width), 0, 1, 4, 2, 5, 3)
    return c.b.reshape(split, n, kept, height * size, width * size)


@onnx_op("SpaceToDepth")
def _space_to_depth(c: Call) -> Value:
    x, size = c.x(), c.required("blocksize")
    n, channels, height, width = x.shape
    split = c.b.reshape(x, n, channels, height // size, size, width // size, size)
    if c.attribute("mode", "DCR") == "DCR":
        moved = c.b.permute(split, 0, 3, 5, 1, 2, 4)
    else:
        moved = c.b.permute(split, 0, 1, 3, 5, 2, 4)
    return c.b.reshape(moved, n, channels * size * size, height // size, width // size)

"""MXNet operators that are layers: products, convolutions, pooling, normalisation, attention."""

from __future__ import annotations

import math

from emuron.compiler.frontends import recipes
from emuron.compiler.frontends.mxnet_call import Call, Operand, mxnet
from emuron.compiler.graph import Value
from emuron.compiler.ops import find_op
from emuron.errors import UnsupportedOpError, UsageError

# Products


@mxnet("FullyConnected")
def _fully_connected(c: Call, x: Operand, weight: Operand, *bias: Operand) -> Value:
    value, outputs = c.value(x), c.integer("num_hidden")
    if c.flag("flatten", True):
        value = c.b.reshape(value, value.shape[0], math.prod(value.shape[1:]))
    held = c.weight(weight, outputs, value.shape[-1])
    added = c.weight(bias[0], outputs) if bias and not c.flag("no_bias") else None
    return c.b.linear(value, held, added)


@mxnet("dot", "batch_dot", "_linalg_gemm2", "linalg_gemm2")
def _dot(c: Call, x: Operand, y: Operand) -> Value:
    left, right = c.values(x, y)
    if c.op == "dot" and (left.type.rank > 2 or right.type.rank > 2):
        raise UnsupportedOpError("a dot of more than two dimensions; use batch_dot")
    if left.type.rank == right.type.rank == 1:
        return c.b.reduce("sum", c.b.mul(left, right), (0,), keepdims=True)
    left = recipes.swap(c.b, left) if c.flag("transpose_a") else left
    right = recipes.swap(c.b, right) if c.flag("transpose_b") else right
    found = recipes.matmul(c.b, left, right)
    scale = c.number("alpha", 1)
    return found if scale == 1 else c.b.mul(found, scale)


# Attention, as GluonNLP's BERT has it: queries, keys and values of each head lie side by side.


def _heads(c: Call, x: Operand, parts: int) -> list[Value]:
    """Return [B·H, L, D] tensors from one [L, B, H · parts · D]."""
    value, heads = c.value(x), c.integer("heads", 1)
    length, batch, width = value.shape
    size = width // (heads * parts)
    split = c.b.reshape(value, length, batch * heads, parts, size)
    turned = c.b.permute(split, 1, 2, 0, 3)
    rows = (c.b.slice(turned, 1, i, i + 1) for i in range(parts))
    return [c.b.reshape(r, batch * heads, length, size) for r in rows]


def _scores(c: Call, q: Value, k: Value) -> Value:
    scaled = c.b.mul(q, 1 / math.sqrt(q.shape[-1]))
    return c.b.matmul(scaled, recipes.swap(c.b, k))


def _mixed(c: Call, scores: Operand, v: Value) -> Value:
    """Return [L, B, H · D] from scores [B · H, L, K] and values [B · H, K, D]."""
    product, heads = c.b.matmul(c.value(scores), v), c.integer("heads", 1)
    rows, length, size = product.shape
    turned = c.b.permute(product, 1, 0, 2)
    return c.b.reshape(turned, length, rows // heads, heads * size)


@mxnet("_contrib_interleaved_matmul_selfatt_qk")
def _self_scores(c: Call, joined: Operand) -> Value:
    q, k, _ = _heads(c, joined, 3)
    return _scores(c, q, k)


@mxnet("_contrib_interleaved_matmul_selfatt_valatt")
def _self_values(c: Call, joined: Operand, scores: Operand) -> Value:
    return _mixed(c, scores, _heads(c, joined, 3)[2])


@mxnet("_contrib_interleaved_matmul_encdec_qk")
def _cross_scores(c: Call, queries: Operand, joined: Operand) -> Value:
    return _scores(c, _heads(c, queries, 1)[0], _heads(c, joined, 2)[0])


@mxnet("_contrib_interleaved_matmul_encdec_valatt")
def _cross_values(c: Call, joined: Operand, scores: Operand) -> Value:
    return _mixed(c, scores, _heads(c, joined, 2)[1])


@mxnet("_contrib_div_sqrt_dim")
def _div_sqrt_dim(c: Call, x: Operand) -> Value:
    value = c.value(x)
    return c.b.mul(value, 1 / math.sqrt(value.shape[-1]))


# Convolutions and pooling


def _spatial(c: Call, name: str, rank: int, default: int) -> tuple[int, ...]:
    found = c.integers(name) or (default,) * rank
    if len(found) != rank:
        raise UsageError(f"its attribute {name} must have {rank} entries, found {list(found)}")
    return found


def _refuse_other_layouts(c: Call) -> None:
    layout = c.text("layout", "None")
    if layout not in ("None", "NCW", "NCHW", "NCDHW"):
        raise UnsupportedOpError(f"the layout {layout}; channels must come second")


@mxnet("Convolution", "Convolution_v1")
def _convolution(c: Call, x: Operand, weight: Operand, *bias: Operand) -> Value:
    _refuse_other_layouts(c)
    value, kernel = c.value(x), c.integers("kernel")
    rank, outputs, groups = len(kernel), c.integer("num_filter"), c.integer("num_group", 1)
    stride, dilation = (_spatial(c, n, rank, 1) for n in ("stride", "dilate"))
    padding = tuple((p, p) for p in _spatial(c, "pad", rank, 0))
    held = c.weight(weight, outputs, value.shape[1] // groups, *kernel)
    added = c.weight(bias[0], outputs) if bias and not c.flag("no_bias") else None
    return c.b.conv(
        value, held, added, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@mxnet("Deconvolution")
def _deconvolution(c: Call, x: Operand, weight: Operand, *bias: Operand) -> Value:
    _refuse_other_layouts(c)
    value, kernel = c.value(x), c.integers("kernel")
    rank, outputs, groups = len(kernel), c.integer("num_filter"), c.integer("num_group", 1)
    stride, dilation = (_spatial(c, n, rank, 1) for n in ("stride", "dilate"))
    pads, more = (_spatial(c, n, rank, 0) for n in ("pad", "adj"))
    if c.integers("target_shape"):
        raise UnsupportedOpError("target_shape; give pad and adj")
    held = c.weight(weight, value.shape[1], outputs // groups, *kernel)
    added = c.weight(bias[0], outputs) if bias and not c.flag("no_bias", True) else None
    return c.b.conv_transpose(
        value,
        held,
        added,
        stride=stride,
        padding=[(p, p) for p in pads],
        output_padding=more,
        dilation=dilation,
        groups=groups,
    )


@mxnet("Pooling", "Pooling_v1")
def _pooling(c: Call, x: Operand) -> Value:
    _refuse_other_layouts(c)
    value, kind = c.value(x), c.text("pool_type", "max")
    rank = value.type.rank - 2
    kind = "avg" if kind == "avg" else kind
    if kind not in ("max", "avg", "sum"):
        raise UnsupportedOpError(f"pooling of kind {kind!r}")
    if c.flag("global_pool"):
        name = "mean" if kind == "avg" else kind
        return c.b.reduce(name, value, tuple(range(2, rank + 2)), keepdims=True)
    kernel = c.integers("kernel")
    stride = _spatial(c, "stride", rank, 1)
    padding = tuple((p, p) for p in _spatial(c, "pad", rank, 0))
    ceil = c.text("pooling_convention", "valid") == "full"
    included = c.flag("count_include_pad", True)
    return c.b.reduce_window(
        kind,
        value,
        kernel,
        stride=stride,
        padding=padding,
        ceil=ceil,
        count_include_pad=included,
    )


@mxnet("_contrib_AdaptiveAvgPooling2D")
def _adaptive_pool(c: Call, x: Operand) -> Value:
    value = c.value(x)
    sizes = c.integers("output_size", (1, 1))
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    pairs = list(zip(value.shape[2:], sizes, strict=True))
    if any(n % s for n, s in pairs):
        raise UnsupportedOpError(f"pooling {value} to {list(sizes)} with windows of two sizes")
    window = tuple(n // s for n, s in pairs)
    return c.b.reduce_window("avg", value, window, stride=window)


@mxnet("UpSampling")
def _up_sampling(c: Call, *operands: Operand) -> Value:
    value, scale = c.value(operands[0]), c.integer("scale", 1)
    if c.text("sample_type", "nearest") != "nearest" or len(operands) > 1:
        raise UnsupportedOpError("up-sampling other than of one tensor by its nearest neighbours")
    n, channels, height, width = value.shape
    opened = c.b.reshape(value, n, channels, height, 1, width, 1)
    wide = c.b.broadcast(opened, (n, channels, height, scale, width, scale))
    return c.b.reshape(wide, n, channels, height * scale, width * scale)


@mxnet("_contrib_BilinearResize2D")
def _bilinear_resize(c: Call, x: Operand) -> Value:
    value = c.value(x)
    if c.text("mode", "size") != "size":
        raise UnsupportedOpError(f"a resize of mode {c.text('mode')!r}")
    sizes = [c.integer("height"), c.integer("width")]
    aligned = c.flag("align_corners", True)
    coordinates = "align_corners" if aligned else "half_pixel"
    return c.b.resize(value, sizes, "linear", coordinates=coordinates)


# Normalisation


@mxnet("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm")
def _batch_norm(
    c: Call, x: Operand, gamma: Operand, beta: Operand, mean: Operand, variance: Operand
) -> list[Value]:
    value = c.value(x)
    axis = c.axis(value.type.rank, default=1)
    names = (gamma, beta, mean, variance)
    scale, shift, middle, spread = (c.weight(w, value.shape[axis]) for w in names)
    epsilon = c.number("eps", 1e-3)
    if c.flag("fix_gamma", True):
        scale = c.b.full(1, scale.shape, scale.type.dtype)
    rows = recipes.swap(c.b, value, axis, 1)
    made = c.b.batch_norm(rows, scale, shift, middle, spread, epsilon=epsilon)
    return [recipes.swap(c.b, made, axis, 1), middle, spread]


@mxnet("LayerNorm")
def _layer_norm(c: Call, x: Operand, gamma: Operand, beta: Operand) -> Value:
    value = c.value(x)
    axis = c.axis(value.type.rank)
    scale, shift = (c.weight(w, value.shape[axis]) for w in (gamma, beta))
    rows = recipes.swap(c.b, value, axis, -1)
    made = c.b.layer_norm(rows, scale, shift, epsilon=c.number("eps", 1e-5))
    return recipes.swap(c.b, made, axis, -1)


@mxnet("InstanceNorm", "GroupNorm")
def _group_norm(c: Call, x: Operand, gamma: Operand, beta: Operand) -> Value:
    value = c.value(x)
    channels = value.shape[1]
    groups = channels if c.op == "InstanceNorm" else c.integer("num_groups", 1)
    scale, shift = (c.weight(w, channels) for w in (gamma, beta))
    epsilon = c.number("eps", 1e-3 if c.op == "InstanceNorm" else 1e-5)
    return c.b.group_norm(value, scale, shift, groups=groups, epsilon=epsilon)


@mxnet("L2Normalization")
def _l2_normalization(c: Call, x: Operand) -> Value:
    b, value = c.b, c.value(x)
    rank = value.type.rank
    axes = {"instance": range(1, rank), "channel": (1,), "spatial": range(2, rank)}
    over = tuple(axes[c.text("mode", "instance")])
    total = b.reduce("sum", b.mul(value, value), over, keepdims=True)
    factor = b.apply("rsqrt", b.add(total, c.number("eps", 1e-10)))
    return b.mul(value, factor)


@mxnet("LRN")
def _local_response(c: Call, x: Operand) -> Value:
    b, value, size = c.b, c.value(x), c.integer("nsize", 1)
    square = recipes.channels_last(b, b.mul(value, value))
    half = size // 2
    total = b.reduce_window("sum", square, (size,), padding=half)
    total = recipes.channels_first(b, total)
    base = b.add(b.mul(total, c.number("alpha", 1e-4) / size), c.number("knorm", 2))
    return b.mul(value, b.binary(find_op("pow")(), base, -c.number("beta", 0.75)))


# Activations


@mxnet("Activation")
def _activation(c: Call, x: Operand) -> Value:
    b, value, kind = c.b, c.value(x), c.text("act_type")
    if kind in ("relu", "sigmoid", "tanh"):
        return b.apply(kind, value)
    if kind == "softrelu":
        return b.apply("softplus", value)
    if kind == "softsign":
        return b.div(value, b.add(b.apply("abs", value), 1))
    raise UnsupportedOpError(f"the activation {kind!r}")


@mxnet("LeakyReLU")
def _leaky_relu(c: Call, x: Operand, *gamma: Operand) -> Value:
    b, value, kind = c.b, c.value(x), c.text("act_type", "leaky")
    slope = c.number("slope", 0.25)
    positive = b.compare("gt", value, 0)
    if kind == "gelu":
        return b.gelu(value)
    if kind == "leaky":
        return b.select(positive, value, b.mul(value, slope))
    if kind == "prelu":
        scale = c.weight(gamma[0], *c.value(gamma[0]).shape)
        spread = b.broadcast(scale, value.shape, (1,)) if scale.shape != (1,) else scale
        return b.select(positive, value, b.mul(value, spread))
    if kind not in ("elu", "selu"):
        raise UnsupportedOpError(f"the activation {kind!r}")
    # The constants of Klambauer et al. 2017, "Self-Normalizing Neural Networks", as MXNet has.
    scale_of, alpha = (1.0, slope) if kind == "elu" else (1.0507009873554805, 1.6732632423543772)
    below = b.mul(b.apply("expm1", recipes.clamp(b, value, None, 0)), alpha)
    found = b.select(positive, value, below)
    return found if scale_of == 1 else b.mul(found, scale_of)


@mxnet("softmax", "log_softmax", "softmin")
def _softmax(c: Call, x: Operand, lengths: Operand | None = None) -> Value:
    value = c.value(x)
    axis, temperature = c.axis(value.type.rank), c.number("temperature", 1)
    if temperature not in (0, 1):
        value = c.b.mul(value, 1 / temperature)
    if c.op == "softmin":
        value = c.b.apply("neg", value)
    if lengths is not None and c.flag("use_length"):
        value = _hidden(c, value, c.value(lengths), axis)
    if c.op == "log_softmax":
        return recipes.log_softmax(c.b, value, axis)
    return recipes.softmax(c.b, value, axis)


def _hidden(c: Call, scores: Value, lengths: Value, axis: int) -> Value:
    """Return scores that are far below all others from each row's length on."""
    kept = [i for i in range(scores.type.rank) if i != axis]
    places = c.b.iota(scores.shape, axis, lengths.type.dtype)
    inside = c.b.compare("lt", places, c.b.broadcast(lengths, scores.shape, kept))
    return c.b.select(inside, scores, -1e30)


@mxnet("SoftmaxOutput", "Softmax", "SoftmaxActivation")
def _softmax_output(c: Call, x: Operand, *label: Operand) -> Value:
    value = c.value(x)
    if c.flag("multi_output") or c.text("mode") == "channel":
        return recipes.softmax(c.b, value, 1)
    if c.flag("preserve_shape"):
        return c.b.softmax(value)
    rows = c.b.reshape(value, value.shape[0], -1)
    return c.b.reshape(c.b.softmax(rows), *value.shape)


@mxnet("LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput")
def _regression_output(c: Call, x: Operand, *label: Operand) -> Value:
    value = c.value(x)
    return c.b.apply("sigmoid", value) if c.op.startswith("Logistic") else value

"""Layers over images and sequences, one number at a time from their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np


def _positions(op, output, kernel, spread):
    """Yield (position, place before the spread) of one output's window."""
    for q in np.ndindex(*kernel):
        yield (
            q,
            [
                o * s + i * d - low
                for o, s, i, d, (low, _) in zip(
                    output, op.stride, q, op.dilation, op.padding, strict=True
                )
            ],
        )


def _conv_sizes(op, x, kernel):
    for n, k, s, (low, high), d, spread in zip(
        x.shape[2:], kernel, op.stride, op.padding, op.dilation, op.lhs_dilation, strict=True
    ):
        yield ((n - 1) * spread + 1 + low + high - d * (k - 1) - 1) // s + 1


def conv(op, x, weight, bias=None):
    groups, kernel = op.groups, weight.shape[2:]
    outputs = weight.shape[1] * groups if op.transposed else weight.shape[0]
    inputs = x.shape[1]
    out = np.zeros((x.shape[0], outputs, *_conv_sizes(op, x, kernel)))
    for n, o, *at in np.ndindex(*out.shape):
        group = o // (outputs // groups)
        for q, place in _positions(op, at, kernel, op.lhs_dilation):
            if any(p % f for p, f in zip(place, op.lhs_dilation, strict=True)):
                continue
            found = [p // f for p, f in zip(place, op.lhs_dilation, strict=True)]
            if any(not 0 <= p < size for p, size in zip(found, x.shape[2:], strict=True)):
                continue
            for c in range(inputs // groups):
                channel = group * (inputs // groups) + c
                if op.transposed:
                    back = [k - 1 - i for k, i in zip(kernel, q, strict=True)]
                    w = weight[(channel, o % (outputs // groups), *back)]
                else:
                    w = weight[(o, c, *q)]
                out[(n, o, *at)] += w * x[(n, channel, *found)]
    return out if bias is None else out + bias.reshape(-1, *(1 for _ in kernel))


def _pool_size(op, size, dim):
    (low, high), span = op.padding[dim], op.dilation[dim] * (op.window[dim] - 1) + 1
    starts = itertools.takewhile(
        lambda at: (
            at + span <= size + low + high
            or (op.ceil and at < size + low and at - op.stride[dim] + span < size + low + high)
        ),
        itertools.count(0, op.stride[dim]),
    )
    return len(list(starts))


def reduce_window(op, x):
    lead = x.ndim - len(op.window)
    sizes = [_pool_size(op, n, d) for d, n in enumerate(x.shape[lead:])]
    out = np.zeros((*x.shape[:lead], *sizes))
    for place in np.ndindex(*out.shape):
        met, counted = [], 0
        for _, at in _positions(op, place[lead:], op.window, None):
            ends = zip(at, x.shape[lead:], op.padding, strict=True)
            counted += all(a < n + high for a, n, (_, high) in ends)
            if all(0 <= a < n for a, n in zip(at, x.shape[lead:], strict=True)):
                met.append(x[(*place[:lead], *at)])
        function = {"max": max, "min": min}.get(op.kind, math.fsum)
        total = function(met)
        if op.kind == "avg":
            total /= counted if op.count_include_pad else len(met)
        out[place] = total
    return out


def _source(op, output, size, outputs):
    scale = outputs / size
    match op.coordinates:
        case "align_corners":
            return output * (size - 1) / max(outputs - 1, 1)
        case "asymmetric":
            return output / scale
        case "pytorch_half_pixel" if outputs == 1:
            return 0.0
    return (output + 0.5) / scale - 0.5


def _keys(op, x):
    x, a = abs(x), op.cubic
    if op.mode == "linear":
        return max(0.0, 1.0 - x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def _resample_row(op, row, outputs):
    size, found = len(row), []
    for output in range(outputs):
        place = _source(op, output, size, outputs)
        if op.mode == "nearest":
            half = round(place - 1e-9) if op.rounding == "round_prefer_floor" else int(place)
            found.append(row[min(max(half, 0), size - 1)])
            continue
        shrink = min(1.0, outputs / size) if op.antialias else 1.0
        taps = [(j, _keys(op, (j - place) * shrink)) for j in range(-9, size + 9)]
        if op.exclude_outside:
            taps = [(j, w) for j, w in taps if 0 <= j < size]
        total = math.fsum(w for _, w in taps)
        found.append(sum(w * row[min(max(j, 0), size - 1)] for j, w in taps) / total)
    return np.array(found)


def resize(op, x):
    for axis, outputs in enumerate(op.sizes, x.ndim - len(op.sizes)):
        x = np.apply_along_axis(lambda row, n=outputs: _resample_row(op, row, n), axis, x)
    return x


def group_norm(op, x, weight=None, bias=None):
    out = np.empty(x.shape)
    size = x.shape[1] // op.groups
    for n, g in np.ndindex(x.shape[0], op.groups):
        part = x[n, g * size : (g + 1) * size]
        out[n, g * size : (g + 1) * size] = (part - part.mean()) / math.sqrt(
            part.var() + op.epsilon
        )
    for c in range(x.shape[1]):
        out[:, c] = out[:, c] * (1 if weight is None else weight[c])
        out[:, c] += 0 if bias is None else bias[c]
    return out


def batch_norm(op, x, weight, bias, mean, variance):
    out = np.empty(x.shape)
    for c in range(x.shape[1]):
        centred = (x[:, c] - mean[c]) / math.sqrt(variance[c] + op.epsilon)
        out[:, c] = centred * weight[c] + bias[c]
    return out


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _gates(op, x, h, operands):
    """Return by gate (its rows of x·W + b, of h·R + b)."""
    first, second = operands[:2]
    biases = operands[2:4] if op.biased else (0, 0)
    rows = [
        np.split(v @ w.T + b, len(op.gates), -1)
        for v, w, b in ((x, first, biases[0]), (h, second, biases[1]))
    ]
    return dict(zip(op.gates, zip(*rows, strict=True), strict=True))


def _begin(op, x, operands):
    if op.begun:
        return list(operands[-len(op.states) :])
    return [np.zeros((x.shape[1], operands[1].shape[1])) for _ in op.states]


def _order(op, x):
    return reversed(range(len(x))) if op.reverse else range(len(x))


def lstm(op, x, *operands):
    h, c = _begin(op, x, operands)
    outputs = {}
    for t in _order(op, x):
        gate = {g: a + b for g, (a, b) in _gates(op, x[t], h, operands).items()}
        c = _sigmoid(gate["f"]) * c + _sigmoid(gate["i"]) * np.tanh(gate["g"])
        h = outputs[t] = _sigmoid(gate["o"]) * np.tanh(c)
    return np.stack([outputs[t] for t in range(len(x))]), h, c


def gru(op, x, *operands):
    (h,) = _begin(op, x, operands)
    outputs = {}
    for t in _order(op, x):
        gate = _gates(op, x[t], h, operands)
        r, z = (_sigmoid(sum(gate[g])) for g in "rz")
        if op.reset_after:
            n = np.tanh(gate["n"][0] + r * gate["n"][1])
        else:
            n = np.tanh(gate["n"][0] + _gates(op, x[t], r * h, operands)["n"][1])
        h = outputs[t] = (1 - z) * n + z * h
    return np.stack([outputs[t] for t in range(len(x))]), h


def grouped_matmul(op, x, weight, ends):
    out = np.zeros((x.shape[0], weight.shape[2]))
    for t in range(int(ends[-1])):
        out[t] = x[t] @ weight[next(e for e, end in enumerate(ends) if t < end)]
    return out


DEFINITIONS = {
    f.__name__: f
    for f in (conv, reduce_window, resize, group_norm, batch_norm, lstm, gru, grouped_matmul)
}

"""Operators as naive loops in float64, written from their definitions."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np

from tests.compiler.ops import layers, moves

SCALAR_FUNCTIONS = {
    "exp": math.exp,
    "erf": math.erf,
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "sqrt": math.sqrt,
    "rsqrt": lambda x: x**-0.5,
    "log": math.log,
    "abs": abs,
    "sign": lambda x: (x > 0) - (x < 0),
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "expm1": math.expm1,
    "log1p": math.log1p,
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "tan": math.tan,
    "atan": math.atan,
    "asin": math.asin,
    "acos": math.acos,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "asinh": math.asinh,
    "acosh": math.acosh,
    "atanh": math.atanh,
    "erfc": math.erfc,
    "isnan": math.isnan,
    "isfinite": math.isfinite,
    "logical_not": lambda x: not x,
    "sin": math.sin,
    "cos": math.cos,
    "reciprocal": lambda x: 1 / x,
    "neg": lambda x: -x,
    "relu": lambda x: x if x > 0 else 0.0,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "cast": lambda x: x,
    "mod": lambda x, y: x % y,
    "rem": math.fmod,
    "floordiv": lambda x, y: x // y,
    "atan2": math.atan2,
    "pow": lambda x, y: x**y,
    "max": max,
    "min": min,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "select": lambda c, x, y: x if c else y,
}


def _gelu(op, x):
    if op.approximate == "none":
        return np.vectorize(lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2)(x)
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x * (1 + np.tanh(inner)) / 2


def _softmax_row(row):
    top = max(row)
    powers = [math.exp(v - top) for v in row]
    return [p / math.fsum(powers) for p in powers]


def _softmax(op, x):
    return np.apply_along_axis(_softmax_row, -1, x)


def _layer_norm(op, x, weight=1.0, bias=0.0):
    mean = np.mean(x, -1, keepdims=True)
    return (x - mean) / np.sqrt(np.var(x, -1, keepdims=True) + op.epsilon) * weight + bias


def _rms_norm(op, x, weight=1.0):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + op.epsilon) * weight


def _linear(op, x, weight, *lines):
    scale, bias = (*lines, 0.0)[:2] if op.scaled else (1.0, (*lines, 0.0)[0])
    return np.einsum("...i,oi->...o", x, np.asarray(weight, float)) * scale + bias


def _rope(op, x, cos, sin):
    out, half = x.copy(), cos.shape[-1]
    for b, h, s, i in np.ndindex(*x.shape[:3], half):
        first, second = (2 * i, 2 * i + 1) if op.interleaved else (i, i + half)
        turned = complex(x[b, h, s, first], x[b, h, s, second]) * complex(
            cos[b, s, i], sin[b, s, i]
        )
        out[b, h, s, first], out[b, h, s, second] = turned.real, turned.imag
    return out


def _attention(op, q, k, v, *optional):
    out = np.zeros((*q.shape[:3], v.shape[3]))
    keys, per_group = k.shape[2], q.shape[1] // k.shape[1]
    mask = np.broadcast_to(optional[0], (*q.shape[:3], keys)) if op.masked else None
    positions = optional[op.masked] if op.positioned else None
    for b, h, i in np.ndindex(*q.shape[:3]):
        last = i + keys - q.shape[2] if op.causal else keys - 1
        last = last if positions is None else int(positions[b, i])
        first = last - op.window + 1 if op.window else 0
        seen = [j for j in range(keys) if first <= j <= last]
        if mask is not None and mask.dtype == bool:
            seen = [j for j in seen if mask[b, h, i, j]]
        if not seen:
            continue
        scores = [float(s) * op.scale for s in k[b, h // per_group, seen] @ q[b, h, i]]
        if op.softcap:
            scores = [op.softcap * math.tanh(s / op.softcap) for s in scores]
        if mask is not None and mask.dtype != bool:
            scores = [s + mask[b, h, i, j] for s, j in zip(scores, seen, strict=True)]
        scores += [optional[-1][h]] if op.sinks else []
        shares = _softmax_row(scores)[: len(seen)]  # the sink has no value
        out[b, h, i] = shares @ v[b, h // per_group, seen]
    return out


def _wide_attention(op, *operands):
    plain = SimpleNamespace(**op.attributes(), window=0, softcap=0.0, sinks=False)
    return _attention(plain, *operands)


REDUCTIONS = {
    "sum": math.fsum,
    "mean": lambda r: math.fsum(r) / len(r),
    "prod": math.prod,
    "max": max,
    "min": min,
    "any": any,
    "all": all,
}


def _reduce(op, x):
    kept = [i for i in range(x.ndim) if i not in op.axes]
    out = np.empty([x.shape[i] for i in kept])
    for place in np.ndindex(*out.shape):
        at = [slice(None)] * x.ndim
        for i, p in zip(kept, place, strict=True):
            at[i] = p
        out[place] = REDUCTIONS[op.kind](list(x[tuple(at)].flat))
    return np.expand_dims(out, op.axes) if op.keepdims else out


def _argreduce(op, x):
    best = max if op.kind == "max" else min
    return np.apply_along_axis(lambda r: list(r).index(best(r)), op.axis, x)


STEPS = {
    "sum": lambda y, x: y + x,
    "prod": lambda y, x: y * x,
    "max": max,
    "min": min,
    "logsumexp": lambda y, x: math.log(math.exp(y) + math.exp(x)),
}


def _cumulative(op, x):
    def run(row):
        row = row[::-1] if op.reverse else row
        done = list(itertools.accumulate(row, STEPS[op.kind]))
        return done[::-1] if op.reverse else done

    return np.apply_along_axis(run, op.axis, x)


def _log_softmax(op, x):
    return np.log(_softmax(op, x))


def _in_order(x, axis, descending, count):
    def order(row):
        return sorted(range(len(row)), key=lambda i: (-row[i] if descending else row[i], i))[:count]

    places = np.apply_along_axis(order, axis, x)
    return np.take_along_axis(x, places, axis), places


def _topk(op, x):
    return _in_order(x, -1, op.largest, op.k)


def _sort(op, x):
    return _in_order(x, op.axis, op.descending, x.shape[op.axis])


def _histogram(op, x):
    counts, width = [0] * op.bins, (op.high - op.low) / op.bins
    for v in x.flat:
        if op.low <= v <= op.high:
            counts[min(int((v - op.low) / width), op.bins - 1)] += 1
    return np.array(counts)


def _dot_general(op, x, y):
    letters = iter("abcdefghijklmnop")
    names = [[None] * x.ndim, [None] * y.ndim]
    shared = []
    for pair, group in ((op.batch, "batch"), (op.contract, "contract")):
        for i, j in zip(*pair, strict=True):
            names[0][i] = names[1][j] = next(letters)
            shared += [names[0][i]] if group == "batch" else []
    rest = []
    for row in names:
        for i, name in enumerate(row):
            if name is None:
                row[i] = next(letters)
                rest.append(row[i])
    left, right = ("".join(row) for row in names)
    exact = (a.astype(float) for a in (x, y))
    return np.einsum(f"{left},{right}->{''.join(shared + rest)}", *exact)


def _scale_at(op, scale, place):
    if op.axis is None:
        return scale.item()
    if not op.block:
        return scale[place[op.axis]]
    return scale[tuple(p // op.block if d == op.axis else p for d, p in enumerate(place))]


def _quantize(op, x, scale, zero=None):
    out = np.empty(x.shape)
    for place in np.ndindex(*x.shape):
        quotient = x[place] / _scale_at(op, scale, place)
        if op.dtype.kind != "float":
            quotient = round(quotient) + (0 if zero is None else int(_scale_at(op, zero, place)))
        low = op.dtype.min if op.low is None else op.low
        high = op.dtype.max if op.high is None else op.high
        out[place] = min(max(quotient, low), high)
    return out


def _dequantize(op, x, scale, zero=None):
    out = np.empty(x.shape)
    for place in np.ndindex(*x.shape):
        shift = 0 if zero is None else int(_scale_at(op, zero, place))
        out[place] = (float(x[place]) - shift) * _scale_at(op, scale, place)
    return out


def _wrapped(function):
    """Return an operator that keeps the low 32 bits of integers."""

    def computed(op, x, y):
        if x.dtype.kind == "f":
            return function(x, y)
        low = np.vectorize(lambda a, b: function(int(a), int(b)) % 2**32, otypes=[float])(x, y)
        return np.where(low >= 2**31, low - 2**32, low)

    return computed


def _divided(op, x, y):
    return np.trunc(x / y) if x.dtype.kind == "i" else x / y


def _bit_by_bit(truth):
    """Return an operator on two's complement integers, and truths, from a truth table."""

    def combined(op, *operands):
        width = 1 if operands[0].dtype == bool else 8 * operands[0].itemsize
        out = np.zeros(operands[0].shape)
        for place in np.ndindex(*out.shape):
            whole = [int(o[place]) for o in operands]
            bits = [truth(*((w >> i) & 1 for w in whole)) for i in range(width)]
            number = sum(bit << i for i, bit in enumerate(bits))
            signed = operands[0].dtype.kind == "i" and bits[-1]
            out[place] = number - (1 << width) if signed else number
        return out

    return combined


def _shift_left(op, x, y):
    width, signed = 8 * x.itemsize, x.dtype.kind == "i"
    number = np.vectorize(lambda a, n: (int(a) << int(n)) % (1 << width), otypes=[float])(x, y)
    return np.where(signed & (number >= 1 << (width - 1)), number - (1 << width), number)


def _shift_right(op, x, y):
    modulus = 1 << 8 * x.itemsize if op.logical else 1
    wrapped = [int(a) % modulus if op.logical else int(a) for a in x.flat]
    shifted = [a >> int(n) for a, n in zip(wrapped, y.flat, strict=True)]
    signed = [a - modulus if op.logical and 2 * a >= modulus else a for a in shifted]
    return np.array(signed).reshape(x.shape)


def _iota(op):
    return np.fromfunction(lambda *at: op.start + op.step * at[op.axis], op.shape)


def _cond(op, which, x):
    return x * [2.0, -3.0, 5.0][min(int(which), len(op.branches) - 1)]


def _doubled(op, x):
    while x < 100:
        x = x * 2
    return x


def _scan(op, rate, carried, rows):
    squares = np.empty(rows.shape)
    for i in reversed(range(len(rows))) if op.reverse else range(len(rows)):
        carried = carried * rate + rows[i]
        squares[i] = carried**2
    return carried, squares


def _kernel_call(op, x, y=None):
    return -x if op.updates else x + dict(op.named)["scale"] * y


ORACLES = {
    "add": _wrapped(lambda x, y: x + y),
    "sub": _wrapped(lambda x, y: x - y),
    "mul": _wrapped(lambda x, y: x * y),
    "call": lambda op, x, y: (2 * x, x + y),
    "cond": _cond,
    "while": _doubled,
    "scan": _scan,
    "kernel_call": _kernel_call,
    **layers.DEFINITIONS,
    **moves.DEFINITIONS,
    "log_softmax": _log_softmax,
    "sort": _sort,
    "histogram": _histogram,
    "reverse": lambda op, x: np.flip(x, op.axes),
    "dot_general": _dot_general,
    "quantize": _quantize,
    "dequantize": _dequantize,
    **dict.fromkeys(  # one rank
        ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "collective_permute"),
        lambda op, x: x,
    ),
    "div": _divided,
    "and": _bit_by_bit(lambda x, y: x and y),
    "or": _bit_by_bit(lambda x, y: x or y),
    "xor": _bit_by_bit(lambda x, y: x != y),
    "bitwise_not": _bit_by_bit(lambda x: 1 - x),
    "shl": _shift_left,
    "shr": _shift_right,
    "gelu": _gelu,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "linear": _linear,
    "matmul": lambda op, x, y: np.einsum("...mk,...kn->...mn", x, y),
    "rope": _rope,
    "attention": _attention,
    "wide_attention": _wide_attention,
    "reshape": lambda op, x: np.array(list(x.flat)).reshape(op.shape),
    "permute": lambda op, x: np.einsum(x, list(range(x.ndim)), list(op.axes)),
    "slice": lambda op, x: x[
        np.ix_(*(range(*b) for b in zip(op.starts, op.stops, op.steps, strict=True)))
    ],
    "concat": lambda op, *xs: np.block([list(xs)] if op.axis == 1 else [[x] for x in xs]),
    "reduce": _reduce,
    "argreduce": _argreduce,
    "cumulative": _cumulative,
    "topk": _topk,
    "iota": _iota,
    "full": lambda op: np.broadcast_to(op.value, op.shape),
    "constant": lambda op: np.array(op.values).reshape(op.shape),
}

"""Operators as naive loops in float64, written from their definitions."""

from __future__ import annotations

import itertools
import math
import struct

import numpy as np

from emuron.compiler.graph import TensorType
from tests.compiler.ops import layers

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
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
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


def _linear(op, x, weight, bias=0.0):
    return np.einsum("...i,oi->...o", x, weight) + bias


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
    for b, h, i in np.ndindex(*q.shape[:3]):
        seen = list(range(keys))
        if op.causal:
            seen = [j for j in seen if j <= i + keys - q.shape[2]]
        if op.positioned:
            seen = [j for j in seen if j <= optional[-1][b, i]]
        if mask is not None and mask.dtype == bool:
            seen = [j for j in seen if mask[b, h, i, j]]
        if not seen:
            continue
        scores = [float(q[b, h, i] @ k[b, h // per_group, j]) * op.scale for j in seen]
        if mask is not None and mask.dtype != bool:
            scores = [s + mask[b, h, i, j] for s, j in zip(scores, seen, strict=True)]
        for p, j in zip(_softmax_row(scores), seen, strict=True):
            out[b, h, i] += p * v[b, h // per_group, j]
    return out


def _scatter(op, x, update, index):
    out = x.copy()
    for b in range(x.shape[0] if op.batched else 1):
        target, source, row = (out[b], update[b], index[b]) if op.batched else (out, update, index)
        axis = op.axis - op.batched
        for i, place in enumerate(row):
            np.moveaxis(target, axis, 0)[place] = np.moveaxis(source, axis, 0)[i]
    return out


def _update_slice(op, x, update, start):
    out = x.copy()
    for place in np.ndindex(*update.shape):
        begin = [
            min(max(int(s), 0), n - w) for s, n, w in zip(start, x.shape, update.shape, strict=True)
        ]
        out[tuple(b + p for b, p in zip(begin, place, strict=True))] = update[place]
    return out


def _inside(start, sizes, windows):
    bounds = zip(start, sizes, windows, strict=True)
    return [min(max(int(first), 0), size - window) for first, size, window in bounds]


def _gather_along(op, x, index):
    out = np.empty(index.shape)
    for place in np.ndindex(*index.shape):
        at = list(place)
        at[op.axis] = index[place]
        out[place] = x[tuple(at)]
    return out


def _take(op, x, index):
    slices = [np.moveaxis(x, op.axis, 0)[i] for i in index.flat]
    stacked = np.stack(slices).reshape(*index.shape, *slices[0].shape)
    return np.moveaxis(stacked, range(index.ndim), range(op.axis, op.axis + index.ndim))


def _broadcast(op, x):
    out = np.empty(op.shape)
    for place in np.ndindex(*op.shape):
        at = [place[d] if size > 1 else 0 for d, size in zip(op.dims, x.shape, strict=True)]
        out[place] = x[tuple(at)]
    return out


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


def _pad(op, x):
    gaps = op.interior or (0,) * x.ndim
    shape = [
        low + n + max(0, n - 1) * gap + high
        for n, low, high, gap in zip(x.shape, op.low, op.high, gaps, strict=True)
    ]
    out = np.empty(shape)
    for place in np.ndindex(*shape):
        at = [
            _source(op, p - low, n, gap)
            for p, low, n, gap in zip(place, op.low, x.shape, gaps, strict=True)
        ]
        out[place] = op.value if None in at else x[tuple(at)]
    return out


def _source(op, at, size, gap):
    """Return which element of a dimension stands at a place counted from the first, or None."""
    if op.mode == "edge":
        return min(max(at, 0), size - 1)
    if op.mode == "wrap":
        return at % size
    if op.mode == "reflect":
        while not 0 <= at < size:
            at = -at if at < 0 else 2 * (size - 1) - at
        return at
    whole, rest = divmod(at, gap + 1)
    return whole if rest == 0 and 0 <= whole < size else None


def _gather_nd(op, x, *indices):
    rest = [d for d in range(x.ndim) if d not in op.dims]
    out = np.empty([*indices[0].shape, *(x.shape[d] for d in rest)])
    for place in np.ndindex(*out.shape):
        at = dict(zip(rest, place[indices[0].ndim :], strict=True))
        at |= {d: i[place[: i.ndim]] for d, i in zip(op.dims, indices, strict=True)}
        out[place] = x[tuple(at[d] for d in range(x.ndim))]
    return out


COMBINED = {"set": lambda a, b: b, "add": lambda a, b: a + b, "mul": lambda a, b: a * b}


def _scatter_nd(op, x, update, *indices):
    out, rest = x.copy(), [d for d in range(x.ndim) if d not in op.dims]
    combine = COMBINED.get(op.combiner) or {"min": min, "max": max}[op.combiner]
    for place in np.ndindex(*update.shape):
        at = dict(zip(rest, place[indices[0].ndim :], strict=True))
        at |= {d: i[place[: i.ndim]] for d, i in zip(op.dims, indices, strict=True)}
        target = tuple(at[d] for d in range(x.ndim))
        if op.drop and any(not 0 <= p < n for p, n in zip(target, x.shape, strict=True)):
            continue
        out[target] = combine(out[target], update[place])
    return out


def _dynamic_slice(op, x, start):
    out = np.empty(op.sizes)
    for place in np.ndindex(*op.sizes):
        begin = [
            min(max(int(s), 0), n - w) for s, n, w in zip(start, x.shape, op.sizes, strict=True)
        ]
        out[place] = x[tuple(b + p for b, p in zip(begin, place, strict=True))]
    return out


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


def _rng_bits(op, key, counts=None):
    if op.algorithm == "philox":
        words = [w for n in range(-(-math.prod(op.shape) // 4)) for w in _philox(key, n)]
        return np.array(words[: math.prod(op.shape)]).reshape(op.shape)
    pairs = (
        counts.reshape(-1, 2)
        if counts is not None
        else [(0, n) for n in range(math.prod(op.shape))]
    )
    made = np.array([_threefry(key, *pair) for pair in pairs])
    if op.words or counts is not None:
        return made.reshape(*op.shape, 2)
    return ((made[:, 0] ^ made[:, 1]) % (1 << 8 * op.dtype.itemsize)).reshape(op.shape)


def _threefry(key, x, y):
    """Threefry-2x32-20 on Python's integers."""
    mask, k = 0xFFFFFFFF, [int(key[0]), int(key[1])]
    k.append(k[0] ^ k[1] ^ 0x1BD11BDA)
    x, y = (int(x) + k[0]) & mask, (int(y) + k[1]) & mask
    turns = [13, 15, 26, 6, 17, 29, 16, 24]
    for number in range(20):
        x = (x + y) & mask
        turn = turns[number % 8]
        y = ((y << turn | y >> (32 - turn)) & mask) ^ x
        if number % 4 == 3:
            step = number // 4 + 1
            x, y = (x + k[step % 3]) & mask, (y + k[(step + 1) % 3] + step) & mask
    return x, y


def _philox(key, number):
    """Philox-4x32-10 on Python's integers."""
    c, k = [number, 0, 0, 0], [int(key[0]), int(key[1])]
    for _ in range(10):
        one, two = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(two >> 32) ^ c[1] ^ k[0], two % 2**32, (one >> 32) ^ c[3] ^ k[1], one % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


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


def _bitcast(op, x):
    raw = np.array([struct.pack("<f", v) if v.dtype.kind == "f" else v.tobytes() for v in x.flat])
    joined = b"".join(r.ljust(x.itemsize if x.dtype.kind in "iu" else 4, b"\0") for r in raw)
    code = {"int32": "i", "uint8": "B"}[str(op.dtype)]
    size = struct.calcsize(code)
    found = [struct.unpack_from("<" + code, joined, at)[0] for at in range(0, len(joined), size)]
    return np.array(found).reshape(op.infer(TensorType(x.shape, _named(x)))[0].shape)


def _named(x):
    return "float32" if x.dtype.kind == "f" else str(x.dtype)


def _iota(op):
    return np.fromfunction(lambda *at: op.start + op.step * at[op.axis], op.shape)


ORACLES = {
    **layers.DEFINITIONS,
    "log_softmax": _log_softmax,
    "sort": _sort,
    "histogram": _histogram,
    "pad": _pad,
    "reverse": lambda op, x: np.flip(x, op.axes),
    "gather_nd": _gather_nd,
    "scatter_nd": _scatter_nd,
    "dynamic_slice": _dynamic_slice,
    "dot_general": _dot_general,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "rng_bits": _rng_bits,
    **dict.fromkeys(("all_reduce", "all_gather", "reduce_scatter"), lambda op, x: x),  # one rank
    "div": _divided,
    "and": _bit_by_bit(lambda x, y: x and y),
    "or": _bit_by_bit(lambda x, y: x or y),
    "xor": _bit_by_bit(lambda x, y: x != y),
    "bitwise_not": _bit_by_bit(lambda x: 1 - x),
    "shl": _shift_left,
    "shr": _shift_right,
    "bitcast": _bitcast,
    "gelu": _gelu,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "linear": _linear,
    "matmul": lambda op, x, y: np.einsum("...mk,...kn->...mn", x, y),
    "rope": _rope,
    "attention": _attention,
    "scatter": _scatter,
    "dynamic_update_slice": _update_slice,
    "gather_along": _gather_along,
    "take": _take,
    "broadcast": _broadcast,
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

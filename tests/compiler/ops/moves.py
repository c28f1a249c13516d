"""Operators that move elements, or make bits, as naive loops written from their definitions."""

from __future__ import annotations

import math
import struct

import numpy as np

from emuron.compiler.graph import TensorType


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


def _bitcast(op, x):
    raw = np.array([struct.pack("<f", v) if v.dtype.kind == "f" else v.tobytes() for v in x.flat])
    joined = b"".join(r.ljust(x.itemsize if x.dtype.kind in "iu" else 4, b"\0") for r in raw)
    code = {"int32": "i", "uint8": "B"}[str(op.dtype)]
    size = struct.calcsize(code)
    found = [struct.unpack_from("<" + code, joined, at)[0] for at in range(0, len(joined), size)]
    return np.array(found).reshape(op.infer(TensorType(x.shape, _named(x)))[0].shape)


def _named(x):
    return "float32" if x.dtype.kind == "f" else str(x.dtype)


DEFINITIONS = {
    "scatter": _scatter,
    "dynamic_update_slice": _update_slice,
    "gather_along": _gather_along,
    "take": _take,
    "broadcast": _broadcast,
    "pad": _pad,
    "gather_nd": _gather_nd,
    "scatter_nd": _scatter_nd,
    "dynamic_slice": _dynamic_slice,
    "rng_bits": _rng_bits,
    "bitcast": _bitcast,
}

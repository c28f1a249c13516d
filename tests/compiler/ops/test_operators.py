"""Every operator's examples against naive float64 loops written from the definitions."""

from __future__ import annotations

import itertools
import math
import struct

import numpy as np
import pytest

from emuron.compiler.graph import TensorType
from emuron.compiler.ops import OPS, Example
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
        out[tuple(int(s) + p for s, p in zip(start, place, strict=True))] = update[place]
    return out


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


def _reduce(op, x):
    function = {"sum": math.fsum, "max": max, "min": min}.get(
        op.kind, lambda r: math.fsum(r) / len(r)
    )
    kept = [i for i in range(x.ndim) if i not in op.axes]
    out = np.empty([x.shape[i] for i in kept])
    for place in np.ndindex(*out.shape):
        at = [slice(None)] * x.ndim
        for i, p in zip(kept, place, strict=True):
            at[i] = p
        out[place] = function(list(x[tuple(at)].flat))
    return np.expand_dims(out, op.axes) if op.keepdims else out


def _argreduce(op, x):
    best = max if op.kind == "max" else min
    return np.apply_along_axis(lambda r: list(r).index(best(r)), op.axis, x)


def _cumulative(op, x):
    return np.apply_along_axis(lambda r: list(itertools.accumulate(r)), op.axis, x)


def _topk(op, x):
    def order(row):
        return sorted(range(len(row)), key=lambda i: (-row[i], i))[: op.k]

    places = np.apply_along_axis(order, -1, x)
    return np.take_along_axis(x, places, -1), places


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

CASES = [
    pytest.param(example, id=f"{name}-{i}")
    for name in sorted(OPS)
    for i, example in enumerate(OPS[name].examples())
]


def _expected(example: Example, arrays: list[np.ndarray]) -> list[np.ndarray]:
    exact = [a if a.dtype == bool or a.dtype.kind in "iu" else a.astype(float) for a in arrays]
    name = example.op.name
    if name in SCALAR_FUNCTIONS:
        found = np.vectorize(SCALAR_FUNCTIONS[name], otypes=[float])(*exact)
    else:
        found = ORACLES[name](example.op, *exact)
    return list(found) if isinstance(found, tuple) else [np.asarray(found)]


def _assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """One rounding to a 16-bit float, or a few float32 ones along a sum; integers exactly."""
    if found.dtype.kind in "biu":
        np.testing.assert_array_equal(found, np.rint(expected))
        return
    unit = 2.0**-8 if found.dtype.itemsize == 2 else 2.0**-18
    scale = max(float(np.abs(expected).max(initial=0)), 1e-3)
    np.testing.assert_allclose(found.astype(float), expected, rtol=unit, atol=unit * scale)


def test_every_operator_has_examples_and_an_oracle():
    assert not [name for name, cls in OPS.items() if not cls.examples()]
    assert set(OPS) == set(SCALAR_FUNCTIONS) | set(ORACLES)


@pytest.mark.parametrize("example", CASES)
def test_operator_equals_its_definition(example, draw, run_op):
    arrays = draw(example)
    outputs = run_op(example.op, example.types, arrays)
    for found, expected, type in zip(
        outputs, _expected(example, arrays), example.op.infer(*example.types), strict=True
    ):
        assert found.shape == type.shape
        assert found.dtype == type.dtype.np
        _assert_close(found, expected)


@pytest.mark.torch
@pytest.mark.parametrize("example", CASES)
def test_operator_on_torch_equals_its_definition(example, draw, run_op):
    pytest.importorskip("torch")
    arrays = draw(example)
    outputs = run_op(example.op, example.types, arrays, "torch")
    for found, expected in zip(outputs, _expected(example, arrays), strict=True):
        _assert_close(found, expected)

"""TensorFlow operators that move elements and tell shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from emuron.compiler.frontends.tensorflow_call import Call, Operand, tensorflow
from emuron.compiler.graph import Value
from emuron.errors import UnsupportedOpError, UsageError

_MOST_RANGE = 1 << 24


@tensorflow(
    "CheckNumerics",
    "EnsureShape",
    "Identity",
    "PlaceholderWithDefault",
    "PreventGradient",
    "Snapshot",
    "StopGradient",
)
def _identity(c: Call, x: Operand) -> Operand:
    return x


@tensorflow("IdentityN")
def _identities(c: Call, *operands: Operand) -> list[Operand]:
    return list(operands)


@tensorflow("Const")
def _const(c: Call) -> np.ndarray:
    return c.tensor("value")


# Shapes


def _integers(c: Call, sizes: Sequence[int] | int, attribute: str = "out_type") -> np.ndarray:
    to = c.np_dtype(attribute) if attribute in c.attributes else np.dtype(np.int32)
    return np.asarray(sizes, to)


def _shape_of(c: Call, x: Operand) -> tuple[int, ...]:
    return x.shape if isinstance(x, np.ndarray) else c.value(x).shape


@tensorflow("Shape")
def _shape(c: Call, x: Operand) -> np.ndarray:
    return _integers(c, _shape_of(c, x))


@tensorflow("Size")
def _size(c: Call, x: Operand) -> np.ndarray:
    return _integers(c, math.prod(_shape_of(c, x)))


@tensorflow("Rank")
def _rank(c: Call, x: Operand) -> np.ndarray:
    return np.asarray(len(_shape_of(c, x)), np.int32)


@tensorflow("InvertPermutation")
def _invert_permutation(c: Call, x: Operand) -> np.ndarray:
    return np.argsort(c.array(x, "permutation")).astype(np.int32)


@tensorflow("Fill")
def _fill(c: Call, dims: Operand, value: Operand) -> Value:
    return c.b.broadcast(c.value(value), c.integers(dims, "shape"))


@tensorflow("Range")
def _range(c: Call, start: Operand, limit: Operand, delta: Operand) -> np.ndarray:
    bounds = [c.array(x, "range") for x in (start, limit, delta)]
    first, last, step = (x.item() for x in bounds)
    if step == 0 or abs((last - first) / step) > _MOST_RANGE:
        raise UnsupportedOpError(f"a range from {first} to {last} by {step} is not built")
    return np.arange(first, last, step, dtype=bounds[0].dtype)


@tensorflow("LinSpace")
def _lin_space(c: Call, start: Operand, stop: Operand, count: Operand) -> np.ndarray:
    first, last = (c.array(x, "range").item() for x in (start, stop))
    number = c.integer(count, "count")
    if number > _MOST_RANGE:
        raise UnsupportedOpError(f"a range of {number} numbers is not built")
    return np.linspace(first, last, number, dtype=np.float32)


@tensorflow("Reshape")
def _reshape(c: Call, x: Operand, shape: Operand) -> Value | np.ndarray:
    sizes = c.integers(shape, "shape")
    if isinstance(x, np.ndarray):
        return x.reshape(sizes)
    return c.b.reshape(c.value(x), *sizes)


@tensorflow("ExpandDims")
def _expand_dims(c: Call, x: Operand, axis: Operand) -> Value | np.ndarray:
    shape = list(_shape_of(c, x))
    at = c.axis(axis, len(shape) + 1)
    shape.insert(at, 1)
    return x.reshape(shape) if isinstance(x, np.ndarray) else c.b.reshape(c.value(x), *shape)


@tensorflow("Squeeze")
def _squeeze(c: Call, x: Operand) -> Value:
    value = c.value(x)
    named = c.numbers("squeeze_dims")
    axes = [c.axis_of(a, value.type.rank) for a in named]
    axes = axes or [i for i, n in enumerate(value.shape) if n == 1]
    kept = [n for i, n in enumerate(value.shape) if i not in axes]
    return c.b.reshape(value, *kept)


@tensorflow("BroadcastTo")
def _broadcast_to(c: Call, x: Operand, shape: Operand) -> Value:
    return c.b.broadcast(c.value(x), c.integers(shape, "shape"))


@tensorflow("Tile")
def _tile(c: Call, x: Operand, multiples: Operand) -> Value:
    value, times = c.value(x), c.integers(multiples, "multiples")
    opened = [n for size in value.shape for n in (1, size)]
    wide = [n for size, many in zip(value.shape, times, strict=True) for n in (many, size)]
    final = [size * many for size, many in zip(value.shape, times, strict=True)]
    return c.b.reshape(c.b.broadcast(c.b.reshape(value, *opened), wide), *final)


# Order


@tensorflow("Transpose")
def _transpose(c: Call, x: Operand, axes: Operand) -> Value:
    return c.b.permute(c.value(x), *c.integers(axes, "order of dimensions"))


@tensorflow("ReverseV2")
def _reverse(c: Call, x: Operand, axes: Operand) -> Value:
    value = c.value(x)
    at = sorted(c.axis_of(a, value.type.rank) for a in c.integers(axes, "axes"))
    return c.b.reverse(value, at)


@tensorflow("Roll")
def _roll(c: Call, x: Operand, shift: Operand, axis: Operand) -> Value:
    value = c.value(x)
    for by, named in zip(c.integers(shift, "shift"), c.integers(axis, "axis"), strict=True):
        at = c.axis_of(named, value.type.rank)
        size = value.shape[at]
        if cut := -by % max(size, 1):
            parts = [c.b.slice(value, at, cut, size), c.b.slice(value, at, 0, cut)]
            value = c.b.concat(parts, at)
    return value


# Parts


@tensorflow("ConcatV2")
def _concat_v2(c: Call, *operands: Operand) -> Value:
    return _concat(c, operands[-1], *operands[:-1])


@tensorflow("Concat")
def _concat(c: Call, axis: Operand, *parts: Operand) -> Value:
    values = c.values(*parts)
    return c.b.concat(values, c.axis(axis, values[0].type.rank))


@tensorflow("Pack")
def _pack(c: Call, *parts: Operand) -> Value | np.ndarray:
    at = int(c.number("axis"))
    if all(isinstance(p, np.ndarray) for p in parts):
        return np.stack(parts, at)  # type: ignore[arg-type]
    values = c.values(*parts)
    at = c.axis_of(at, values[0].type.rank + 1)
    opened = [c.b.reshape(v, *v.shape[:at], 1, *v.shape[at:]) for v in values]
    return c.b.concat(opened, at)


@tensorflow("Unpack")
def _unpack(c: Call, x: Operand) -> list[Value]:
    value = c.value(x)
    at = c.axis_of(int(c.number("axis")), value.type.rank)
    left = [n for i, n in enumerate(value.shape) if i != at]
    return [c.b.reshape(c.b.slice(value, at, i, i + 1), *left) for i in range(value.shape[at])]


@tensorflow("Split")
def _split(c: Call, axis: Operand, x: Operand) -> list[Value]:
    value, count = c.value(x), int(c.number("num_split", 1))
    at = c.axis(axis, value.type.rank)
    if count < 1 or value.shape[at] % count:
        raise UsageError(f"{value} does not split into {count} equal parts")
    return _parts(c, value, at, [value.shape[at] // count] * count)


@tensorflow("SplitV")
def _split_v(c: Call, x: Operand, sizes: Operand, axis: Operand) -> list[Value]:
    value, lengths = c.value(x), c.integers(sizes, "sizes")
    at = c.axis(axis, value.type.rank)
    rest = value.shape[at] - sum(n for n in lengths if n >= 0)
    return _parts(c, value, at, [rest if n < 0 else n for n in lengths])


def _parts(c: Call, x: Value, axis: int, lengths: Sequence[int]) -> list[Value]:
    ends = np.cumsum(lengths).tolist()
    bounds = zip([0, *ends[:-1]], ends, strict=True)
    return [c.b.slice(x, axis, start, stop) for start, stop in bounds]


@tensorflow("Slice")
def _slice(c: Call, x: Operand, begin: Operand, size: Operand) -> Value:
    value, starts = c.value(x), c.integers(begin, "begin")
    for axis, (start, length) in enumerate(zip(starts, c.integers(size, "size"), strict=True)):
        stop = value.shape[axis] if length < 0 else start + length
        if (start, stop) != (0, value.shape[axis]):
            value = c.b.slice(value, axis, start, stop)
    return value


@tensorflow("StridedSlice")
def _strided_slice(
    c: Call, x: Operand, begin: Operand, end: Operand, strides: Operand
) -> Value | np.ndarray:
    bounds = [c.integers(v, n) for v, n in ((begin, "begin"), (end, "end"), (strides, "strides"))]
    places = _places(c, list(zip(*bounds, strict=True)))
    if isinstance(x, np.ndarray):
        return np.asarray(x[tuple(places)])  # type: ignore[arg-type]
    value, axis = c.value(x), 0
    explicit = sum(isinstance(p, int | slice) for p in places)
    for place in places:
        if place is Ellipsis:
            axis += value.type.rank - axis - (explicit - _before(places, place))
        elif place is None:
            value = c.b.reshape(value, *value.shape[:axis], 1, *value.shape[axis:])
            axis += 1
        elif isinstance(place, int):
            at = c.axis_of(place, value.shape[axis])
            part = c.b.slice(value, axis, at, at + 1)
            value = c.b.reshape(part, *value.shape[:axis], *value.shape[axis + 1 :])
        else:
            value = _range_of(c, value, axis, place)  # type: ignore[arg-type]
            axis += 1
    return value


def _before(places: Sequence[object], place: object) -> int:
    """Return how many places of an index use up a dimension before `place`."""
    return sum(isinstance(p, int | slice) for p in places[: list(places).index(place)])


def _places(c: Call, bounds: list[tuple[int, int, int]]) -> list[object]:
    """Return the index in NumPy's form that the masks of a strided slice mean."""
    masks = {n: int(c.number(f"{n}_mask")) for n in ("ellipsis", "new_axis", "shrink_axis")}
    open_begin, open_end = int(c.number("begin_mask")), int(c.number("end_mask"))
    places: list[object] = []
    for i, (start, stop, step) in enumerate(bounds):
        bit = 1 << i
        if masks["ellipsis"] & bit:
            places.append(Ellipsis)
        elif masks["new_axis"] & bit:
            places.append(None)
        elif masks["shrink_axis"] & bit:
            places.append(start)
        else:
            first = None if open_begin & bit else start
            places.append(slice(first, None if open_end & bit else stop, step))
    return places


def _range_of(c: Call, value: Value, axis: int, place: slice) -> Value:
    start, stop, step = place.indices(value.shape[axis])
    if step > 0:
        return c.b.slice(value, axis, start, max(start, stop), step)
    count = len(range(start, stop, step))
    first = start + (count - 1) * step
    kept = c.b.slice(value, axis, max(first, 0), start + 1 if count else max(first, 0), -step)
    return c.b.reverse(kept, (axis,))


# Padding


@tensorflow("Pad", "PadV2")
def _pad(c: Call, x: Operand, paddings: Operand, fill: Operand | None = None) -> Value:
    number = 0.0 if fill is None else float(c.array(fill, "padding value").item())
    return _padded(c, x, paddings, "constant", number)


@tensorflow("MirrorPad")
def _mirror_pad(c: Call, x: Operand, paddings: Operand) -> Value:
    if c.text("mode") == "REFLECT":
        return _padded(c, x, paddings, "reflect", 0.0)
    # The edge itself is repeated: each side is a part of x, turned around.
    value = c.value(x)
    for axis, (low, high) in enumerate(c.array(paddings, "paddings").reshape(-1, 2).tolist()):
        size = value.shape[axis]
        parts = [value]
        if low:
            parts.insert(0, c.b.reverse(c.b.slice(value, axis, 0, low), (axis,)))
        if high:
            parts.append(c.b.reverse(c.b.slice(value, axis, size - high, size), (axis,)))
        value = c.b.concat(parts, axis) if len(parts) > 1 else value
    return value


def _padded(c: Call, x: Operand, paddings: Operand, mode: str, fill: float) -> Value:
    pairs = c.array(paddings, "paddings").reshape(-1, 2).tolist()
    low, high = ([int(p[i]) for p in pairs] for i in (0, 1))
    return c.b.pad(c.value(x), low, high, mode=mode, value=fill)

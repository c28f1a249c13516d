"""The operators that JAX's primitives and StableHLO share, in their general XLA form.

Source: openxla.org, "Operation semantics" and the StableHLO specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emuron.compiler.frontends import recipes
from emuron.compiler.frontends.known_values import KnownValues
from emuron.compiler.graph import Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType, bool_, int32

Sizes = Sequence[int]
Pairs = Sequence[tuple[int, int]]


def dot_general(
    b: GraphBuilder,
    x: Value,
    y: Value,
    contract: tuple[Sizes, Sizes],
    batch: tuple[Sizes, Sizes],
    to: DType,
) -> Value:
    """Return DotGeneral in the dtype `to`; operands widen to it, as their products do."""
    common = x.type.dtype if x.type.dtype.itemsize >= y.type.dtype.itemsize else y.type.dtype
    if to.kind == "float" and to.itemsize > common.itemsize:
        common = to
    x, y = b.cast(x, common), b.cast(y, common)
    summed, shared = ((tuple(p[0]), tuple(p[1])) for p in (contract, batch))
    return b.cast(b.dot_general(x, y, summed, shared), to)


def broadcast_in_dim(b: GraphBuilder, x: Value, shape: Sizes, dims: Sizes) -> Value:
    """Return x stretched to `shape`, its dimension i at dims[i], in any order."""
    order = sorted(range(len(dims)), key=lambda i: dims[i])
    if order != list(range(len(dims))):
        x = b.permute(x, *order)
    found = [int(dims[i]) for i in order]
    sizes = dict(zip(found, x.shape, strict=True))
    if all(sizes.get(i, 1) == n for i, n in enumerate(shape)):
        return b.reshape(x, *shape)
    return b.broadcast(x, shape, found)


def pad(b: GraphBuilder, x: Value, fill: float, config: Sequence[Sizes]) -> Value:
    """Return XLA's Pad: (low, high, interior) of each dimension, negative ones crop."""
    low, high, interior = ([int(c[i]) for c in config] for i in range(3))
    return b.pad(x, low, high, interior, value=fill)


def clamp(b: GraphBuilder, low: Value, x: Value, high: Value) -> Value:
    """Return x between two bounds, which may be scalars."""
    return b.minimum(b.maximum(x, b.broadcast(low, x.shape)), b.broadcast(high, x.shape))


# Windows


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """Where the batch, the features and the spatial dimensions lie: of x, kernel and result."""

    lhs: tuple[int, ...]
    rhs: tuple[int, ...]
    out: tuple[int, ...]


def convolution(
    b: GraphBuilder,
    x: Value,
    kernel: Value,
    spec: ConvSpec,
    *,
    stride: Sizes,
    padding: Pairs,
    lhs_dilation: Sizes,
    rhs_dilation: Sizes,
    groups: int,
) -> Value:
    """Return XLA's convolution; each spec is (batch or outputs, features, *spatial)."""
    made = b.conv(
        b.permute(x, *spec.lhs),
        b.permute(kernel, *spec.rhs),
        stride=tuple(stride),
        padding=[(int(low), int(high)) for low, high in padding],
        dilation=tuple(rhs_dilation),
        lhs_dilation=tuple(lhs_dilation),
        groups=groups,
    )
    back = [spec.out.index(i) for i in range(made.type.rank)]
    return b.permute(made, *back)


def reduce_window(
    b: GraphBuilder,
    kind: str,
    x: Value,
    window: Sizes,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
) -> Value:
    """Return a reduction over windows of all dimensions; those of size 1 come first inside."""
    trivial = [
        i for i in range(x.type.rank) if window[i] == stride[i] == 1 and tuple(padding[i]) == (0, 0)
    ]
    windowed = [i for i in range(x.type.rank) if i not in trivial]
    if not windowed:
        return x
    order = [*trivial, *windowed]
    made = b.reduce_window(
        kind,
        b.permute(x, *order),
        [int(window[i]) for i in windowed],
        stride=[int(stride[i]) for i in windowed],
        padding=[(int(padding[i][0]), int(padding[i][1])) for i in windowed],
        dilation=[int(dilation[i]) for i in windowed],
    )
    return b.permute(made, *(order.index(i) for i in range(x.type.rank)))


# Places given by data


@dataclass(frozen=True, slots=True)
class GatherSpec:
    """The dimension numbers of a Gather, or of the Scatter that is its inverse."""

    offset: tuple[int, ...]
    collapsed: tuple[int, ...]
    start_map: tuple[int, ...]
    batching: tuple[int, ...] = ()
    index_batching: tuple[int, ...] = ()
    index_dim: int = -1


def gather(
    b: GraphBuilder, x: Value, index: Value, spec: GatherSpec, sizes: Sizes, *, clamped: bool
) -> Value:
    """Return XLA's Gather as a gather of single places of the indexed dimensions.

    With `clamped` starts are moved so that windows lie inside; else a place outside is an error.
    """
    batch, starts = _starts(b, index, spec)
    indexed = sorted({*spec.start_map, *spec.batching, *spec.collapsed})
    windows = [d for d in indexed if d not in spec.collapsed and d not in spec.batching]
    for dim in range(x.type.rank):
        if dim not in indexed and sizes[dim] != x.shape[dim]:
            x = b.slice(x, dim, 0, sizes[dim])
    places = []
    for dim in indexed:
        start = starts.get(dim)
        if start is None:
            start = b.full(0, batch, index.type.dtype)
        elif clamped:
            start = recipes.clamp(b, start, 0, x.shape[dim] - sizes[dim])
        places.append(_windowed(b, start, dim, windows, sizes))
    made = b.gather_nd(x, places, indexed) if len(indexed) > 1 else _take(b, x, places[0], indexed)
    rest = [d for d in range(x.type.rank) if d not in indexed]
    return _laid_out(b, made, len(batch), [*windows, *rest], spec)


def _starts(
    b: GraphBuilder, index: Value, spec: GatherSpec
) -> tuple[tuple[int, ...], dict[int, Value]]:
    """Return the batch dimensions, and for each indexed dimension of x its starts."""
    axis = spec.index_dim % index.type.rank if spec.index_dim < 0 else spec.index_dim
    batch = tuple(n for i, n in enumerate(index.shape) if i != axis)
    starts: dict[int, Value] = {}
    for place, dim in enumerate(spec.start_map):
        whole = axis == index.type.rank or index.shape[axis] == 1
        part = index if whole else b.slice(index, axis, place, place + 1)
        starts[dim] = b.reshape(part, *batch)
    for dim, at in zip(spec.batching, spec.index_batching, strict=True):
        starts[dim] = b.iota(batch, at - (at > axis), index.type.dtype)
    return batch, starts


def _windowed(b: GraphBuilder, start: Value, dim: int, windows: Sizes, sizes: Sizes) -> Value:
    """Return the places of a dimension for every element of the windows: batch, then windows."""
    shape = (*start.shape, *(sizes[w] for w in windows))
    found = b.broadcast(start, shape, tuple(range(start.type.rank))) if windows else start
    if dim in windows and sizes[dim] > 1:
        count = b.iota(shape, start.type.rank + windows.index(dim), start.type.dtype)
        found = b.add(found, count)
    return found


def _take(b: GraphBuilder, x: Value, place: Value, indexed: Sizes) -> Value:
    """Return a gather along one dimension, the places first."""
    made = b.take(x, place, indexed[0])
    rank = place.type.rank
    order = [*range(indexed[0], indexed[0] + rank), *range(indexed[0])]
    return b.permute(made, *order, *range(indexed[0] + rank, made.type.rank))


def _laid_out(b: GraphBuilder, made: Value, batch: int, dims: list[int], spec: GatherSpec) -> Value:
    """Return [batch, windows, rest] with the offset dimensions where XLA has them."""
    inner = iter(sorted(range(len(dims)), key=lambda i: dims[i]))
    outer = iter(range(batch))
    order = [
        batch + next(inner) if i in spec.offset else next(outer) for i in range(made.type.rank)
    ]
    return b.permute(made, *order)


def scatter(
    b: GraphBuilder, x: Value, index: Value, update: Value, spec: GatherSpec, combiner: str
) -> Value:
    """Return XLA's Scatter whose windows span whole dimensions or single places.

    `spec` is that of the Gather which reads what is written. Places outside are left out.
    """
    batch, starts = _starts(b, index, spec)
    indexed = sorted({*spec.start_map, *spec.batching, *spec.collapsed})
    rest = [d for d in range(x.type.rank) if d not in spec.collapsed and d not in spec.batching]
    sizes = {d: update.shape[o] for d, o in zip(rest, sorted(spec.offset), strict=True)}
    windows = [d for d in rest if d in indexed]
    for dim in rest:
        if dim not in indexed and sizes[dim] != x.shape[dim]:
            raise UnsupportedOpError(f"a scatter of a part of dimension {dim}")
    outer = [i for i in range(update.type.rank) if i not in spec.offset]
    inner = sorted(spec.offset)
    turned = b.permute(
        update,
        *outer,
        *(inner[rest.index(d)] for d in windows),
        *(inner[rest.index(d)] for d in rest if d not in windows),
    )
    spread = [sizes.get(d, 1) for d in range(x.type.rank)]
    places = [
        _windowed(b, starts.get(d) or b.full(0, batch, index.type.dtype), d, windows, spread)
        for d in indexed
    ]
    return b.scatter_nd(x, turned, places, indexed, combiner, drop=True)


def dynamic_slice(
    b: GraphBuilder, known: KnownValues, x: Value, starts: Sequence[Value], sizes: Sizes
) -> Value:
    """Return a window whose start is data; where it follows from constants, a slice."""
    found = [known.array(s) for s in starts]
    if all(f is not None for f in found):
        for dim, (start, size) in enumerate(zip(found, sizes, strict=True)):
            assert start is not None
            first = min(max(int(start), 0), x.shape[dim] - size)
            if size != x.shape[dim]:
                x = b.slice(x, dim, first, first + size)
        return x
    return b.dynamic_slice(x, _vector(b, starts), [int(s) for s in sizes])


def dynamic_update_slice(
    b: GraphBuilder, x: Value, update: Value, starts: Sequence[Value]
) -> Value:
    """Return x with a window replaced whose start is data."""
    return b.dynamic_update_slice(x, update, _vector(b, starts))


def _vector(b: GraphBuilder, numbers: Sequence[Value]) -> Value:
    ones = [b.reshape(b.cast(n, int32), 1) for n in numbers]
    return b.concat(ones, 0) if len(ones) > 1 else ones[0]


# Logic


def logical(b: GraphBuilder, name: str, x: Value, y: Value) -> Value:
    """Return and, or, xor: of truth values as min, max and ne, of integers bit by bit."""
    if x.type.dtype == bool_:
        name = {"and": "min", "or": "max", "xor": "ne"}[name]
    return b.binary(recipes.make(name), x, y)

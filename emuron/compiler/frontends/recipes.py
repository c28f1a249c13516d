"""What several frameworks have as one operator and the graph writes with a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emuron.compiler.graph import Op, Value
from emuron.compiler.ops import GraphBuilder, find_op
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType, bool_, float32, int32

Pairs = tuple[tuple[int, int], ...]


def convert(b: GraphBuilder, x: Value, to: DType) -> Value:
    """Return x in another dtype: fractions are cut off, not rounded, and only 0 is false."""
    found = x.type.dtype
    if to == bool_ and found != bool_:
        return b.compare("ne", x, 0)
    if found.kind == "float" and to.kind in ("int", "uint"):
        down, up = b.apply("floor", x), b.apply("ceil", x)
        x = b.select(b.compare("lt", x, 0), up, down)
    return b.cast(x, to)


def swap(b: GraphBuilder, x: Value, first: int = -1, second: int = -2) -> Value:
    """Return x with two dimensions exchanged."""
    axes = list(range(x.type.rank))
    axes[first], axes[second] = axes[second], axes[first]
    return x if axes == sorted(axes) else b.permute(x, *axes)


def matmul(b: GraphBuilder, x: Value, y: Value) -> Value:
    """Return x @ y as NumPy has it for two dimensions and more; leading ones broadcast."""
    if x.type.rank < 2 or y.type.rank < 2:
        raise UnsupportedOpError(f"a product of matrices takes two dimensions, found {x} and {y}")
    if y.type.rank == 2:
        rows = b.reshape(x, -1, x.shape[-1])
        return b.reshape(b.matmul(rows, y), *x.shape[:-1], y.shape[-1])
    rank = max(x.type.rank, y.type.rank)
    lead = [
        right if left == 1 else left
        for left, right in zip(
            (1,) * (rank - x.type.rank) + x.shape[:-2],
            (1,) * (rank - y.type.rank) + y.shape[:-2],
            strict=True,
        )
    ]
    x, y = (b.broadcast(v, (*lead, *v.shape[-2:])) for v in (x, y))
    return b.matmul(x, y)


def softmax(b: GraphBuilder, x: Value, axis: int = -1) -> Value:
    """Return the softmax along any dimension."""
    return swap(b, b.softmax(swap(b, x, axis, -1)), axis, -1)


def log_softmax(b: GraphBuilder, x: Value, axis: int = -1) -> Value:
    """Return the logarithm of the softmax, without computing the softmax."""
    axis %= x.type.rank
    shifted = b.sub(x, b.reduce("max", x, (axis,), keepdims=True))
    total = b.reduce("sum", b.apply("exp", shifted), (axis,), keepdims=True)
    return b.sub(shifted, b.apply("log", total))


def clamp(b: GraphBuilder, x: Value, low: float | None, high: float | None) -> Value:
    """Return x held between two numbers."""
    if low is not None:
        x = b.maximum(x, low)
    return x if high is None else b.binary(find_op("min")(), x, high)


def reduce(
    b: GraphBuilder, kind: str, x: Value, axes: Sequence[int], *, keepdims: bool = False
) -> Value:
    """Return a reduction over `axes` (counted from 0, in any order); over none it is x."""
    axes = sorted(set(axes))
    return b.reduce(kind, x, axes, keepdims=keepdims) if axes else x


def channels_first(b: GraphBuilder, x: Value) -> Value:
    """Return [N, *spatial, C] as [N, C, *spatial]."""
    rank = x.type.rank
    return b.permute(x, 0, rank - 1, *range(1, rank - 1))


def channels_last(b: GraphBuilder, x: Value) -> Value:
    """Return [N, C, *spatial] as [N, *spatial, C]."""
    return b.permute(x, 0, *range(2, x.type.rank), 1)


def same_padding(
    sizes: Sequence[int], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pairs:
    """Return TensorFlow's SAME: as many outputs as strides in the input, the odd one at the end."""
    pairs = []
    for size, length, step, spread in zip(sizes, window, stride, dilation, strict=True):
        reach = (length - 1) * spread + 1
        total = max(0, (-(-size // step) - 1) * step + reach - size)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def one_hot(b: GraphBuilder, index: Value, depth: int, axis: int, to: DType = float32) -> Value:
    """Return 1 at each index along a new dimension `axis` of `depth`, else 0."""
    shape = (*index.shape[:axis], depth, *index.shape[axis:])
    places = b.iota(shape, axis, index.type.dtype)
    kept = [i for i in range(len(shape)) if i != axis]
    return b.cast(b.compare("eq", places, b.broadcast(index, shape, kept)), to)


def make(name: str, *arguments: Any, **options: Any) -> Op:
    """Return the operator called `name` with these attributes."""
    found: Any = find_op(name)
    made: Op = found(*arguments, **options)
    return made


def choose(b: GraphBuilder, which: Value, results: Sequence[Sequence[Value]]) -> list[Value]:
    """Return the results of the branch that `which` names; the last one if it names none."""
    found = list(results[0])
    index = b.cast(which, int32)
    for number, made in enumerate(results[1:], 1):
        # XLA takes the last branch for a number that is none of a branch.
        if number == len(results) - 1:
            index = b.select(b.compare("lt", index, 0), number, index)
        truth = b.compare("ge" if number == len(results) - 1 else "eq", index, number)
        found = [
            b.select(b.broadcast(truth, y.shape), y, x) for x, y in zip(found, made, strict=True)
        ]
    return found

"""Reductions and composites of `nki.language`, over trailing free axes of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod as product
from typing import Any

from emuron.errors import UsageError
from emuron.nki import elementwise, isa
from emuron.nki.creation import allocate
from emuron.nki.earlier_forms import form_of
from emuron.nki.elementwise import on_chip, stage
from emuron.nki.operators import Operator
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import float32

nisa: Any = isa  # its functions are made from the instruction classes

Axis = int | Sequence[int]


def _axes(x: NkiTensor, axis: Axis, function: str) -> tuple[int, ...]:
    """Return the axes as non-negative numbers; raise UsageError unless they are the last free."""
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = tuple(sorted(a + x.ndim if a < 0 else a for a in given))
    if not axes or axes != tuple(range(x.ndim - len(axes), x.ndim)) or axes[0] == 0:
        raise UsageError(
            f"nl.{function}: axis={axis} of {x.name} {list(x.shape)}; the last free axes can be "
            "reduced. Across partitions use nisa.nc_transpose or a matmul with ones."
        )
    return axes


def _reduced(
    function: str, op: str, x: NkiTensor, axis: Axis, dtype: object, keepdims: bool
) -> NkiTensor:
    axes = _axes(on_chip(x, function), axis, function)
    ones = (1,) * len(axes)
    made = allocate((*x.shape[: axes[0]], *ones), dtype or x.dtype)
    nisa.tensor_reduce(made, op, x, axes)
    if keepdims:
        return made
    kept = x.shape[: axes[0]]
    return made.reshape(kept if len(kept) > 1 else (*kept, 1))


def _reduction(name: str, op: str) -> Operator:
    def compute(
        x: NkiTensor, axis: Axis, dtype: object = None, keepdims: bool = False
    ) -> NkiTensor:
        return _reduced(name, op, x, axis, dtype, keepdims)

    compute.__name__ = name
    compute.__doc__ = f"Return the {name} over trailing free axes."
    return Operator(op, compute)


sum_ = _reduction("sum", "add")
max_ = _reduction("max", "maximum")
min_ = _reduction("min", "minimum")
prod = _reduction("prod", "multiply")


@form_of("maths")
def mean(x: NkiTensor, axis: Axis, dtype: object = None, keepdims: bool = False) -> NkiTensor:
    """Return the mean over trailing free axes."""
    total = _reduced("mean", "add", x, axis, float32, keepdims)
    count = product(x.shape[a] for a in _axes(x, axis, "mean"))
    return stage(total, "multiply", 1.0 / count, dtype or x.dtype)


@form_of("maths")
def var(x: NkiTensor, axis: Axis, dtype: object = None, keepdims: bool = True) -> NkiTensor:
    """Return the population variance over trailing free axes, which stay with size 1."""
    axes = _axes(on_chip(x, "var"), axis, "var")
    centre = mean(x, axes, dtype=float32, keepdims=True)
    apart = elementwise.binary("subtract")(x, centre, dtype=float32)
    squares = elementwise.unary("square")(apart)
    return mean(squares, axes, dtype=dtype or x.dtype, keepdims=True)


@form_of("maths")
def all_(x: NkiTensor, axis: Axis, dtype: object = None) -> NkiTensor:
    """Return 1 where every element over trailing free axes is not 0, else 0."""
    truth = stage(on_chip(x, "all"), "not_equal", 0.0)
    return _reduced("all", "minimum", truth, axis, dtype or x.dtype, False)


@form_of("maths")
def softmax(x: NkiTensor, axis: Axis = -1, dtype: object = None) -> NkiTensor:
    """Return exp(x − max) / sum of it over trailing free axes."""
    axes = _axes(on_chip(x, "softmax"), axis, "softmax")
    if axes[0] != 1:
        raise UsageError(f"nl.softmax: reduce all free axes of {x.name}, or take one row a time.")
    negative_max = allocate((x.shape[0], 1), float32)
    nisa.tensor_reduce(negative_max, "maximum", x, axes, negate=True)
    powers = allocate(x.shape, float32)
    total = allocate((x.shape[0], 1), float32)
    nisa.activation_reduce(powers, "exp", x, "add", total, bias=negative_max)
    inverse = allocate((x.shape[0], 1), float32)
    nisa.reciprocal(inverse, total)
    return stage(powers, "multiply", inverse, dtype or x.dtype)


@form_of("maths")
def rms_norm(
    x: NkiTensor,
    w: NkiTensor | None,
    axis: Axis,
    n: int,
    epsilon: float = 1e-6,
    dtype: object = None,
    compute_dtype: object = None,
) -> NkiTensor:
    """Return x / √(sum(x²) / n + epsilon) · w over trailing free axes; w has x's partitions."""
    _axes(on_chip(x, "rms_norm"), axis, "rms_norm")
    kind = compute_dtype or float32
    total = allocate((x.shape[0], 1), float32)
    nisa.activation_reduce(allocate(x.shape, kind), "square", x, "add", total)
    mean_square = stage(total, "multiply", 1.0 / n, op1="add", operand1=epsilon)
    scale = elementwise.rsqrt(mean_square)
    if w is None:
        return stage(x, "multiply", scale, dtype or x.dtype)
    made = allocate(x.shape, dtype or x.dtype)
    nisa.scalar_tensor_tensor(made, x, "multiply", scale, "multiply", w)
    return made

"""Element-wise functions of `nki.language`: each is one or a few instructions on new SBUF tiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from emuron.errors import UsageError
from emuron.isa.tensor import AccessPattern, MemoryRegion
from emuron.nki import isa
from emuron.nki.creation import allocate, copy
from emuron.nki.operators import Operator
from emuron.nki.tensor import NkiTensor
from emuron.numerics.dtypes import DType, float32, int16, int32, uint8
from emuron.numerics.dtypes import dtype as to_dtype

nisa: Any = isa  # its functions are made from the instruction classes

Tile = Any  # NkiTensor, or a number as one of two operands

_ROUNDING_SHIFT = 1.5 * 2.0**23  # x + this − this rounds |x| < 2^22 to an integer (fp32, RNE)
_INTEGERS_FROM = 2.0**22  # the shift's limit; from 2^23 on all fp32 numbers are integers


def on_chip(x: Any, function: str) -> NkiTensor:
    """Return `x` if it is a tile that engines can read; else raise UsageError."""
    if not isinstance(x, NkiTensor):
        raise UsageError(f"nl.{function} takes tiles; got {type(x).__name__} {x!r:.60}.")
    if not x.buffer.is_on_chip:
        raise UsageError(
            f"nl.{function}: {x.name} lies in {x.buffer.value}, which engines cannot read. "
            "Load it first: nl.load(tensor[…])."
        )
    return x


def promoted(x: Tile, y: Tile) -> DType:
    """Return the dtype of a result of two operands: a tile's own, else NKI's promotion table."""
    kinds = [t.dtype for t in (x, y) if isinstance(t, AccessPattern)]
    if kinds[0] == kinds[-1]:
        return kinds[0]
    kinds = [uint8 if kind.kind == "bool" else kind for kind in kinds]
    floats = [kind for kind in kinds if kind.is_float]
    wide, narrow = sorted(kinds, key=lambda kind: (kind.itemsize, kind.bits), reverse=True)
    if len(floats) == 1:
        return floats[0]
    if len(floats) == 2:
        return _wider_float(wide, narrow)
    signed, unsigned = sorted(kinds, key=lambda kind: kind.kind)
    if signed.kind == unsigned.kind or signed.itemsize > unsigned.itemsize:
        return wide
    return {1: int16, 2: int32}.get(unsigned.itemsize, float32)


def _wider_float(wide: DType, narrow: DType) -> DType:
    if wide.exponent_bits >= narrow.exponent_bits and wide.mantissa_bits >= narrow.mantissa_bits:
        return wide
    return float32 if wide.itemsize > 1 else to_dtype("bfloat16")


def _same_shape(x: NkiTensor, y: NkiTensor, function: str) -> tuple[NkiTensor, NkiTensor]:
    """Return both views with dimensions of size 1 repeated where the other is larger."""
    if x.ndim != y.ndim and x.free_size == y.free_size:
        return x, y
    if x.ndim != y.ndim or x.shape[0] != y.shape[0]:
        raise UsageError(
            f"nl.{function}: {x.name} {list(x.shape)} and {y.name} {list(y.shape)} differ. "
            "Partitions must be equal; free dimensions equal or 1."
        )
    for axis in range(1, x.ndim):
        a, b = x.shape[axis], y.shape[axis]
        if a == 1 and b > 1:
            x = x.broadcast(axis, b)
        elif b == 1 and a > 1:
            y = y.broadcast(axis, a)
        elif a != b:
            raise UsageError(
                f"nl.{function}: dimension {axis} is {a} in {x.name} and {b} in {y.name}; "
                "sizes must be equal or 1."
            )
    return x, y


def _combine(op: str, function: str, x: Tile, y: Tile, dtype: object) -> NkiTensor:
    """Return x op y by one tensor_scalar or tensor_tensor."""
    tiles = [on_chip(t, function) for t in (x, y) if isinstance(t, AccessPattern)]
    if not tiles:
        raise UsageError(f"nl.{function}({x!r}, {y!r}) has no tile; compute it in Python.")
    kind = promoted(x, y) if dtype is None else to_dtype(dtype)
    if len(tiles) == 1 or (tiles[1].free_size == 1 < tiles[0].free_size and _is_column(tiles)):
        number = y if isinstance(x, AccessPattern) else x
        made = allocate(tiles[0].shape, kind)
        reverse = not isinstance(x, AccessPattern)
        nisa.tensor_scalar(made, tiles[0], op, number, reverse)
        return made
    left, right = _same_shape(tiles[0], tiles[1], function)
    if left.buffer is MemoryRegion.psum and right.buffer is MemoryRegion.psum:
        right = copy(right)
    made = allocate(left.shape, kind)
    nisa.tensor_tensor(made, left, right, op)
    return made


def _is_column(tiles: list[NkiTensor]) -> bool:
    return tiles[0].shape[0] == tiles[1].shape[0] and tiles[1].dtype.is_float


def binary(name: str, op: str = "") -> Operator:
    """Return the operator whose function applies `op` to tiles or a tile and a number."""

    def compute(x: Tile, y: Tile, dtype: object = None) -> NkiTensor:
        return _combine(op or name, name, x, y, dtype)

    compute.__name__ = name
    compute.__doc__ = f"Return {name.replace('_', ' ')} of x and y, element by element, in SBUF."
    return Operator(op or name, compute)


def unary(name: str) -> Operator:
    """Return the operator whose function is an activation function of the Scalar engine."""

    def compute(x: NkiTensor, dtype: object = None) -> NkiTensor:
        made = allocate(on_chip(x, name).shape, dtype or x.dtype)
        nisa.activation(made, name, x)
        return made

    compute.__name__ = name
    compute.__doc__ = f"Return {name} of each element, in SBUF."
    return Operator(name, compute)


def stage(x: NkiTensor, op: str, operand: Any, dtype: object = float32, **more: Any) -> NkiTensor:
    """Return the result of one tensor_scalar on a tile."""
    made = allocate(x.shape, dtype)
    nisa.tensor_scalar(made, x, op, operand, **more)
    return made


def _operator(name: str, token: str = "") -> Callable[[Callable[..., NkiTensor]], Operator]:
    def make(compute: Callable[..., NkiTensor]) -> Operator:
        compute.__name__ = name
        return Operator(token or name, compute)

    return make


@_operator("divide")
def divide(x: Tile, y: Tile, dtype: object = None) -> NkiTensor:
    """Return x / y: a reciprocal on the Vector engine and a product."""
    kind = promoted(x, y) if dtype is None else to_dtype(dtype)
    if not isinstance(y, AccessPattern):
        return _combine("multiply", "divide", x, 1.0 / y, kind)
    inverse = allocate(on_chip(y, "divide").shape, float32)
    nisa.reciprocal(inverse, y)
    return _combine("multiply", "divide", x, inverse, kind)


@_operator("reciprocal")
def reciprocal(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return 1 / x of each element, on the Vector engine."""
    made = allocate(on_chip(x, "reciprocal").shape, dtype or x.dtype)
    nisa.reciprocal(made, x)
    return made


@_operator("rsqrt")
def rsqrt(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return 1 / √x of each element, on the GpSimd engine."""
    tile = copy(x) if on_chip(x, "rsqrt").buffer is MemoryRegion.psum else x
    return stage(tile, "rsqrt", None, dtype or x.dtype)


@_operator("negative")
def negative(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return −x of each element."""
    return stage(on_chip(x, "negative"), "multiply", -1.0, dtype or x.dtype)


@_operator("logical_not")
def logical_not(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return 1 where x is 0, else 0."""
    return stage(on_chip(x, "logical_not"), "equal", 0.0, dtype or x.dtype)


@_operator("invert")
def invert(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return the bits of each integer inverted."""
    return stage(on_chip(x, "invert"), "invert", None, dtype or x.dtype)


def _rounded(x: NkiTensor, name: str) -> tuple[NkiTensor, NkiTensor]:
    """Return (nearest integers of small elements, mask of the elements that are small)."""
    near = stage(on_chip(x, name), "add", _ROUNDING_SHIFT, op1="subtract", operand1=_ROUNDING_SHIFT)
    small = stage(stage(x, "abs", None), "less", _INTEGERS_FROM, "uint8")
    return near, small


def _where_small(x: NkiTensor, whole: NkiTensor, small: NkiTensor, dtype: object) -> NkiTensor:
    made = copy(x, float32)
    nisa.tensor_copy_predicated(made, whole, small)
    return copy(made, dtype or x.dtype)


@_operator("floor")
def floor(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return the largest integer that is not above each element."""
    near, small = _rounded(x, "floor")
    above = _combine("greater", "floor", near, x, float32)
    return _where_small(x, _combine("subtract", "floor", near, above, float32), small, dtype)


@_operator("ceil")
def ceil(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return the smallest integer that is not below each element."""
    near, small = _rounded(x, "ceil")
    below = _combine("less", "ceil", near, x, float32)
    return _where_small(x, _combine("add", "ceil", near, below, float32), small, dtype)


@_operator("trunc")
def trunc(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return each element without its fraction."""
    size = floor(stage(on_chip(x, "trunc"), "abs", None), dtype=float32)
    signs = allocate(x.shape, float32)
    nisa.activation(signs, "sign", x)
    return _combine("multiply", "trunc", size, signs, dtype or x.dtype)


@_operator("mod")
def mod(x: Tile, y: Tile, dtype: object = None) -> NkiTensor:
    """Return x − floor(x / y)·y: the remainder with the sign of y."""
    kind = promoted(x, y) if dtype is None else to_dtype(dtype)
    whole: NkiTensor = floor(divide(x, y, dtype=float32), dtype=float32)
    return _combine("subtract", "mod", x, _combine("multiply", "mod", whole, y, float32), kind)


@_operator("fmod")
def fmod(x: Tile, y: Tile, dtype: object = None) -> NkiTensor:
    """Return x − trunc(x / y)·y: the remainder with the sign of x."""
    kind = promoted(x, y) if dtype is None else to_dtype(dtype)
    whole = trunc(divide(x, y, dtype=float32), dtype=float32)
    return _combine("subtract", "fmod", x, _combine("multiply", "fmod", whole, y, float32), kind)


def _sine(x: NkiTensor, shift: float, name: str, dtype: object) -> NkiTensor:
    """Return sin(x + shift), reduced to the valid range −π … π of the activation function."""
    turned = stage(on_chip(x, name), "add", shift)
    turns = floor(stage(turned, "multiply", 1 / (2 * math.pi), op1="add", operand1=0.5))
    whole = stage(turns, "multiply", 2 * math.pi)
    made = allocate(x.shape, dtype or x.dtype)
    nisa.activation(made, "sin", _combine("subtract", name, turned, whole, float32))
    return made


@_operator("sin")
def sin(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return the sine of each element."""
    return _sine(x, 0.0, "sin", dtype)


@_operator("cos")
def cos(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return the cosine of each element."""
    return _sine(x, math.pi / 2, "cos", dtype)


@_operator("tan")
def tan(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """Return the tangent of each element."""
    made: NkiTensor = divide(sin(x, dtype=float32), cos(x, dtype=float32), dtype=dtype or x.dtype)
    return made


@_operator("where")
def where(condition: NkiTensor, x: Tile, y: Tile, dtype: object = None) -> NkiTensor:
    """Return x where condition is not 0, else y."""
    kind = promoted(x, y) if dtype is None and _has_tile(x, y) else to_dtype(dtype or "float32")
    chosen = stage(on_chip(condition, "where"), "not_equal", 0.0, "uint8")
    made = allocate(condition.shape, kind)
    if isinstance(y, AccessPattern):
        nisa.tensor_copy(made, y)
    else:
        nisa.memset(made, y)
    source = copy(x, kind) if isinstance(x, NkiTensor) and x.dtype != kind else x
    nisa.tensor_copy_predicated(made, source, chosen)
    return made


def _has_tile(*operands: Tile) -> bool:
    return any(isinstance(operand, AccessPattern) for operand in operands)

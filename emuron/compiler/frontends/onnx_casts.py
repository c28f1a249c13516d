"""ONNX operators that change the type of numbers."""

from __future__ import annotations

import numpy as np

from emuron.compiler.frontends.onnx_call import Call, onnx_op
from emuron.compiler.frontends.onnx_math import truncated, wrapped
from emuron.compiler.frontends.onnx_types import LIMITS, WIDE, storage_of
from emuron.compiler.graph import Value
from emuron.compiler.ops.bits import Bitcast
from emuron.errors import ModelFileError, UnsupportedOpError
from emuron.numerics.dtypes import DType, bool_, float8_e8m0fnu, float32, int32

_EXACT_SATURATION = frozenset({"float8_e4m3fn", "float8_e5m2"})


@onnx_op("Cast")
def _cast(c: Call) -> Value:
    return cast_to(c, c.required("to"))


@onnx_op("CastLike")
def _cast_like(c: Call) -> Value | np.ndarray:
    known, element = c.data(0), c.element(1)
    plain = c.dtype(element) not in _EXACT_SATURATION and element not in LIMITS
    if known is not None and not c.operand(0).is_weight and plain:
        return known.astype(storage_of(element))
    return cast_to(c, element)


def cast_to(c: Call, element: int) -> Value:
    """Return operand 0 in another element type, as ONNX defines it."""
    x, to = c.x(), c.dtype(element)
    c.elements[0] = element
    source = x.type.dtype
    if to == bool_:
        return c.cast(x, to)
    if to.is_integer:
        return _to_integer(c, x, to, element)
    if to == float8_e8m0fnu and source != to:
        raise UnsupportedOpError("float8_e8m0fnu holds scales; only their stored form is read")
    if to in _EXACT_SATURATION:
        return _to_fp8(c, x, to)
    return c.b.cast(x, to) if source != to else x


def _to_integer(c: Call, x: Value, to: DType, element: int) -> Value:
    """Fractions are cut off; of integers too long the low bits stay."""
    source = x.type.dtype
    if source.is_float:
        x = c.b.cast(truncated(c, c.b.cast(x, float32)), int32 if element in LIMITS else to)
        source = x.type.dtype
    bits = LIMITS[element][1].bit_length() + (to.kind == "int") if element in LIMITS else to.bits
    fits = source == bool_ or (source.min >= to.min and source.max <= to.max)
    if fits and element not in LIMITS:
        return c.b.cast(x, to)
    if bits >= source.bits:
        return c.one(Bitcast(to), x)
    return c.b.cast(wrapped(c, c.b.cast(x, int32), bits, signed=to.kind == "int"), to)


def _to_fp8(c: Call, x: Value, to: DType) -> Value:
    """Too large numbers become the largest one, or what lies beyond with `saturate` 0."""
    working = c.b.cast(x, float32)
    if c.attribute("saturate", 1):
        working = c.b.clamp(working, to.min, to.max)
    else:
        halfway = to.max * (1 + 2.0 ** -(to.mantissa_bits + 2))
        beyond = np.inf if to.has_inf else np.nan
        for relation, limit, value in (("gt", halfway, beyond), ("lt", -halfway, -beyond)):
            working = c.b.select(c.b.compare(relation, working, limit), value, working)
    return c.b.cast(working, to)


@onnx_op("BitCast")
def _bitcast(c: Call) -> Value:
    element = c.required("to")
    if {element, c.element(0)} & {*WIDE, *LIMITS}:
        raise UnsupportedOpError("the bits of 64-bit and packed numbers are not kept on the chip")
    to, x = c.dtype(element), c.x()
    if to.itemsize != x.type.dtype.itemsize:
        raise ModelFileError(f"BitCast of {x.type} to {to}, which is of another size")
    return c.one(Bitcast(to), x)

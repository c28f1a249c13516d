"""`neuron_dtypes` and the other homes of dtypes: formats by name and casts between them.

Plain formats are NumPy's or ml_dtypes' scalar types; the packed ones are dtypes of NKI, which
NumPy knows by name. AWS's `neuron_dtypes` brings NumPy dtypes of its own for those; here they are
records of bytes, which print as the packed format that they are, since users compare that name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from emuron.numerics.dtypes import (
    DTYPES,
    DType,
    float4_e2m1fn_x4,
    float8_e4m3fn_x4,
    float8_e5m2_x4,
    tfloat32,
)
from emuron.numerics.dtypes import dtype as to_dtype
from emuron.numerics.microscaling import pack_x4, unpack_x4
from emuron.numerics.rounding import round_to, widen

bfloat16 = ml_dtypes.bfloat16
float8_e3m4 = ml_dtypes.float8_e3m4
float8_e4m3 = ml_dtypes.float8_e4m3
float8_e4m3fn = ml_dtypes.float8_e4m3fn
float8_e5m2 = ml_dtypes.float8_e5m2
float8_e8m0fnu = ml_dtypes.float8_e8m0fnu
float4_e2m1fn = ml_dtypes.float4_e2m1fn
float16, float32 = np.float16, np.float32
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
bool_ = np.bool_

__all__ = [
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bfloat16",
    "float16",
    "float32",
    "tfloat32",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e8m0fnu",
    "float4_e2m1fn",
    "float4_e2m1fn_x4",
    "float8_e4m3fn_x4",
    "float8_e5m2_x4",
    "dtype",
    "finfo",
    "is_float_type",
    "sizeinbytes",
    "static_cast",
]


class dtype:
    """`nki.dtype`: an annotation, and the formats as attributes; called, the format meant."""

    def __new__(cls, x: Any) -> DType:  # type: ignore[misc]
        """Return the format that a name or another library's dtype means."""
        return to_dtype(x)


for _format in DTYPES.values():
    setattr(dtype, _format, _format)


def static_cast(array: Any, dtype: Any) -> NDArray[Any]:
    """Return an array in another format, rounded to nearest even.

    A packed format takes [..., 4F] to [..., F], and back from it. Raises UsageError for a last axis
    that is no multiple of four.
    """
    array, target = np.asarray(array), to_dtype(dtype)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    source = to_dtype(array.dtype)
    if source.element is not None:
        array, source = unpack_x4(array.view(source.np), source), source.element
    if target.element is None:
        if source == target:
            return np.asarray(array)
        if not source.is_float and not target.is_float:
            return np.asarray(array.astype(target.np))
        return np.asarray(round_to(widen(array, source), target))
    stored = round_to(widen(array, source), target.element)
    return np.asarray(pack_x4(stored, target.element).view(np.dtype(target)))


def sizeinbytes(kind: Any) -> int:
    """Return the bytes of one element in storage."""
    return to_dtype(kind).itemsize


def is_float_type(kind: Any) -> bool:
    """Return whether a format holds floating-point numbers; packed ones do."""
    found = to_dtype(kind)
    return found.is_float or found.kind == "packed"


def finfo(kind: Any) -> Any:
    """Return the limits of a floating-point format, as `numpy.finfo` does."""
    found = to_dtype(kind)
    return ml_dtypes.finfo((found.element or found).np)  # type: ignore[no-untyped-call]


def _let_packed_records_print_as_their_format() -> None:
    printing: Any = import_module("numpy._core._dtype")
    usual = printing._struct_str

    def text(record: np.dtype[Any], *arguments: Any, **options: Any) -> str:
        found = DTYPES.get(record.names[0]) if record.names else None
        shown: str = usual(record, *arguments, **options)
        return str(found) if found is not None and np.dtype(found) == record else shown

    printing._struct_str = text


_let_packed_records_print_as_their_format()

"""ONNX's element types, and what stands for them on the chip."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from emuron.compiler.graph import TensorType
from emuron.errors import OutOfBoundsError, UnsupportedOpError, missing_extra
from emuron.numerics.dtypes import DType, dtype

try:
    from onnx import TensorProto
    from onnx.helper import np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype
except ImportError as error:
    raise missing_extra(error, "Reading an ONNX model") or error from error

STANDS_FOR: Mapping[int, str] = MappingProxyType(
    {
        TensorProto.FLOAT: "float32",
        TensorProto.FLOAT16: "float16",
        TensorProto.BFLOAT16: "bfloat16",
        TensorProto.DOUBLE: "float32",
        TensorProto.FLOAT8E4M3FN: "float8_e4m3fn",
        TensorProto.FLOAT8E5M2: "float8_e5m2",
        TensorProto.FLOAT8E8M0: "float8_e8m0fnu",
        TensorProto.FLOAT4E2M1: "float4_e2m1fn",
        TensorProto.BOOL: "bool_",
        TensorProto.INT8: "int8",
        TensorProto.INT16: "int16",
        TensorProto.INT32: "int32",
        TensorProto.INT64: "int32",
        TensorProto.UINT8: "uint8",
        TensorProto.UINT16: "uint16",
        TensorProto.UINT32: "uint32",
        TensorProto.UINT64: "uint32",
        TensorProto.INT4: "int8",
        TensorProto.UINT4: "uint8",
        TensorProto.INT2: "int8",
        TensorProto.UINT2: "uint8",
    }
)
"""64-bit numbers are narrowed (integers after a range check); 4- and 2-bit ones take a byte."""

LIMITS: Mapping[int, tuple[int, int]] = MappingProxyType(
    {
        TensorProto.INT4: (-8, 7),
        TensorProto.UINT4: (0, 15),
        TensorProto.INT2: (-2, 1),
        TensorProto.UINT2: (0, 3),
    }
)
"""Smallest and largest value of the types that are narrower than what stands for them."""

WIDE = frozenset({TensorProto.INT64, TensorProto.UINT64, TensorProto.DOUBLE})
"""The types that are narrowed to 32 bits."""

_ELEMENT_OF: Mapping[str, int] = MappingProxyType(
    {name: e for e, name in STANDS_FOR.items() if e not in LIMITS and e not in WIDE}
)


def element_name(element: int) -> str:
    """Return the name of an element type, as `INT64`."""
    known = {number: str(name) for name, number in TensorProto.DataType.items()}
    return known.get(element, f"element type {element}")


def dtype_of(element: int, what: str) -> DType:
    """Return the dtype that stands for an element type; `what` names the tensor in the refusal."""
    if element not in STANDS_FOR:
        raise UnsupportedOpError(
            f"{what} is of type {element_name(element)}, which has no place on the chip"
        )
    return dtype(STANDS_FOR[element])


def element_of(found: DType) -> int:
    """Return the element type that a dtype stands for, that of its own width if several."""
    return _ELEMENT_OF[found]


def element_of_array(array: np.ndarray) -> int:
    """Return the element type of host data."""
    return int(np_dtype_to_tensor_dtype(array.dtype))


def storage_of(element: int) -> np.dtype[Any]:
    """Return how NumPy (with ml_dtypes) holds an element type."""
    found: np.dtype[Any] = tensor_dtype_to_np_dtype(element)
    return found


def type_of(element: int, shape: tuple[int, ...], what: str) -> TensorType:
    """Return the graph's type of a tensor."""
    return TensorType(shape, dtype_of(element, what))


def narrowed(array: np.ndarray, to: DType, what: str) -> np.ndarray:
    """Return host data in the dtype that stands for its own; raise OutOfBoundsError if it does not
    fit.
    """
    if array.dtype == to.np:
        return array
    if to.is_integer and array.size and array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low < to.min or high > to.max:
            raise OutOfBoundsError(
                f"{what} holds {low if low < to.min else high}, but the chip has no integers "
                f"beyond {to}"
            )
    return array.astype(to.np)

"""The number formats of the hardware: names, layouts, ranges and how NumPy stores them.

A `DType` is a string equal to its name, as NKI's are. Formats and ranges: NKI's supported data
types page; the OCP FP8 and microscaling specifications for `float8_e4m3fn`, `float8_e8m0fnu`,
`float4_e2m1fn`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

import ml_dtypes
import numpy as np

from emuron.errors import UnknownNameError, UsageError

Kind = Literal["float", "int", "uint", "bool", "packed"]
Specials = Literal["ieee", "nan_only", "none"]

_METADATA_KEY = "emuron_dtype"


class DType(str):
    """A number format: equal to its name as a string, with its layout, range and NumPy storage as
    attributes.

    `itemsize` is in bytes of storage, `bits` those that carry the value. For floats `max` and
    `min` are the largest and most negative finite values and `smallest` the smallest positive one
    (subnormal where there are subnormals); for integers `smallest` is 1. A packed type has the
    figures of its `element` and says in `lanes` how many it holds.
    """

    __slots__ = (
        "bias",
        "bits",
        "element",
        "exponent_bits",
        "has_inf",
        "has_nan",
        "itemsize",
        "kind",
        "lanes",
        "mantissa_bits",
        "max",
        "min",
        "np",
        "smallest",
    )
    itemsize: int
    bits: int
    kind: Kind
    np: np.dtype[Any]
    exponent_bits: int
    mantissa_bits: int
    bias: int
    max: float
    min: float
    smallest: float
    has_inf: bool
    has_nan: bool
    element: DType | None
    lanes: int

    def __new__(cls, name: str, **fields: Any) -> DType:
        """Make a format from its name and attributes; meant for this module, use `dtype`
        elsewhere.
        """
        self = super().__new__(cls, name)
        for field in cls.__slots__:
            object.__setattr__(self, field, fields[field])
        return self

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"DType '{self}' is frozen; '{field}' cannot be set")

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return dtype, (str(self),)

    @property
    def is_float(self) -> bool:
        """Whether elements are (unpacked) floating-point numbers."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether elements are signed or unsigned integers."""
        return self.kind in ("int", "uint")


def _float(
    name: str,
    storage: Any,
    layout: tuple[int, int, int],
    specials: Specials = "ieee",
    bits: int | None = None,
) -> DType:
    """Describe a float of (exponent bits, mantissa bits, bias).

    "ieee" keeps the top exponent for inf and NaN, "nan_only" only its last code for NaN, "none"
    gives all to numbers.
    """
    exponent_bits, mantissa_bits, bias = layout
    top = (1 << exponent_bits) - (2 if specials == "ieee" else 1) - bias
    missing = 2 if specials == "nan_only" else 1
    largest = 2.0**top * (2.0 - missing * 2.0**-mantissa_bits)
    np_dtype = np.dtype(storage)
    return DType(
        name,
        itemsize=np_dtype.itemsize,
        bits=bits or 1 + exponent_bits + mantissa_bits,
        kind="float",
        np=np_dtype,
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
        bias=bias,
        max=largest,
        min=-largest,
        smallest=2.0 ** (1 - bias - mantissa_bits),
        has_inf=specials == "ieee",
        has_nan=specials != "none",
        element=None,
        lanes=1,
    )


def _scale(name: str, storage: Any) -> DType:
    """Describe the unsigned power of two of MX blocks: value 2**(byte - 127), byte 255 is NaN."""
    return DType(
        name,
        itemsize=1,
        bits=8,
        kind="float",
        np=np.dtype(storage),
        exponent_bits=8,
        mantissa_bits=0,
        bias=127,
        max=2.0**127,
        min=2.0**-127,
        smallest=2.0**-127,
        has_inf=False,
        has_nan=True,
        element=None,
        lanes=1,
    )


def _integer(name: str, kind: Kind) -> DType:
    """Describe a two's complement or unsigned integer, or a truth value stored as one byte."""
    np_dtype = np.dtype(name)
    limits = (0, 1) if kind == "bool" else (np.iinfo(np_dtype).min, np.iinfo(np_dtype).max)
    return DType(
        name,
        itemsize=np_dtype.itemsize,
        bits=1 if kind == "bool" else 8 * np_dtype.itemsize,
        kind=kind,
        np=np_dtype,
        exponent_bits=0,
        mantissa_bits=0,
        bias=0,
        max=int(limits[1]),
        min=int(limits[0]),
        smallest=1,
        has_inf=False,
        has_nan=False,
        element=None,
        lanes=1,
    )


def _packed(element: DType) -> DType:
    """Describe four elements side by side in one unsigned integer, the first in the lowest bits."""
    lanes = 4
    storage = np.dtype(f"uint{lanes * element.bits}")
    fields = {field: getattr(element, field) for field in DType.__slots__}
    fields |= {
        "itemsize": storage.itemsize,
        "bits": lanes * element.bits,
        "kind": "packed",
        "np": storage,
        "element": element,
        "lanes": lanes,
    }
    return DType(f"{element}_x{lanes}", **fields)


float32 = _float("float32", np.float32, (8, 23, 127))
tfloat32 = _float("tfloat32", np.float32, (8, 10, 127))
bfloat16 = _float("bfloat16", ml_dtypes.bfloat16, (8, 7, 127))
float16 = _float("float16", np.float16, (5, 10, 15))
float8_e3m4 = _float("float8_e3m4", ml_dtypes.float8_e3m4, (3, 4, 3))
float8_e4m3 = _float("float8_e4m3", ml_dtypes.float8_e4m3, (4, 3, 7))
float8_e4m3fn = _float("float8_e4m3fn", ml_dtypes.float8_e4m3fn, (4, 3, 7), "nan_only")
float8_e5m2 = _float("float8_e5m2", ml_dtypes.float8_e5m2, (5, 2, 15))
float8_e8m0fnu = _scale("float8_e8m0fnu", ml_dtypes.float8_e8m0fnu)
float4_e2m1fn = _float("float4_e2m1fn", ml_dtypes.float4_e2m1fn, (2, 1, 1), "none")
float8_e4m3fn_x4 = _packed(float8_e4m3fn)
float8_e5m2_x4 = _packed(float8_e5m2)
float4_e2m1fn_x4 = _packed(float4_e2m1fn)
int8 = _integer("int8", "int")
int16 = _integer("int16", "int")
int32 = _integer("int32", "int")
int64 = _integer("int64", "int")
uint8 = _integer("uint8", "uint")
uint16 = _integer("uint16", "uint")
uint32 = _integer("uint32", "uint")
uint64 = _integer("uint64", "uint")
bool_ = _integer("bool_", "bool")

DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        row: row
        for row in (
            *(float32, tfloat32, bfloat16, float16),
            *(float8_e3m4, float8_e4m3, float8_e4m3fn, float8_e5m2, float8_e8m0fnu, float4_e2m1fn),
            *(float8_e4m3fn_x4, float8_e5m2_x4, float4_e2m1fn_x4),
            *(int8, int16, int32, int64, uint8, uint16, uint32, uint64, bool_),
        )
    }
)
"""Every named format; 64-bit integers exist on the host only. The configurable FP8 forms come from
`cfp8`.
"""

_ALIASES: Mapping[str, DType] = MappingProxyType(
    {
        "fp32": float32,
        "f32": float32,
        "float": float32,
        "tf32": tfloat32,
        "bf16": bfloat16,
        "fp16": float16,
        "f16": float16,
        "half": float16,
        "fp8_e3m4": float8_e3m4,
        "fp8_e4m3": float8_e4m3,
        "fp8_e4m3fn": float8_e4m3fn,
        "fp8_e5m2": float8_e5m2,
        "e8m0": float8_e8m0fnu,
        "fp4": float4_e2m1fn,
        "fp4_e2m1": float4_e2m1fn,
        "bool": bool_,
        "s8": int8,
        "s16": int16,
        "s32": int32,
        "s64": int64,
        "i8": int8,
        "i16": int16,
        "i32": int32,
        "i64": int64,
        "u8": uint8,
        "u16": uint16,
        "u32": uint32,
        "u64": uint64,
    }
)

_CFP8_MANTISSA_BITS: Mapping[int, int] = MappingProxyType({5: 2, 4: 3, 3: 4})
_CFP8_NAME = re.compile(r"cfp8_e([345])m([234])(?:_b(-?\d+))?")
_CFP8_BIAS_LIMIT = 90
"""Beyond this exponent bias the values of a cFP8 form would leave the normal range of float32."""


@cache
def cfp8(exponent_bits: int, bias: int | None = None) -> DType:
    """Return the configurable FP8 form of 5, 4 or 3 exponent bits and an exponent bias (default
    the IEEE one).

    AWS documents e5m2, e4m3 and e3m4 with an adjustable bias, not their special values; IEEE-like
    is assumed. Raises UsageError for another split or a bias beyond ±90.
    """
    if exponent_bits not in _CFP8_MANTISSA_BITS:
        raise UsageError(
            f"cFP8 has 5, 4 or 3 exponent bits (e5m2, e4m3, e3m4), not {exponent_bits}."
        )
    default_bias = (1 << (exponent_bits - 1)) - 1
    bias = default_bias if bias is None else bias
    if abs(bias) > _CFP8_BIAS_LIMIT:
        raise UsageError(
            f"The exponent bias of a cFP8 form lies within ±{_CFP8_BIAS_LIMIT}, "
            f"but {bias} was given."
        )
    mantissa_bits = _CFP8_MANTISSA_BITS[exponent_bits]
    suffix = "" if bias == default_bias else f"_b{bias}"
    return _float(
        f"cfp8_e{exponent_bits}m{mantissa_bits}{suffix}",
        np.uint8,
        (exponent_bits, mantissa_bits, bias),
    )


def _named(name: str) -> DType | None:
    found = DTYPES.get(name) or _ALIASES.get(name)
    if found is None and (match := _CFP8_NAME.fullmatch(name)):
        exponent_bits, mantissa_bits, bias = match.groups()
        if int(exponent_bits) + int(mantissa_bits) == 7:
            return cfp8(int(exponent_bits), None if bias is None else int(bias))
    return found


def _from_numpy(np_dtype: np.dtype[Any]) -> DType | None:
    if np_dtype.names:
        return _named(np_dtype.names[0])
    if np_dtype.metadata and _METADATA_KEY in np_dtype.metadata:
        return DTYPES[np_dtype.metadata[_METADATA_KEY]]
    return _named(np_dtype.name)


def dtype(x: Any) -> DType:
    """Return the format meant by a DType, a name or alias, or a NumPy, ml_dtypes, JAX or PyTorch
    dtype.

    PyTorch's dtypes are known by their names, so it is not imported. Raises UnknownNameError for
    anything else; float64 and complex types do not exist on the hardware.
    """
    if isinstance(x, DType):
        return x
    if isinstance(x, str):
        found = _named(x.rpartition(".")[2])
    elif isinstance(x, np.dtype):
        found = _from_numpy(x)
    elif str(x).startswith("torch."):
        found = _named(str(x).rpartition(".")[2])
    else:
        try:
            found = _from_numpy(np.dtype(x)) if x is not None else None
        except TypeError:
            found = None
    if found is None:
        raise UnknownNameError("dtype", str(x), DTYPES)
    return found


def _teach_numpy_the_names() -> None:
    """Let `np.dtype(d)` and `np.zeros(n, dtype=d)` resolve the names that NumPy and ml_dtypes do
    not know.

    tfloat32 becomes float32 with the name as metadata. A packed type becomes a record of bytes
    whose first field has the name: NumPy then refuses arithmetic and casts, which would take four
    numbers for one. `dtype` reads both back.
    """
    names: MutableMapping[str, Any] = np.sctypeDict
    names.setdefault(str(tfloat32), np.dtype(np.float32, metadata={_METADATA_KEY: str(tfloat32)}))
    for row in (float8_e4m3fn_x4, float8_e5m2_x4, float4_e2m1fn_x4):
        fields = (str(row), *(f"byte{k}" for k in range(1, row.itemsize)))
        names.setdefault(str(row), np.dtype([(field, np.uint8) for field in fields]))


_teach_numpy_the_names()

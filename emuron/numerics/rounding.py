"""The one place where a value is rounded: float32, the working type, to storage and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NoReturn

import ml_dtypes
import numpy as np
import numpy.typing as npt

from emuron.errors import UsageError
from emuron.numerics.dtypes import DType, bfloat16, float8_e4m3fn, float16, float32, tfloat32
from emuron.numerics.dtypes import dtype as to_dtype
from emuron.numerics.float_codes import encode, encode_by_table, encode_half, value_of_code
from emuron.numerics.random_bits import random_bits

Rounding = Literal["rne", "stochastic"]
Overflow = Literal["ieee", "saturate"]

_UNSTORED_BITS_TF32 = 13
_UNSTORED_BITS_BF16 = 16


_quiet = partial(np.errstate, all="ignore")
"""A context without warnings: overflow and signalling NaN are ordinary values here."""


@dataclass(frozen=True, slots=True)
class NumericsPolicy:
    """How the hardware rounds: the choices that a machine setting or missing documentation leaves
    open.

    `rounding` is nearest-even or stochastic (NEURON_RT_STOCHASTIC_ROUNDING_EN) with `seed`.
    Overflow goes to inf in types that have it; for float8_e4m3fn AWS does not say, so
    `e4m3fn_overflow` is NaN (as ml_dtypes) or the largest value. `nan_to_int` is what an integer
    destination gets for NaN, also undocumented.
    """

    rounding: Rounding = "rne"
    e4m3fn_overflow: Literal["nan", "saturate"] = "nan"
    nan_to_int: int = 0
    seed: int = 0

    def overflow_of(self, dtype: DType) -> Overflow:
        """Return the `overflow` argument of `round_to` for a destination type."""
        if dtype == float8_e4m3fn and self.e4m3fn_overflow == "saturate":
            return "saturate"
        return "ieee"


DEFAULT_POLICY = NumericsPolicy()


def round_to(
    x: npt.ArrayLike,
    dtype: DType,
    *,
    rounding: Rounding = "rne",
    overflow: Overflow = "ieee",
    nan_to_int: int = 0,
    seed: int | None = None,
    counter: int = 0,
) -> npt.NDArray[Any]:
    """Round float32 values to a storage type; the result has `dtype.np` and may be `x` itself for
    float32.

    Floats round to nearest even, or stochastically by bits hashed from (seed, counter, flat
    element index). `overflow="ieee"` gives ±inf where the type has it and else NaN; "saturate"
    gives ±max, for inf too. Integers take the nearest even and saturate, whatever `rounding` says;
    truth is "not zero". Raises UsageError for packed types.
    """
    if dtype.kind == "packed":
        refuse_packed(dtype)
    with _quiet():
        values = np.asarray(x, np.float32)
        if dtype == float32:
            return values
        flat = np.ascontiguousarray(values).reshape(-1)
        if not dtype.is_float:
            stored = _to_integer(flat, dtype, nan_to_int)
        elif rounding == "rne":
            stored = _to_nearest(flat, dtype, overflow == "saturate")
        else:
            random = random_bits(seed or 0, counter, flat.size)
            stored = _stochastically(flat, dtype, random, overflow == "saturate")
        return stored.reshape(values.shape)


def round_by_policy(
    x: npt.ArrayLike, dtype: DType, policy: NumericsPolicy = DEFAULT_POLICY, counter: int = 0
) -> npt.NDArray[Any]:
    """Round float32 values to a storage type as a policy says; `counter` numbers the use of its
    seed.
    """
    return round_to(
        x,
        dtype,
        rounding=policy.rounding,
        overflow=policy.overflow_of(dtype),
        nan_to_int=policy.nan_to_int,
        seed=policy.seed,
        counter=counter,
    )


def widen(stored: npt.NDArray[Any], dtype: DType) -> npt.NDArray[np.float32]:
    """Return stored values as float32: exact but for integers beyond 24 bits, which round to
    nearest even.

    `stored` has `dtype.np` or, for floats, an unsigned integer of its size; the result may be
    `stored` itself. Raises UsageError for packed types.
    """
    if dtype == float32:
        return stored.view(np.float32)
    if dtype.kind == "packed":
        refuse_packed(dtype)
    if dtype.is_float and dtype.itemsize == 1:
        return value_of_code(dtype).take(stored.view(np.uint8), mode="clip").reshape(stored.shape)
    if dtype == tfloat32:
        kept = stored.view(np.uint32) >> _UNSTORED_BITS_TF32 << _UNSTORED_BITS_TF32
        return np.asarray(kept).view(np.float32)
    with _quiet():
        return np.asarray(stored.view(dtype.np).astype(np.float32))


def refuse_packed(dtype: DType) -> NoReturn:
    """Raise the UsageError of a packed type where single values are wanted."""
    raise UsageError(
        f"{dtype} holds {dtype.lanes} values in one element, so it cannot be rounded or widened: "
        f"work with {dtype.element} and pack_x4 or unpack_x4 of emuron.numerics.microscaling."
    )


def _to_nearest(x: npt.NDArray[np.float32], dtype: DType, saturate: bool) -> npt.NDArray[Any]:
    if dtype.itemsize == 1:
        return encode_by_table(x, dtype, saturate).view(dtype.np)
    if saturate:
        x = np.clip(x, np.float32(dtype.min), np.float32(dtype.max))
    if dtype == bfloat16:
        return x.astype(ml_dtypes.bfloat16)
    if dtype == float16:
        return encode_half(x).view(np.float16)
    return _drop_low_bits(x, _nearest_even_increment(x))


def _nearest_even_increment(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    increment = x.view(np.uint32) >> np.uint32(_UNSTORED_BITS_TF32)
    increment &= np.uint32(1)
    increment += np.uint32((1 << (_UNSTORED_BITS_TF32 - 1)) - 1)
    return increment


def _drop_low_bits(
    x: npt.NDArray[np.float32], increment: npt.NDArray[np.uint32]
) -> npt.NDArray[np.float32]:
    """Add an increment to the bits of float32 values and truncate to tf32, keeping NaN a NaN."""
    increment += x.view(np.uint32)
    increment >>= np.uint32(_UNSTORED_BITS_TF32)
    increment <<= np.uint32(_UNSTORED_BITS_TF32)
    rounded = increment.view(np.float32)
    np.copyto(rounded, np.float32(np.nan), where=np.isnan(x))
    return rounded


def _stochastically(
    x: npt.NDArray[np.float32], dtype: DType, random: npt.NDArray[np.uint32], saturate: bool
) -> npt.NDArray[Any]:
    if dtype.exponent_bits == float32.exponent_bits and dtype.mantissa_bits:
        if saturate:
            x = np.clip(x, np.float32(dtype.min), np.float32(dtype.max))
        if dtype == tfloat32:
            random &= np.uint32((1 << _UNSTORED_BITS_TF32) - 1)
            return _drop_low_bits(x, random)
        return _stochastically_to_bfloat16(x, random)
    codes = encode(x, dtype, random=random, saturate=saturate)
    storage = np.uint8 if dtype.itemsize == 1 else np.uint16
    return codes.astype(storage).view(dtype.np)


def _stochastically_to_bfloat16(
    x: npt.NDArray[np.float32], random: npt.NDArray[np.uint32]
) -> npt.NDArray[Any]:
    random >>= np.uint32(_UNSTORED_BITS_BF16)
    random += x.view(np.uint32)
    random >>= np.uint32(_UNSTORED_BITS_BF16)
    rounded: npt.NDArray[Any] = random.astype(np.uint16).view(ml_dtypes.bfloat16)
    is_nan = np.isnan(x)
    if is_nan.any():
        rounded[is_nan] = np.nan
    return rounded


def _to_integer(x: npt.NDArray[np.float32], dtype: DType, nan_to_int: int) -> npt.NDArray[Any]:
    if dtype.kind == "bool":
        return np.asarray(x != 0)
    # Limits of 32-bit integers need float64 to be exact; those of 64 bits are met by the
    # comparison below.
    rounded: npt.NDArray[Any] = np.rint(x, dtype=np.float64 if dtype.bits > 16 else np.float32)
    is_nan = np.isnan(rounded)
    if is_nan.any():
        rounded[is_nan] = nan_to_int
    if dtype.bits < 64:
        np.clip(rounded, dtype.min, dtype.max, out=rounded)
        return rounded.astype(dtype.np)
    too_large = rounded >= 2.0 ** (dtype.bits - (1 if dtype.kind == "int" else 0))
    np.clip(rounded, dtype.min, None, out=rounded)
    stored = np.where(too_large, 0.0, rounded).astype(dtype.np)
    stored[too_large] = dtype.max
    return stored


def in_dtype(array: np.ndarray, wanted: DType) -> np.ndarray:
    """Return an array rounded to another dtype (float64 through float32)."""
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    found = to_dtype(array.dtype)
    if found == wanted:
        return array
    working = array if found == float32 else widen(array, found)
    return round_to(working, wanted)

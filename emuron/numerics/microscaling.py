"""MX blocks: groups of small floats that share a power of two, and their packing four to an
element.

A group is 8 partitions by 4 neighbouring elements and has one `float8_e8m0fnu` scale (NKI's
`quantize_mx` and `nc_matmul_mx`; OCP Microscaling Formats 1.0). Where the scales lie in SBUF is the
instruction's affair: here row g of the scales belongs to partitions 8g to 8g + 7.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from emuron.errors import UsageError
from emuron.numerics.dtypes import DTYPES, DType, float8_e8m0fnu
from emuron.numerics.rounding import DEFAULT_POLICY, NumericsPolicy, round_by_policy, widen

GROUP_PARTITIONS = 8
"""Partitions of a group of 32 values, all with one scale."""

LANES = 4
"""Neighbouring elements of a group in each of its partitions, and values of one packed element."""

_F32_MANTISSA_BITS = 23
_SCALE_BIAS = float8_e8m0fnu.bias


def packed_type(element: DType) -> DType:
    """Return the x4 type of an element type; raises UsageError if there is none."""
    packed = DTYPES.get(f"{element}_x{LANES}")
    if packed is None:
        known = sorted(d for d in DTYPES.values() if d.kind == "packed")
        raise UsageError(f"{element} has no packed form; the packed types are {', '.join(known)}.")
    return packed


def _element_of(packed: DType) -> DType:
    if packed.element is None:
        known = sorted(d for d in DTYPES.values() if d.kind == "packed")
        raise UsageError(f"{packed} is not packed; the packed types are {', '.join(known)}.")
    return packed.element


def pack_x4(stored: npt.NDArray[Any], element: DType) -> npt.NDArray[Any]:
    """Pack stored elements [..., 4F] into [..., F] unsigned integers, the first in the lowest bits.

    Raises UsageError if the last axis is no multiple of four or the type has no packed form.
    """
    packed = packed_type(element)
    if stored.ndim == 0 or stored.shape[-1] % LANES:
        raise UsageError(
            f"{packed} packs {LANES} neighbours into one element, "
            f"so the last axis must be a multiple of {LANES}; the shape is {stored.shape}."
        )
    mask = (1 << element.bits) - 1
    codes = stored.view(np.uint8).reshape(*stored.shape[:-1], -1, LANES).astype(np.uint32) & mask
    words = np.zeros(codes.shape[:-1], np.uint32)
    for lane in range(LANES):
        words |= codes[..., lane] << np.uint32(lane * element.bits)
    return words.astype(packed.np)


def unpack_x4(words: npt.NDArray[Any], packed: DType) -> npt.NDArray[Any]:
    """Unpack x4 elements [..., F] into stored ones [..., 4F]; raises UsageError if not packed."""
    element = _element_of(packed)
    wide = words.view(packed.np).astype(np.uint32)[..., None]
    shifts = np.arange(LANES, dtype=np.uint32) * np.uint32(element.bits)
    codes = (wide >> shifts) & np.uint32((1 << element.bits) - 1)
    return codes.astype(np.uint8).reshape(*words.shape[:-1], -1).view(element.np)


def quantize_mx(
    x: npt.NDArray[np.float32],
    packed: DType,
    *,
    ocp_scale: bool = False,
    policy: NumericsPolicy = DEFAULT_POLICY,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Quantise [P, 4F] float32 into x4 elements [P, F] and the bytes of e8m0 scales [P/8, F].

    The exponent of a scale is floor(log2(amax)) - (Emax - 1), at least -127, so a group of zeros
    has byte 0; `ocp_scale` leaves out the -1, as the OCP example and NKI before 0.5 did, so that
    values beyond the largest one occur, which become it (OCP MX 1.0, 6.3). Raises UsageError for a
    shape that is not made of whole groups or a type that is not packed.
    """
    element = _element_of(packed)
    if x.ndim != 2 or x.shape[0] % GROUP_PARTITIONS or x.shape[1] % LANES:
        raise UsageError(
            f"quantize_mx takes [P, 4F] in whole groups of {GROUP_PARTITIONS} partitions by "
            f"{LANES} elements; the shape is {x.shape}."
        )
    groups = np.asarray(x, np.float32).reshape(-1, GROUP_PARTITIONS, x.shape[1] // LANES, LANES)
    amax = np.abs(groups).max(axis=(1, 3))
    largest_exponent = math.frexp(element.max)[1] - 1
    below = largest_exponent if ocp_scale else largest_exponent - 1
    # The exponent field of a float32 is floor(log2) + 127, zero for zero: the scale's own coding.
    field = (amax.view(np.uint32) >> np.uint32(_F32_MANTISSA_BITS)).astype(np.int32)
    scales = np.maximum(field - below, 0).astype(np.uint8)
    inverse = np.ldexp(np.float32(1), _SCALE_BIAS - scales.astype(np.int32))
    scaled = groups * inverse[:, None, :, None]
    if ocp_scale:
        scaled = np.clip(scaled, np.float32(element.min), np.float32(element.max))
    stored = round_by_policy(scaled.reshape(x.shape), element, policy)
    return pack_x4(stored, element), scales


def dequantize_mx(
    words: npt.NDArray[Any], scales: npt.NDArray[Any], packed: DType
) -> npt.NDArray[np.float32]:
    """Return the float32 values [P, 4F] of x4 elements [P, F] and their e8m0 scales [P/8, F].

    A scale of NaN (byte 255) makes its group NaN. Raises UsageError if the shapes do not match.
    """
    expected = (words.shape[0] // GROUP_PARTITIONS, words.shape[1])
    if words.shape[0] % GROUP_PARTITIONS or scales.shape != expected:
        raise UsageError(
            f"Elements of shape {words.shape} need one scale for {GROUP_PARTITIONS} partitions, "
            f"shape {expected}; the scales have shape {scales.shape}."
        )
    values = widen(unpack_x4(words, packed), _element_of(packed))
    factors = widen(scales.view(np.uint8), float8_e8m0fnu)
    with np.errstate(over="ignore", invalid="ignore"):
        return values * factors.repeat(GROUP_PARTITIONS, axis=0).repeat(LANES, axis=1)

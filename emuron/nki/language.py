"""`nki.language`: dtypes, memories, tensors, operators, element-wise functions and loops.

Operators (`nl.add`) are names for `op=` arguments and functions on tiles alike.
"""
# ruff: noqa: F401  (this module is the names that it imports)

from __future__ import annotations

import builtins
from typing import Any

from emuron.errors import UsageError
from emuron.isa.tensor import MemoryRegion
from emuron.nki.creation import TensorClass as NkiTensor
from emuron.nki.creation import (
    broadcast_to,
    device_print,
    ds,
    empty_like,
    expand_dims,
    full,
    gather_flattened,
    load,
    load_transpose2d,
    matmul,
    ndarray,
    ones,
    region,
    shared_constant,
    shared_identity_matrix,
    store,
    transpose,
    zeros,
    zeros_like,
)
from emuron.nki.creation import copy as _copy
from emuron.nki.earlier_forms import use
from emuron.nki.elementwise import (
    binary,
    ceil,
    cos,
    divide,
    floor,
    fmod,
    invert,
    logical_not,
    mod,
    negative,
    reciprocal,
    rsqrt,
    sin,
    tan,
    trunc,
    unary,
    where,
)
from emuron.nki.grids import (
    NkiBlockGrid,
    NkiTileGrid,
    alloc_blocks,
    alloc_tiles,
    blocks,
    tiles,
)
from emuron.nki.objects import NKIObject
from emuron.nki.operators import Operator
from emuron.nki.randomness import dropout, rand, random_seed
from emuron.nki.recorder import active_recorder, recorder
from emuron.nki.reductions import all_ as all
from emuron.nki.reductions import max_ as max
from emuron.nki.reductions import mean, prod, rms_norm, softmax, var
from emuron.nki.reductions import min_ as min
from emuron.nki.reductions import sum_ as sum
from emuron.nki.registers import dynamic_range, fori_loop, while_loop
from emuron.nki.scheduling import no_reorder
from emuron.nki.tile_size import tile_size
from emuron.numerics.dtypes import (
    DType,
    bfloat16,
    bool_,
    float4_e2m1fn_x4,
    float8_e4m3,
    float8_e4m3fn,
    float8_e4m3fn_x4,
    float8_e5m2,
    float8_e5m2_x4,
    float8_e8m0fnu,
    float16,
    float32,
    int8,
    int16,
    int32,
    tfloat32,
    uint8,
    uint16,
    uint32,
)

bool = bool_
sbuf = MemoryRegion.sbuf
psum = MemoryRegion.psum
hbm = private_hbm = MemoryRegion.private_hbm
shared_hbm = MemoryRegion.shared_hbm

affine_range = sequential_range = static_range = range = builtins.range

_BINARY = (
    *("add", "subtract", "multiply", "maximum", "minimum", "power", "abs_max", "abs_min"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
    *("logical_and", "logical_or", "logical_xor"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"),
)
_UNARY = (
    *("abs", "square", "exp", "log", "sqrt", "tanh", "sigmoid", "relu", "sign", "arctan"),
    *("gelu", "gelu_dx", "gelu_apprx_tanh", "gelu_apprx_sigmoid", "gelu_apprx_sigmoid_dx"),
    *("silu", "silu_dx", "softplus", "mish", "erf", "erf_dx"),
)
globals().update({name: binary(name) for name in _BINARY})
globals().update({name: unary(name) for name in _UNARY})
copy = Operator("copy", _copy)
prelu, bypass, average = Operator("prelu"), Operator("bypass"), Operator("average")


def is_on_chip(buffer: MemoryRegion | str) -> builtins.bool:
    """Return whether a memory is SBUF or PSUM."""
    return region(buffer) in (sbuf, psum)


def is_hbm(buffer: MemoryRegion | str) -> builtins.bool:
    """Return whether a memory is HBM, of either kind."""
    return region(buffer) in (private_hbm, shared_hbm)


def is_sbuf(buffer: MemoryRegion | str) -> builtins.bool:
    """Return whether a memory is SBUF."""
    return region(buffer) is sbuf


def is_psum(buffer: MemoryRegion | str) -> builtins.bool:
    """Return whether a memory is PSUM."""
    return region(buffer) is psum


def program_ndim() -> int:
    """Return the dimensions of the launch grid: 0 for a launch without a grid, 1 for kernel[n]."""
    return 0 if recorder().grid is None else 1


def num_programs(axes: int | None = 0) -> int:
    """Return the number of programs that the kernel was launched with."""
    if axes is None:
        use("num_programs None")
    elif axes not in (0, (0,), [0]):
        raise UsageError(f"num_programs(axes={axes}): NKI 0.2 and later have axis 0 only.")
    return recorder().grid or 1


def program_id(axis: int = 0) -> int:
    """Return the number of this program, 0 where there is one."""
    if axis != 0:
        raise UsageError(f"program_id(axis={axis}): NKI 0.2 and later have axis 0 only.")
    seat = recorder().seat
    return 0 if seat is None else seat.id.number


def __getattr__(name: str) -> Any:
    known = sorted(n for n in globals() if not n.startswith("_"))
    raise AttributeError(f"nki.language has no '{name}'. Known: {', '.join(known)}.")

"""`nki.language`: dtypes, memories, tensors, operators, element-wise functions and loops.

Operators (`nl.add`) are names for `op=` arguments and functions on tiles alike.
"""
# ruff: noqa: F401  (this module is the names that it imports)

from __future__ import annotations

import builtins
import inspect
from typing import Any

from emuron.errors import UsageError
from emuron.isa.tensor import MemoryRegion
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
    shared_constant,
    shared_identity_matrix,
    store,
    transpose,
    zeros,
    zeros_like,
)
from emuron.nki.creation import copy as _copy
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
from emuron.nki.operators import Operator
from emuron.nki.recorder import active_recorder, recorder
from emuron.nki.reductions import all_ as all
from emuron.nki.reductions import max_ as max
from emuron.nki.reductions import mean, prod, rms_norm, softmax, var
from emuron.nki.reductions import min_ as min
from emuron.nki.reductions import sum_ as sum
from emuron.nki.registers import dynamic_range, fori_loop, while_loop
from emuron.nki.scheduling import no_reorder
from emuron.nki.tensor import NkiTensor
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


def is_on_chip(buffer: MemoryRegion) -> builtins.bool:
    """Return whether a memory is SBUF or PSUM."""
    return buffer.is_on_chip


def is_hbm(buffer: MemoryRegion) -> builtins.bool:
    """Return whether a memory is HBM."""
    return buffer in (private_hbm, shared_hbm)


def is_sbuf(buffer: MemoryRegion) -> builtins.bool:
    """Return whether a memory is SBUF."""
    return buffer is sbuf


def is_psum(buffer: MemoryRegion) -> builtins.bool:
    """Return whether a memory is PSUM."""
    return buffer is psum


def program_ndim() -> int:
    """Return the dimensions of the launch grid: 0 for a launch without a grid, 1 for kernel[n]."""
    return 0 if recorder().grid is None else 1


def num_programs(axes: int = 0) -> int:
    """Return the number of programs that the kernel was launched with."""
    return recorder().grid or 1


def program_id(axis: int = 0) -> int:
    """Return the number of this program, 0 where there is one."""
    if axis != 0:
        raise UsageError(f"program_id(axis={axis}): NKI 0.2 and later have axis 0 only.")
    seat = recorder().seat
    return 0 if seat is None else seat.id.number


def _plain(name: str, value: object) -> builtins.bool:
    """Return whether a class attribute can be a field: a value, neither code nor mutable."""
    return (
        not name.startswith("__") and not hasattr(value, "__get__") and value.__hash__ is not None
    )


class NKIObject:
    """Base of a kernel's own classes; its keywords become attributes.

    A subclass with annotations and no initialiser of its own takes them in order; missing ones are
    the class's value or None. The plain attributes of a class without annotations count as
    annotated, for `@dataclass` too.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not inspect.get_annotations(cls):
            cls.__annotations__ = {
                name: Any for name, value in vars(cls).items() if _plain(name, value)
            }

    def __init__(self, *values: Any, **named: Any) -> None:
        classes = reversed(type(self).__mro__)
        names = [name for kind in classes for name in inspect.get_annotations(kind)]
        if len(values) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, not {len(values)}")
        for name in names:
            setattr(self, name, getattr(type(self), name, None))
        for name, value in {**dict(zip(names, values, strict=False)), **named}.items():
            setattr(self, name, value)


def __getattr__(name: str) -> Any:
    known = sorted(n for n in globals() if not n.startswith("_"))
    raise AttributeError(f"nki.language has no '{name}'. Known: {', '.join(known)}.")

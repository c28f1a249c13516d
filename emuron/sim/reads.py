"""How operands leave memory: checked for unwritten bytes, widened to fp32, flattened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emuron.numerics.dtypes import DType, float32
from emuron.sim.access import Access
from emuron.sim.machine import Machine, Storage

Read = Callable[[Storage, int], Any]  # (where the tensor lies, offset of the view)

_PLAIN_KINDS = ("int", "uint", "bool")
_PLAIN_FLOATS = ("bfloat16", "float16")


def read_function(machine: Machine, access: Access, stored: bool, slot: object) -> Read:
    """Return how an operand becomes an array [rows, columns], fp32 or as it is `stored`.

    Widened values lie in the machine's scratch of that slot, until it is used again.
    """
    fold = access.shape != access.flat
    widen = None if stored or access.dtype == float32 else _widening(machine, access, slot)
    reshape, flat = machine.ops.reshape, access.flat

    def read(storage: Storage, offset: int) -> Any:
        x = storage.views.get((access, offset))
        if x is None:
            x = access.new_view(storage, offset)
        if storage.memory.unwritten:
            access.require_written(storage, offset)
        if widen is not None:
            x = widen(x)
        return reshape(x, flat) if fold else x

    return read


def _widening(machine: Machine, access: Access, slot: object) -> Callable[[Any], Any]:
    """Return how stored values become fp32: types that NumPy converts alike without a new array."""
    ops, dtype = machine.ops, access.dtype
    if ops.name != "numpy" or not _converts(dtype):
        return lambda x: ops.widen(x, dtype)
    wide = machine.scratch(slot, access.shape)

    def widen(x: Any) -> Any:
        np.copyto(wide, x, casting="unsafe")
        return wide

    return widen


def _converts(dtype: DType) -> bool:
    return dtype.kind in _PLAIN_KINDS or dtype in _PLAIN_FLOATS

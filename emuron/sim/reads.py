"""How operands leave memory: checked for unwritten bytes, widened to fp32, flattened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from emuron.numerics.dtypes import DType, float32
from emuron.sim.access import Access
from emuron.sim.machine import Machine, Storage

Read = Callable[[Storage, int], Any]  # (where the tensor lies, offset of the view)
Convert = Callable[[Any], Any]  # a view as stored -> [rows, columns], fp32 or as stored
Operand = tuple[int, int, Access, Convert | None]  # (argument, operand field, …)

Gather = Callable[[list[Storage], list[int]], list[Any]]  # -> the arguments of `compute`

_PLAIN_KINDS = ("int", "uint", "bool")
_PLAIN_FLOATS = ("bfloat16", "float16")


class Register(Protocol):
    """What an instruction reads and replaces beside its operands."""

    def content(self) -> Any:
        """Return the content, None if there is none."""

    def replace(self, content: Any) -> None:
        """Set the content."""


def read_function(machine: Machine, access: Access, stored: bool, slot: object) -> Read:
    """Return how an operand becomes an array [rows, columns], fp32 or as it is `stored`.

    Widened values lie in the machine's scratch of that slot, until it is used again.
    """
    convert = conversion(machine, access, stored, slot)

    def read(storage: Storage, offset: int) -> Any:
        x = storage.views.get((access, offset))
        if x is None:
            x = access.new_view(storage, offset)
        if storage.memory.unwritten:
            access.require_written(storage, offset)
        return x if convert is None else convert(x)

    return read


def gather_function(
    template: list[Any], reads: Sequence[Operand], register: Register | None
) -> Gather:
    """Return how the arguments of `compute` are gathered: the template with operands put in."""

    def gather(storages: list[Storage], offsets: list[int]) -> list[Any]:
        args = template.copy()
        for slot, k, access, convert in reads:
            storage, offset = storages[k], offsets[k]
            x = storage.views.get((access, offset))
            if x is None:
                x = access.new_view(storage, offset)
            if storage.memory.unwritten:
                access.require_written(storage, offset)
            args[slot] = x if convert is None else convert(x)
        if register is not None:
            args.append(register.content())
        return args

    return gather


def conversion(machine: Machine, access: Access, stored: bool, slot: object) -> Convert | None:
    """Return how a view becomes what `read_function` says; None if it is that already."""
    widen = None if stored or access.dtype == float32 else _widening(machine, access, slot)
    if access.shape == access.flat:
        return widen
    reshape, flat = machine.ops.reshape, access.flat
    if widen is None:
        return lambda x: reshape(x, flat)
    return lambda x: reshape(widen(x), flat)


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

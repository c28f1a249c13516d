"""How values reach memory: rounded to the destination's dtype under the machine's policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emuron.numerics.dtypes import DType, float32
from emuron.sim.access import Access
from emuron.sim.machine import Machine, Storage

Step = Callable[[list[Storage], list[int]], None]  # executes one instruction
Store = Callable[[Any, Any], None]  # (view, fp32 value or stored bits)

_DIRECT_CASTS = ("bfloat16", "float16")  # NumPy's own casts round to nearest even


def store_function(machine: Machine, target: DType, raw: bool) -> Store:
    """Return how a value is rounded and written into a view of dtype `target`."""
    backend, policy = machine.ops, machine.policy
    if raw or target == float32:
        copy: Store = backend.copyto
        return copy
    if backend.name == "numpy" and policy.rounding == "rne" and target in _DIRECT_CASTS:

        def cast(view: Any, value: Any) -> None:
            np.copyto(view, value, casting="unsafe")

        return cast
    if policy.rounding == "rne" or not target.is_float:
        return lambda view, value: backend.copyto(view, backend.round_to(value, target, policy))

    def stochastic(view: Any, value: Any) -> None:
        counter = machine.next_counter()
        backend.copyto(view, backend.round_to(value, target, policy, counter))

    return stochastic


def destination(access: Access, storage: Storage, offset: int) -> Any:
    """Return the view that is about to be written, noted as written."""
    found = storage.views.get((access, offset))
    if found is None:
        found = access.new_view(storage, offset)
    memory = storage.memory
    if memory.writable:
        if memory.unwritten:
            access.mark_written(storage, offset)
        return found
    access.mark_written(storage, offset)
    return access.view(storage, offset)  # the bytes are others now


def scatter(
    backend: Any, access: Access, store: Store, storage: Storage, offset: int, value: Any
) -> None:
    """Round and write a value (an array, or one number for all elements) into a view."""
    view = destination(access, storage, offset)
    if isinstance(value, (int, float)):
        backend.copyto(view, access.filling(value))
        return
    if value.shape != access.shape:
        value = backend.reshape(value, access.shape)
    store(view, value)

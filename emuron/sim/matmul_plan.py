"""How the functional simulator multiplies: products go into PSUM in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from emuron.isa.instruction import Form
from emuron.isa.tensor_engine import NcMatmul
from emuron.numerics.dtypes import DType, float32
from emuron.sim.access import Access
from emuron.sim.machine import Machine, Storage
from emuron.sim.stores import Step, Store, store_function

Product = Callable[[Any, Any, Any], Any]  # (stationary, moving, where to put it or None)

_STRIP = 16  # numerics.matmul: columns past a multiple of this take another kernel


def matmul_plan(form: Form, machine: Machine) -> Step:
    """Return the prepared execution of nc_matmul."""
    example, ops = form.example, machine.ops
    assert isinstance(example, NcMatmul)
    dst, stationary, moving = (
        Access(form.mnemonic, name, getattr(example, name), ops)
        for name in ("dst", "stationary", "moving")
    )
    multiply = _product(example, ops)
    store = store_function(machine, dst.dtype, False)
    in_place = dst.dtype == float32 and dst.shape == dst.flat
    left, right = _gather(stationary, ops), _gather(moving, ops)
    asked = example.accumulate

    def step(storages: list[Storage], offsets: list[int]) -> None:
        target, start = storages[0], offsets[0]
        view = dst.view(target, start)
        a, b = left(storages[1], offsets[1]), right(storages[2], offsets[2])
        if target.memory.unwritten:
            if asked is True:
                dst.require_written(target, start)
            dst.mark_written(target, start)
        add: Any = asked
        if not target.all_matmul:
            state = dst.matmul_state(target, start)
            add = state if asked is None else asked
        elif asked is None:
            add = True
        if in_place and add is False:
            product = multiply(a, b, view)
            if product is not view:
                ops.copyto(view, product)
        elif in_place and add is True:
            view += multiply(a, b, None)
        else:
            _store_general(ops, dst, store, view, multiply(a, b, None), add)

    return step


def _gather(access: Access, ops: Any) -> Callable[[Storage, int], Any]:
    """Return how an operand becomes fp32 [rows, columns]."""
    wide: DType | None = None if access.dtype == float32 else access.dtype
    fold = access.shape != access.flat
    widen, reshape, flat = ops.widen, ops.reshape, access.flat

    def gather(storage: Storage, offset: int) -> Any:
        x = access.view(storage, offset)
        if storage.memory.unwritten:
            access.require_written(storage, offset)
        if wide is not None:
            x = widen(x, wide)
        return reshape(x, flat) if fold else x

    return gather


def _store_general(ops: Any, dst: Access, store: Store, view: Any, product: Any, add: Any) -> None:
    """Write a product into strided or narrow PSUM; `add` is False, True or a mask of elements."""
    if add is not False:
        old = ops.reshape(ops.widen(view, dst.dtype), product.shape)
        total = ops.add(old, product)
        if add is True:
            product = total
        else:
            mask = ops.asarray(add.reshape(product.shape).astype(np.float32))
            product = ops.where(mask, total, product)
    store(view, ops.reshape(product, dst.shape))


def _product(example: NcMatmul, ops: Any) -> Product:
    """Return the product of gathered operands, written to the place given where that is possible.

    Where BLAS alone gives the bits that `numerics.matmul` defines (two rows or more, whole strips
    of columns, rows in order) it is called directly.
    """

    def general(stationary: Any, moving: Any, out: Any) -> Any:
        return example.compute(ops, None, stationary, moving)

    direct = ops.name == "numpy" and not example.double_row and example.columns > 1
    if not direct or example.moving_columns % _STRIP:
        return general
    unit = np.dtype(np.float32).itemsize

    def product(stationary: Any, moving: Any, out: Any) -> Any:
        if moving.strides[1] != unit or stationary.strides[1] != unit:
            return general(stationary, moving, out)
        if out is not None and out.strides[1] != unit:
            out = None
        return np.matmul(stationary.T, moving, out=out)

    return product

"""How the functional simulator multiplies: products go into PSUM in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from emuron.isa.instruction import Form
from emuron.isa.microscaling import NcMatmulMx
from emuron.isa.tensor_engine import NcMatmul
from emuron.numerics.dtypes import float32
from emuron.sim.access import Access
from emuron.sim.bands import BandedAccess
from emuron.sim.machine import Machine, Storage
from emuron.sim.reads import read_function
from emuron.sim.stores import Step, Store, scatter, store_function

if TYPE_CHECKING:
    from emuron.hardware.chip import NeuronCore

Gather = Callable[[list[Storage], list[int]], Any]
Product = Callable[[Any, Any, Any], Any]  # (stationary, moving, where to put it or None)

_STRIP = 16  # numerics.matmul: columns past a multiple of this take another kernel


def matmul_plan(form: Form, machine: Machine) -> Step:
    """Return the prepared execution of nc_matmul or nc_matmul_mx."""
    example = form.example
    if isinstance(example, NcMatmul) and exact_transpose(example, machine.core):
        return _transpose_plan(form, machine, _product_plan(form, machine))
    return _product_plan(form, machine)


def exact_transpose(matmul: NcMatmul, core: NeuronCore) -> bool:
    """Return whether a matmul passes bits through the array unchanged."""
    same = matmul.dst.dtype == matmul.stationary.dtype
    return matmul.is_transpose and core.features.transpose_bit_exact and same


def _transpose_plan(form: Form, machine: Machine, multiply: Step) -> Step:
    """Return the execution of a bit-exact transpose; the product where nothing is transposed.

    What passes through the array is moved unchanged where the moving operand is the identity.
    """
    matmul, ops = form.example, machine.ops
    assert isinstance(matmul, NcMatmul)
    dst = Access(form.mnemonic, "dst", matmul.dst, ops)
    bits = _gather(form, "stationary", machine, True)
    moving = _gather(form, "moving", machine)
    identity = np.eye(matmul.rows, matmul.moving_columns, dtype=np.float32)

    def step(storages: list[Storage], offsets: list[int]) -> None:
        if not np.array_equal(ops.numpy(moving(storages, offsets)), identity):
            multiply(storages, offsets)
            return
        turned = ops.transpose(bits(storages, offsets), (1, 0))
        scatter(ops, dst, ops.copyto, storages[0], offsets[0], turned)
        if not storages[0].all_matmul:
            dst.matmul_state(storages[0], offsets[0])

    return step


def _product_plan(form: Form, machine: Machine) -> Step:
    example, ops = form.example, machine.ops
    assert isinstance(example, NcMatmul | NcMatmulMx)
    dst = Access(form.mnemonic, "dst", example.dst, ops)
    multiply = _product(example, ops)
    store = store_function(machine, dst.dtype, False)
    in_place = dst.dtype == float32 and dst.shape == dst.flat
    left, right = (_operand(form, name, machine) for name in ("stationary", "moving"))
    part = machine.scratch("product", dst.flat) if ops.name == "numpy" else None
    asked = example.accumulate

    def step(storages: list[Storage], offsets: list[int]) -> None:
        target, start = storages[0], offsets[0]
        view = target.views.get((dst, start))
        if view is None:
            view = dst.new_view(target, start)
        a, b = left(storages, offsets), right(storages, offsets)
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
            view += multiply(a, b, part)
        else:
            _store_general(ops, dst, store, view, multiply(a, b, None), add)

    return step


def _operand(form: Form, name: str, machine: Machine) -> Gather:
    """Return how the stationary or the moving operand becomes fp32 [rows, columns]."""
    example, ops = form.example, machine.ops
    if not isinstance(example, NcMatmulMx):
        return _gather(form, name, machine)
    operand = getattr(example, name)
    packed, scales = _gather(form, name, machine), _gather(form, f"{name}_scale", machine)
    dequantized = example.dequantized
    return lambda storages, offsets: dequantized(
        ops, packed(storages, offsets), scales(storages, offsets), operand
    )


def _gather(form: Form, name: str, machine: Machine, raw: bool = False) -> Gather:
    """Return how an operand becomes [rows, columns], fp32 or as stored (with `raw`)."""
    example = form.example
    operand, band = getattr(example, name), example.band(name)
    access = Access(form.mnemonic, name, operand, machine.ops)
    if band is not None:
        access = BandedAccess(form.mnemonic, name, operand, machine.ops, None, band)
    read = read_function(machine, access, raw or name in example.stored, name)
    k = [field for field, _ in form.operand_fields].index(name)
    return lambda storages, offsets: read(storages[k], offsets[k])


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


def _product(example: NcMatmul | NcMatmulMx, ops: Any) -> Product:
    """Return the product of gathered operands, written to the place given where that is possible.

    Where BLAS alone gives the bits that `numerics.matmul` defines (two rows or more, whole strips
    of columns, rows in order) it is called directly.
    """

    def general(stationary: Any, moving: Any, out: Any) -> Any:
        return example.product(ops, stationary, moving)

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

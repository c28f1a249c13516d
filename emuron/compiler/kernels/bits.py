"""Kernels on the bits of stored integers and truths."""

from __future__ import annotations

from math import prod

from emuron.compiler.kernels.context import KernelContext, Placed, nisa
from emuron.compiler.kernels.elementwise import tiles
from emuron.compiler.kernels.movement import dense, move
from emuron.compiler.kernels.view import LogicalView
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType


def bitwise(
    k: KernelContext, op: str, seen_as: DType, inputs: tuple[Placed, ...], out: Placed
) -> None:
    """Write `x op y`, or ~x for one operand, on bits seen as an integer type of their size."""
    width = out.view.matrix().shape[1]
    values = [k.reachable(k.materialize(v), width) for v in inputs]
    for rows, columns in tiles(k, out, *values):
        target = k.target(out, rows, columns)
        found = [k.read(v, rows, columns).view(seen_as) for v in values]
        if len(found) == 1:
            nisa.tensor_scalar(target.view(seen_as), found[0], op, 0)
        else:
            nisa.tensor_tensor(target.view(seen_as), found[0], found[1], op)
        k.finish(target, out, rows, columns)


def shift_with_sign(k: KernelContext, x: Placed, amount: Placed, out: Placed) -> None:
    """Write x >> amount with copies of the sign coming in; the engine's own shift brings zeros.

    With s all ones where x is negative and else zeros, that is ((x ^ s) >> amount) ^ s.
    """
    width = out.view.matrix().shape[1]
    x, amount = (k.reachable(k.materialize(v), width) for v in (x, amount))
    for rows, columns in tiles(k, out, x, amount):
        target = k.target(out, rows, columns)
        found = k.read(x, rows, columns)
        sign, turned = (k.sbuf(tuple(found.shape), out.dtype) for _ in range(2))
        nisa.tensor_scalar(sign, found, "less", 0.0, False, "multiply", -1.0)
        nisa.tensor_tensor(turned, found, sign, "bitwise_xor")
        nisa.tensor_tensor(turned, turned, k.read(amount, rows, columns), "right_shift")
        nisa.tensor_tensor(target, turned, sign, "bitwise_xor")
        k.finish(target, out, rows, columns)


def bitcast(k: KernelContext, x: Placed, out: Placed) -> None:
    """Write the bytes of x, dense in HBM, as elements of out's dtype."""
    if prod(x.shape) * x.dtype.itemsize != prod(out.shape) * out.dtype.itemsize:
        raise UnsupportedOpError(f"bitcast has no kernel for what is cast to {x.dtype} in memory")
    seen = dense(k, x).storage.reshape((prod(x.shape),)).view(out.dtype)
    move(k, Placed(seen, LogicalView.dense(out.shape)), out)

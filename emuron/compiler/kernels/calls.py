"""Calls of kernels by hand from a graph's program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from emuron.compiler.kernels import elementwise
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.kernels.movement import dense, move
from emuron.compiler.kernels.view import LogicalView
from emuron.errors import UnsupportedOpError, UsageError
from emuron.nki.tensor import NkiTensor


def require_results(kernel: str, found: Sequence[Any], types: Sequence[Any]) -> None:
    """Check that what a kernel returned has the declared shapes; raise UsageError."""
    shapes = [tuple(f.shape) for f in found]
    declared = [t.shape or (1,) for t in types]
    if shapes != declared:
        raise UsageError(
            f"kernel {kernel} returned {[list(s) for s in shapes]}, declared are "
            f"{[list(s) for s in declared]}"
        )


def call_kernel(
    k: KernelContext,
    kernel: Callable[..., Any],
    name: str,
    named: dict[str, Any],
    updates: tuple[int, ...],
    inputs: tuple[Placed, ...],
    outputs: tuple[Placed, ...],
) -> None:
    """Write a kernel's instructions; operands that it writes to are copies."""
    if (getattr(kernel, "grid", None) or 1) > 1:
        raise UnsupportedOpError(
            f"kernel {name} is launched on {getattr(kernel, 'grid', None)} cores, a graph's "
            "program runs on one"
        )
    placed = [_copied(k, x) if i in updates else dense(k, x) for i, x in enumerate(inputs)]
    operands = [p.storage.reshape(p.shape or (1,)) for p in placed]
    returned = kernel(*operands, **named)
    k.constants.update(k.recorder.constants)
    given = returned if isinstance(returned, tuple | list) else (returned,)
    results = [g for g in given if isinstance(g, NkiTensor)][: len(outputs) - len(updates)]
    found = [*(_placed(r) for r in results), *(placed[number] for number in updates)]
    require_results(name, found, outputs)
    for value, out in zip(found, outputs, strict=True):
        view = value.view.reshape(out.shape)
        assert view is not None
        bring = move if value.dtype == out.dtype else elementwise.copy
        bring(k, value.seen_as(view), out)


def _copied(k: KernelContext, x: Placed) -> Placed:
    made = k.hbm(x.shape, x.dtype, "updated", "temporary")
    move(k, x, made)
    return made


def _placed(tensor: NkiTensor) -> Placed:
    if tensor.buffer.is_on_chip:
        raise UsageError(
            f"a kernel returned '{tensor.name}', which lies in {tensor.buffer.value}; allocate "
            "results in shared_hbm"
        )
    return Placed(tensor, LogicalView.dense(tuple(tensor.shape)))

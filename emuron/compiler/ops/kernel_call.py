"""A kernel by hand as an operator: the instructions that it writes are its lowering."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any, ClassVar

import numpy as np

from emuron.compiler.graph import Array, Op, TensorType
from emuron.compiler.kernels import calls
from emuron.compiler.kernels.context import KernelContext, Placed
from emuron.compiler.ops.arguments import require
from emuron.compiler.ops.context import EvalContext, Example
from emuron.compiler.ops.registry import op
from emuron.nki import isa, language
from emuron.nki.kernel import simulate
from emuron.numerics.dtypes import DType, dtype, float32
from emuron.numerics.rounding import round_to, widen


@dataclass(frozen=True, slots=True, eq=False)
class KernelFunction:
    """A kernel's function; its text tells apart functions of one name with other code."""

    call: Callable[..., Any]

    def __str__(self) -> str:
        func = getattr(self.call, "func", self.call)
        code = getattr(func, "__code__", None)
        name = f"{func.__module__}.{func.__qualname__}"
        if code is None or func.__closure__ or func.__defaults__:
            return f"{name}@{id(func)}"
        return f"{name}#{_digest(code).hexdigest()[:12]}"


def _digest(code: CodeType) -> Any:
    made = hashlib.sha256(code.co_code + repr(code.co_names).encode())
    for constant in code.co_consts:
        nested = isinstance(constant, CodeType)
        made.update(_digest(constant).digest() if nested else repr(constant).encode())
    return made


@op("kernel_call")
@dataclass(frozen=True, slots=True)
class KernelCall(Op):
    """What an NKI kernel returns for the operands, as tensors in HBM, and `attributes` by name.

    `results` are the declared types of what it returns. `updates` are the numbers of operands that
    it writes to: their new contents are outputs after the results. `evaluate` runs the kernel on
    the functional simulator, `lower` writes its instructions into the program.
    """

    kernel: KernelFunction
    results: tuple[TensorType, ...]
    named: tuple[tuple[str, Any], ...] = ()
    updates: tuple[int, ...] = ()
    moves_storage: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Return the declared types, then those of the operands that are written to."""
        for number in self.updates:
            require(0 <= number < len(types), f"updates names operand {number} of {len(types)}")
        return (*self.results, *(types[number] for number in self.updates))

    def evaluate(self, ev: EvalContext, *arrays: Array) -> tuple[Array, ...]:
        """Return what the kernel gives on copies of the operands, in the dtypes they lie in."""
        held = [ev.cast.written(t.dtype) for t in ev.types]
        stored = [
            _held(np.asarray(ev.backend.numpy(a)), t, to)
            for a, t, to in zip(arrays, ev.types, held, strict=True)
        ]
        returned = simulate(self.kernel.call, backend="numpy")(*stored, **dict(self.named))
        given = returned if isinstance(returned, tuple | list) else (returned,)
        given = [g for g in given if g is not None][: len(self.results)]
        found = (*given, *(stored[number] for number in self.updates))
        types = self.infer(*ev.types)
        calls.require_results(str(self.kernel), found, types)
        return tuple(_given(ev, f, t) for f, t in zip(found, types, strict=True))

    def lower(
        self, k: KernelContext, inputs: tuple[Placed, ...], outputs: tuple[Placed, ...]
    ) -> None:
        """Call the kernel on the operands in HBM and bring its results to their places."""
        calls.call_kernel(
            k, self.kernel.call, str(self.kernel), dict(self.named), self.updates, inputs, outputs
        )

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return a kernel with an attribute, and one that writes to its operand."""
        x = TensorType((4, 10), float32)
        return (
            Example(cls(KernelFunction(_scaled_sum), (x,), (("scale", 3.0),)), (x, x)),
            Example(cls(KernelFunction(_negate_in_place), (), updates=(0,)), (x,)),
        )


def _held(array: np.ndarray, type: TensorType, to: DType) -> np.ndarray:
    """Return a copy of a stored operand as it lies in HBM: float32 may be cast."""
    array = np.array(array.view(type.dtype.np)).reshape(type.shape or (1,))
    return array if to == type.dtype else round_to(array, to)


def _given(ev: EvalContext, array: np.ndarray, type: TensorType) -> Array:
    """Return a result in its declared dtype, rounded as what lies in HBM is."""
    array = np.ascontiguousarray(array).reshape(type.shape)
    found, held = dtype(array.dtype), ev.cast.written(type.dtype)
    if found != held:
        array, found = round_to(widen(array, found), held), held
    if found != type.dtype:
        array = widen(array, found)
    return ev.backend.asarray(array)


_nisa: Any = isa
_nl: Any = language


def _scaled_sum(x: Any, y: Any, scale: float) -> Any:
    """Return x + scale·y: an example of a kernel."""
    out = _nl.ndarray(x.shape, x.dtype, buffer=_nl.shared_hbm)
    tiles = [_nl.ndarray(x.shape, x.dtype, buffer=_nl.sbuf) for _ in range(2)]
    for tile, source in zip(tiles, (x, y), strict=True):
        _nisa.dma_copy(tile, source)
    _nisa.tensor_scalar(tiles[1], tiles[1], _nl.multiply, scale)
    _nisa.tensor_tensor(tiles[0], tiles[0], tiles[1], _nl.add)
    _nisa.dma_copy(out, tiles[0])
    return out


def _negate_in_place(x: Any) -> None:
    """Write -x to x: an example of a kernel."""
    tile = _nl.ndarray(x.shape, x.dtype, buffer=_nl.sbuf)
    _nisa.dma_copy(tile, x)
    _nisa.tensor_scalar(tile, tile, _nl.multiply, -1.0)
    _nisa.dma_copy(x, tile)

"""The table of ATen operators: what a handler is given, and how it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, overload

import numpy as np

from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType, bool_, dtype

NARROWED: Mapping[str, str] = MappingProxyType({"int64": "int32", "float64": "float32"})
"""Dtypes that the chip lacks and what stands for them; integers are checked where data enters."""


@dataclass(frozen=True, slots=True)
class Call:
    """One ATen call: the builder it is written with and the types that PyTorch gives it.

    `constant` returns the data of a value that depends on no input or weight, else None;
    `is_parameter` tells weights and buffers. `body` makes a graph of a module of control flow, its
    inputs given as number of the module's argument and type, so many last ones passed through.
    """

    b: GraphBuilder
    outs: tuple[TensorType, ...]
    constant: Callable[[Value], np.ndarray | None]
    is_parameter: Callable[[Value], bool]
    body: Callable[[Any, Sequence[tuple[int, TensorType]], int], Graph]

    @property
    def out(self) -> TensorType:
        """Type of the (first) result."""
        return self.outs[0]

    @overload
    def to_out(self, x: Value) -> Value: ...

    @overload
    def to_out(self, x: Value | float) -> Value | float: ...

    def to_out(self, x: Value | float) -> Value | float:
        """Return a tensor operand in the result's dtype; numbers pass."""
        return self.cast(x, self.out.dtype) if isinstance(x, Value) else x

    def cast(self, x: Value, to: DType) -> Value:
        """Return x in another dtype; to truth values by comparison with 0."""
        if to == bool_ and x.type.dtype != bool_:
            return self.b.compare("ne", x, 0)
        return self.b.cast(x, to)


@dataclass(frozen=True, slots=True)
class Complex:
    """Complex numbers as two tensors of one type."""

    real: Value
    imag: Value

    @property
    def type(self) -> TensorType:
        """Type of either part."""
        return self.real.type


Handler = Callable[..., Any]
"""Takes the Call and the ATen arguments, tensors as Values; returns one Value or several."""

HandlerT = TypeVar("HandlerT", bound=Handler)

_TABLE: dict[str, Handler] = {}
"""Filled while the modules of handlers are imported, and never after."""

TABLE: Mapping[str, Handler] = MappingProxyType(_TABLE)
"""Handlers by operator and overload, as `add.Tensor`; other namespaces than aten keep theirs."""


_COMPLEX_TABLE: dict[str, Handler] = {}

COMPLEX_TABLE: Mapping[str, Handler] = MappingProxyType(_COMPLEX_TABLE)
"""Handlers of operators with a complex operand or result; such tensors come as `Complex`."""


def aten(*names: str, of_complex: bool = False) -> Callable[[HandlerT], HandlerT]:
    """Register the decorated function as the handler of the ATen overloads `names`."""
    table = _COMPLEX_TABLE if of_complex else _TABLE

    def register(handler: HandlerT) -> HandlerT:
        for name in names:
            if name in table:
                raise AssertionError(f"two handlers for {name}")
            table[name] = handler
        return handler

    return register


def narrowed(torch_dtype: Any) -> DType:
    """Return the dtype that stands for one of PyTorch; raise UnsupportedOpError for complex."""
    name = str(torch_dtype).rpartition(".")[2]
    if name.startswith("complex"):
        raise UnsupportedOpError(f"{name} numbers have no place on the chip; use pairs of floats")
    return dtype(NARROWED.get(name, name))


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from 0."""
    return axis + rank if axis < 0 else axis

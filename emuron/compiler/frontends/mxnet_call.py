"""The table of MXNet operators: what a handler is given, and how it is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from emuron.compiler.frontends.known_values import KnownValues, narrowed
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import UnsupportedOpError, UsageError
from emuron.numerics.dtypes import DType, float32, int32

_NUMBER = re.compile(r"-?(?:\d+\.?\d*(?:e-?\d+)?|inf|nan)|None", re.IGNORECASE)
_MOST_TEXT = 4096
_TRUE = ("true", "1")


@dataclass(frozen=True, slots=True)
class Unshaped:
    """A variable without a shape so far: its first reader tells what it must be."""

    name: str
    declare: Callable[[TensorType], Value]
    has_weights: bool


Operand = Value | Unshaped


@dataclass(frozen=True, slots=True)
class Call:
    """One MXNet node: its attributes and the builder it is written with."""

    b: GraphBuilder
    known: KnownValues
    name: str
    op: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    # Operands

    def value(self, x: Operand) -> Value:
        """Return an operand as a value; raise UsageError for an input without a shape."""
        if isinstance(x, Value):
            return x
        if x.has_weights:
            raise UsageError(
                f"nothing tells the shape of the parameter {x.name!r}: give the .params file"
            )
        raise UsageError(
            f"the symbol does not say the shape of its input {x.name!r}: give it, as in "
            f"shapes={{{x.name!r}: (1, 3, 224, 224)}}"
        )

    def values(self, *operands: Operand) -> list[Value]:
        """Return operands as values."""
        return [self.value(x) for x in operands]

    def weight(self, x: Operand, *shape: int) -> Value:
        """Return a weight, which must be of the shape that the operator calls for."""
        if isinstance(x, Unshaped):
            return x.declare(TensorType(shape, float32))
        if x.shape != shape:
            raise UsageError(f"the weight {x.name!r} has shape {list(x.shape)}, not {list(shape)}")
        return x

    def index(self, x: Operand) -> Value:
        """Return whole numbers, which MXNet keeps as floats."""
        found = self.value(x)
        return found if found.type.dtype.kind in ("int", "uint") else self.b.cast(found, int32)

    # Attributes

    def text(self, name: str, default: str = "") -> str:
        """Return an attribute as it is written."""
        return self.attributes.get(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a truth value."""
        found = self.attributes.get(name)
        return default if found is None else found.strip().lower() in _TRUE

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a number."""
        found = self.attributes.get(name)
        if found is None or found == "None":
            return default
        if found.lower() in ("true", "false"):
            return float(found.lower() == "true")
        try:
            return float(found)
        except ValueError as error:
            raise UsageError(f"its attribute {name} is no number: {found!r}") from error

    def integer(self, name: str, default: int = 0) -> int:
        """Return a whole number."""
        found = self.number(name, default)
        if not float(found).is_integer():
            raise UsageError(f"its attribute {name} is no whole number: {found}")
        return int(found)

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return a tuple of whole numbers, also where one alone is written."""
        return tuple(0 if n is None else n for n in self.places(name, default))

    def places(self, name: str, default: tuple[int | None, ...] = ()) -> tuple[int | None, ...]:
        """Return a tuple of whole numbers and Nones."""
        found = self.attributes.get(name)
        if found is None or found in ("None", "", "()", "[]"):
            return default
        if len(found) > _MOST_TEXT:
            raise UsageError(f"its attribute {name} has {len(found)} characters")
        read = _NUMBER.findall(found)
        return tuple(None if n == "None" else int(float(n)) for n in read)

    def dtype(self, name: str, default: DType = float32) -> DType:
        """Return the dtype that stands for one of MXNet."""
        found = self.attributes.get(name)
        return default if found in (None, "None") else narrowed(np.dtype(found))

    def axis(self, rank: int, name: str = "axis", default: int = -1) -> int:
        """Return an axis counted from 0."""
        found = self.integer(name, default)
        if not -rank <= found < rank:
            raise UnsupportedOpError(f"axis {found} does not lie in a tensor of rank {rank}")
        return found % rank

    def axes(self, rank: int, name: str = "axis") -> tuple[int, ...]:
        """Return the axes that an attribute names, all if it is absent."""
        found = self.integers(name)
        return tuple(a % rank for a in found) if found else tuple(range(rank))


Handler = Callable[..., Any]
"""Takes the Call and the operands; returns one value or a list, in the order of the outputs."""

HandlerT = TypeVar("HandlerT", bound=Handler)

_TABLE: dict[str, Handler] = {}
"""Filled while the modules of handlers are imported, and never after."""

TABLE: Mapping[str, Handler] = MappingProxyType(_TABLE)
"""Handlers by operator."""


def mxnet(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Register the decorated function as the handler of the operators `names`."""

    def register(handler: HandlerT) -> HandlerT:
        for name in names:
            if name in _TABLE:
                raise AssertionError(f"two handlers for {name}")
            _TABLE[name] = handler
        return handler

    return register

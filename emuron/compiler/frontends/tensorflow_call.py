"""The table of TensorFlow operators: what a handler is given, and how it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from emuron.compiler.frontends.known_values import KnownValues, narrowed
from emuron.compiler.frontends.protobuf_wire import Message, bytes_of
from emuron.compiler.frontends.tensorflow_proto import mapping, np_dtype, sizes, tensor
from emuron.compiler.graph import Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import UnsupportedOpError
from emuron.numerics.dtypes import DType


@dataclass(frozen=True, slots=True)
class Variable:
    """A resource that holds a variable: its key in the checkpoint, dtype and shape."""

    key: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class TensorList:
    """A list of tensors, as loops collect them; None where nothing is set yet."""

    items: tuple[Value | None, ...]
    shape: tuple[int, ...] | None = None


Operand = Value | np.ndarray | Variable | TensorList
"""What flows in a TensorFlow graph: values of ours, data known now, and the rest."""


@dataclass(frozen=True, slots=True)
class Call:
    """One TensorFlow node: its attributes and the builder it is written with."""

    b: GraphBuilder
    known: KnownValues
    name: str
    op: str
    attributes: Mapping[str, Message]
    read: Callable[[Variable], Value]
    """Reads a variable."""
    invoke: Callable[[str, tuple[Operand, ...]], list[Operand]]
    """Calls a function of the library by name."""

    def value(self, x: Operand) -> Value:
        """Return an operand as a value of the graph."""
        if isinstance(x, np.ndarray):
            return self.known.value(x, self.name)
        if not isinstance(x, Value):
            raise UnsupportedOpError(f"takes a tensor, found a {type(x).__name__}")
        return x

    def values(self, *operands: Operand) -> list[Value]:
        """Return operands as values."""
        return [self.value(x) for x in operands]

    def array(self, x: Operand, what: str) -> np.ndarray:
        """Return an operand's data, which must follow from constants."""
        found = self.known.array(x) if isinstance(x, Value) else x
        if not isinstance(found, np.ndarray):
            raise UnsupportedOpError(
                f"its {what} depends on the values of a tensor, and must be known when the model "
                "is compiled"
            )
        return found

    def integers(self, x: Operand, what: str) -> list[int]:
        """Return a known operand as whole numbers, a list of one if it is a scalar."""
        return [int(i) for i in np.asarray(self.array(x, what)).reshape(-1)]

    def integer(self, x: Operand, what: str) -> int:
        """Return a known operand of one element as a whole number."""
        found = self.integers(x, what)
        if len(found) != 1:
            raise UnsupportedOpError(f"its {what} must be one number, found {len(found)}")
        return found[0]

    def axis(self, x: Operand, rank: int, what: str = "axis") -> int:
        """Return a known axis, counted from 0."""
        return self.axis_of(self.integer(x, what), rank)

    def axis_of(self, axis: int, rank: int) -> int:
        """Return an axis counted from 0; raise UnsupportedOpError if there is none such."""
        if not -rank <= axis < rank:
            raise UnsupportedOpError(f"axis {axis} does not lie in a tensor of rank {rank}")
        return axis % rank

    # Attributes

    def _attribute(self, name: str, field: str, default: Any) -> Any:
        return self.attributes.get(name, {}).get(field, default)

    def flag(self, name: str) -> bool:
        """Return a truth value (absent: false)."""
        return bool(self._attribute(name, "b", False))

    def number(self, name: str, default: float = 0) -> float:
        """Return a number, whole or not."""
        return float(self._attribute(name, "f", self._attribute(name, "i", default)))

    def text(self, name: str, default: str = "") -> str:
        """Return a string."""
        found = self._attribute(name, "s", None)
        return default if found is None else bytes(found).decode("utf-8", "replace")

    def numbers(self, name: str) -> list[int]:
        """Return a list of whole numbers."""
        found = self._attribute(name, "list", {}).get("i")
        return [] if found is None else [int(i) for i in found]

    def function(self, name: str) -> str:
        """Return the name of a function."""
        return str(self._attribute(name, "func", {}).get("name", ""))

    def np_dtype(self, name: str) -> np.dtype[Any]:
        """Return a dtype as the file means it."""
        return np_dtype(self._attribute(name, "type", 0), self.name)

    def dtype(self, name: str) -> DType:
        """Return the dtype that stands for that of an attribute."""
        return narrowed(self.np_dtype(name))

    def tensor(self, name: str) -> np.ndarray:
        """Return a constant's data."""
        return tensor(self._attribute(name, "tensor", {}), self.name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return a shape, -1 where a size is unknown; None if the rank is."""
        found = self._attribute(name, "shape", None)
        return None if found is None else sizes(found, self.name)

    @property
    def channels_last(self) -> bool:
        """Whether images lie as [batch, height, width, channels], which is the default."""
        return not self.text("data_format", "NHWC").startswith("NC")


Handler = Callable[..., Any]
"""Takes the Call and the operands; returns one operand or a list, in the order of the outputs."""

HandlerT = TypeVar("HandlerT", bound=Handler)

_TABLE: dict[str, Handler] = {}
"""Filled while the modules of handlers are imported, and never after."""

TABLE: Mapping[str, Handler] = MappingProxyType(_TABLE)
"""Handlers by operator."""


def tensorflow(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Register the decorated function as the handler of the operators `names`."""

    def register(handler: HandlerT) -> HandlerT:
        for name in names:
            if name in _TABLE:
                raise AssertionError(f"two handlers for {name}")
            _TABLE[name] = handler
        return handler

    return register


def attributes_of(node: Message) -> dict[str, Message]:
    """Return a node's attributes by name."""
    return mapping(node.get("attr", []))


def text_of(message: Message, name: str) -> str:
    """Return a bytes field as text."""
    return bytes(bytes_of(message, name)).decode("utf-8", "replace")

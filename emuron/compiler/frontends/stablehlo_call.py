"""The table of StableHLO operators: what a handler is given, and how it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from emuron.compiler.frontends.known_values import KnownValues
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import UnsupportedOpError


@dataclass(frozen=True, slots=True)
class Call:
    """One StableHLO operation: its attributes and regions, and the builder it is written with."""

    b: GraphBuilder
    known: KnownValues
    name: str
    attributes: Any
    """The attributes by name, as MLIR gives them."""
    numbers: Mapping[str, Callable[[Any], Any]]
    """What reads the structures of dimension numbers, by the attribute's name."""
    regions: Sequence[Any]
    outs: tuple[TensorType, ...]
    inline: Callable[..., list[Value]]
    """Writes a region, or a function by its name, on operands."""

    @property
    def out(self) -> TensorType:
        """Type of the (first) result."""
        return self.outs[0]

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """Return an array of whole numbers."""
        if name not in self.attributes:
            return list(default)
        return [int(n) for n in self.attributes[name]]

    def pairs(self, name: str, count: int) -> list[tuple[int, int]]:
        """Return pairs of whole numbers, zeros if the attribute is absent."""
        if name not in self.attributes:
            return [(0, 0)] * count
        found = np.array(self.attributes[name]).reshape(-1, 2)
        return [(int(low), int(high)) for low, high in found]

    def integer(self, name: str, default: int = 0) -> int:
        """Return a whole number."""
        return int(self.attributes[name].value) if name in self.attributes else default

    def text(self, name: str) -> str:
        """Return the text of an attribute, of an enumeration its last word."""
        return str(self.attributes[name]).strip("#<>").rpartition(" ")[2].rstrip(">").strip('"@')

    def structure(self, name: str) -> Any:
        """Return a structure of dimension numbers."""
        return self.numbers[name](self.attributes[name])

    def body(self, index: int = 0) -> list[str]:
        """Return the names of the operators in a region."""
        (block,) = self.regions[index].blocks
        return [op.operation.name.partition(".")[2] for op in block.operations]

    def combiner(self, kinds: Mapping[str, str], index: int = 0) -> str:
        """Return what the one operator of a region means; `return` alone counts as its name."""
        operators = self.body(index)
        name = operators[0] if len(operators) <= 2 else ""
        if name not in kinds:
            raise UnsupportedOpError(f"a reduction by {' and '.join(operators[:-1]) or 'nothing'}")
        return kinds[name]


Handler = Callable[..., Any]
"""Takes the Call and the operands as Values; returns one Value or several."""

HandlerT = TypeVar("HandlerT", bound=Handler)

_TABLE: dict[str, Handler] = {}
"""Filled while the modules of handlers are imported, and never after."""

TABLE: Mapping[str, Handler] = MappingProxyType(_TABLE)
"""Handlers by operator, with its dialect unless that is stablehlo."""


def stablehlo(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Register the decorated function as the handler of the operators `names`."""

    def register(handler: HandlerT) -> HandlerT:
        for name in names:
            if name in _TABLE:
                raise AssertionError(f"two handlers for {name}")
            _TABLE[name] = handler
        return handler

    return register

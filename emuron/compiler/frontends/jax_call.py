"""The table of JAX primitives: what a handler is given, and how it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from emuron.compiler.frontends.known_values import KnownValues
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import GraphBuilder


@dataclass(frozen=True, slots=True)
class Call:
    """One equation of a jaxpr: its parameters, the types of its results, and the builder."""

    b: GraphBuilder
    known: KnownValues
    name: str
    params: Mapping[str, Any]
    outs: tuple[TensorType, ...]
    inline: Callable[..., list[Value]]
    """Writes a jaxpr, closed or with its constants given, on operands."""

    @property
    def out(self) -> TensorType:
        """Type of the (first) result."""
        return self.outs[0]

    def __getitem__(self, name: str) -> Any:
        return self.params[name]

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a parameter that is a tuple of whole numbers."""
        return tuple(int(n) for n in self.params[name] or ())


Handler = Callable[..., Any]
"""Takes the Call and the operands as Values; returns one Value or several."""

HandlerT = TypeVar("HandlerT", bound=Handler)

_TABLE: dict[str, Handler] = {}
"""Filled while the modules of handlers are imported, and never after."""

TABLE: Mapping[str, Handler] = MappingProxyType(_TABLE)
"""Handlers by primitive."""


def jaxpr(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Register the decorated function as the handler of the primitives `names`."""

    def register(handler: HandlerT) -> HandlerT:
        for name in names:
            if name in _TABLE:
                raise AssertionError(f"two handlers for {name}")
            _TABLE[name] = handler
        return handler

    return register

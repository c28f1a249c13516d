"""The table of ONNX operators: what a handler is given, and how it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from emuron.compiler.frontends.onnx_operand import Operand, OperandStore
from emuron.compiler.frontends.onnx_read import stored
from emuron.compiler.frontends.onnx_types import dtype_of
from emuron.compiler.graph import Op, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import ModelFileError, UnsupportedOpError
from emuron.numerics.dtypes import DType


class NotWholeError(UnsupportedOpError):
    """An operator that has no form of its own here; its function body may do instead."""


class UnknownDataError(UnsupportedOpError):
    """A tensor whose numbers must be known when the model is compiled, and are not.

    `inputs` are the model's inputs that it depends on.
    """

    def __init__(self, message: str, inputs: tuple[str, ...] = ()) -> None:
        self.inputs = inputs
        super().__init__(message)

    def __reduce__(self) -> tuple[type[UnknownDataError], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.inputs)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One node: its attributes, its operands by number and the builder it is written with.

    `body` writes a graph that is an attribute (a branch, the body of a loop) with the operands
    that its inputs are bound to, and returns its results. `elements` takes the element type of a
    result where a wider dtype stands for it.
    """

    store: OperandStore
    kind: str
    attributes: Mapping[str, Any]
    operands: Sequence[Operand | None]
    results: Sequence[str]
    body: Callable[[Any, Sequence[Operand]], list[Operand]]
    elements: dict[int, int] = field(default_factory=dict)

    @property
    def b(self) -> GraphBuilder:
        """The graph's builder."""
        return self.store.b

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, strings decoded; `default` if it is not given."""
        return self.attributes.get(name, default)

    def required(self, name: str) -> Any:
        """Return an attribute that the node must have."""
        if name not in self.attributes:
            raise ModelFileError(f"{self.kind}: the attribute {name!r} is missing")
        return self.attributes[name]

    def tensor(self, name: str) -> np.ndarray:
        """Return the numbers of an attribute that is a tensor."""
        return stored(self.required(name)).load()

    def has(self, index: int) -> bool:
        """Whether operand `index` is given; an empty name stands for one that is not."""
        return index < len(self.operands) and self.operands[index] is not None

    def wants(self, index: int) -> bool:
        """Whether result number `index` is asked for."""
        return index < len(self.results) and bool(self.results[index])

    def operand(self, index: int) -> Operand:
        """Return operand `index`; raise ModelFileError if it is missing."""
        found = self.operands[index] if index < len(self.operands) else None
        if found is None:
            raise ModelFileError(f"{self.kind}: operand {index} is missing")
        return found

    def x(self, index: int = 0) -> Value:
        """Return an operand as a value of the graph."""
        return self.store.value(self.operand(index))

    def maybe(self, index: int) -> Value | None:
        """Return an operand as a value of the graph, None if it is not given."""
        return self.x(index) if self.has(index) else None

    def all(self) -> list[Value]:
        """Return all operands as values of the graph."""
        return [self.x(i) for i in range(len(self.operands))]

    def data(self, index: int) -> np.ndarray | None:
        """Return the numbers of an operand, None if they are not known or it is not given."""
        return self.operand(index).data if self.has(index) else None

    def known(self, index: int) -> np.ndarray:
        """Return the numbers of an operand; raise UnknownDataError if they depend on the inputs."""
        found = self.operand(index)
        data = found.data
        if data is None:
            inputs = self.store.inputs_behind(found)
            listed = ", ".join(repr(name) for name in inputs)
            why = (
                f"depends on the input {listed}; bind it as a constant"
                if inputs
                else ("is computed from weights")
            )
            raise UnknownDataError(
                f"operand {index} ({found.name!r}) must be known when the model is compiled, but "
                f"{why}",
                inputs,
            )
        return data

    def ints(self, index: int) -> list[int]:
        """Return the known integers of an operand."""
        return [int(n) for n in self.known(index).reshape(-1)]

    def number(self, index: int, default: float) -> float:
        """Return the one known number of an operand, `default` if it is not given."""
        if not self.has(index):
            return default
        data = self.known(index)
        if data.size != 1:
            raise ModelFileError(f"{self.kind}: operand {index} must be one number")
        found: float = data.reshape(-1)[0].item()
        return found

    def element(self, index: int) -> int:
        """Return the element type that the model gives an operand."""
        return self.operand(index).element

    def dtype(self, element: int) -> DType:
        """Return the dtype that stands for an element type of the model."""
        return dtype_of(element, "the result")

    def axis(self, axis: int, rank: int) -> int:
        """Return an axis counted from 0; raise ModelFileError if there is none such."""
        if not -rank <= axis < rank:
            raise ModelFileError(f"{self.kind}: axis {axis} of a tensor of rank {rank}")
        return axis % rank

    def cast(self, x: Value, to: DType) -> Value:
        """Return x in another dtype; to truth values by comparison with 0."""
        if to.kind == "bool" and x.type.dtype.kind != "bool":
            return self.b.compare("ne", x, 0)
        return self.b.cast(x, to)

    def one(self, op: Op, *operands: Value) -> Value:
        """Append a node of one output."""
        return self.b.one(op, *operands)


Handler = Callable[[Call], Any]
"""Returns one result or several; each is a Value, or an array if its numbers are known.

Raises NotWholeError to have the operator's function body taken instead.
"""

HandlerT = TypeVar("HandlerT", bound=Handler)

_TABLE: dict[str, Handler] = {}
"""Filled while the modules of handlers are imported, and never after."""

TABLE: Mapping[str, Handler] = MappingProxyType(_TABLE)
"""Handlers by operator; those of another domain than the default one as `domain:operator`."""


def onnx_op(*names: str) -> Callable[[HandlerT], HandlerT]:
    """Register the decorated function as the handler of the ONNX operators `names`."""

    def register(handler: HandlerT) -> HandlerT:
        for name in names:
            if name in _TABLE:
                raise AssertionError(f"two handlers for {name}")
            _TABLE[name] = handler
        return handler

    return register

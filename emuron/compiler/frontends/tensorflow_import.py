"""Walks TensorFlow graphs and the functions they call, and writes ours, node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from emuron.compiler.frontends import tensorflow_blocks as _blocks
from emuron.compiler.frontends import tensorflow_control as _control
from emuron.compiler.frontends import tensorflow_math as _math
from emuron.compiler.frontends import tensorflow_moves as _moves
from emuron.compiler.frontends import tensorflow_nn as _nn
from emuron.compiler.frontends.known_values import KnownValues
from emuron.compiler.frontends.protobuf_wire import Message
from emuron.compiler.frontends.tensorflow_call import (
    TABLE,
    Call,
    Operand,
    Variable,
    attributes_of,
)
from emuron.compiler.frontends.tensorflow_proto import mapping
from emuron.compiler.graph import Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import EmuronError, ModelFileError, UnsupportedOpError

MODULES = (_blocks, _control, _math, _moves, _nn)
"""Where the handlers of the table stand: importing them fills it."""

MOST_CALLS = 64
"""Functions within functions; a function that calls itself would never end."""

MOST_NODES = 100_000
"""Nodes of all calls of one import."""

_OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "SoftmaxCrossEntropyWithLogits": ("loss", "backprop"),
    "SparseSoftmaxCrossEntropyWithLogits": ("loss", "backprop"),
    "TensorListPopBack": ("output_handle", "tensor"),
    "TopKV2": ("values", "indices"),
    "TopK": ("values", "indices"),
}
"""Names of the outputs, in order, of operators with several; of all others position is enough."""


@dataclass(slots=True)
class Body:
    """The nodes of a graph or function by name, and what its arguments are."""

    name: str
    nodes: dict[str, Message]
    results: dict[str, list[Operand]] = field(default_factory=dict)


class Importer:
    """The state of one import: the library of functions, weights and what is written so far."""

    def __init__(
        self,
        name: str,
        graph: Message,
        parameter: Callable[[GraphBuilder, Variable], Value],
    ) -> None:
        """Prepare to import `graph` (a GraphDef); `parameter` declares a variable's weight."""
        self.b = GraphBuilder(name)
        self.known = KnownValues(self.b)
        self.parameter = parameter
        functions = graph.get("library", {}).get("function", [])
        self.functions = {f.get("signature", {}).get("name", ""): f for f in functions}
        self.top = Body(name, _by_name(graph.get("node", [])))
        self.calls: list[str] = []
        self.left = MOST_NODES

    def result(self, reference: str) -> Operand:
        """Return what an output of the graph is, by its name `node:place`."""
        return self._operand(self.top, reference)

    def set_input(self, reference: str, value: Value) -> None:
        """Put a graph input in the place of a placeholder."""
        node = reference.partition(":")[0]
        if node not in self.top.nodes:
            raise ModelFileError(f"{self.b.name}: the input {node!r} is no node of the graph")
        self.top.results[node] = [value]

    # Walking

    def _operand(self, body: Body, reference: str) -> Operand:
        name, *rest = reference.split(":")
        self._ensure(body, name)
        found = body.results[name]
        place = self._place(body, name, rest)
        if not 0 <= place < len(found):
            raise UnsupportedOpError(
                f"{body.name}: {name!r} has {len(found)} outputs here, and {reference!r} is read"
            )
        return found[place]

    def _place(self, body: Body, name: str, rest: list[str]) -> int:
        """Return the place that `node`, `node:1` or, in functions, `node:output:1` means."""
        place = int(rest[-1]) if rest and rest[-1].isdigit() else 0
        if len(rest) < 2:
            return place
        op = body.nodes.get(name, {}).get("op", "")
        names = _OUTPUTS.get(op.rstrip("V23") if op.startswith("FusedBatchNorm") else op, ())
        return names.index(rest[0]) + place if rest[0] in names else place

    def _ensure(self, body: Body, name: str) -> None:
        """Import a node and all it needs, the deepest first, without recursion."""
        stack: list[tuple[str, Iterator[str]]] = []
        entered: set[str] = set()

        def enter(wanted: str) -> None:
            if wanted in body.results:
                return
            if wanted in entered:
                raise ModelFileError(f"{body.name}: the node {wanted!r} depends on itself")
            if wanted not in body.nodes:
                raise ModelFileError(f"{body.name}: the node {wanted!r} is read and does not exist")
            entered.add(wanted)
            stack.append((wanted, iter(_inputs(body.nodes[wanted]))))

        enter(name)
        while stack:
            current, left = stack[-1]
            needed = next(left, None)
            if needed is not None:
                enter(needed.partition(":")[0])
                continue
            stack.pop()
            entered.discard(current)
            body.results[current] = self._node(body, body.nodes[current])

    def _node(self, body: Body, node: Message) -> list[Operand]:
        self.left -= 1
        if self.left < 0:
            raise UnsupportedOpError(
                f"{self.b.name} has more than {MOST_NODES} nodes once its functions are inlined"
            )
        name, op = node.get("name", ""), node.get("op", "")
        handler = TABLE.get(op)
        if handler is None:
            raise UnsupportedOpError(
                f"{op} at {name!r}: the TensorFlow front end does not know this operator"
            )
        operands = tuple(self._operand(body, i) for i in _inputs(node))
        call = Call(self.b, self.known, name, op, attributes_of(node), self._read, self._invoke)
        scope = name.rpartition("/")[0].replace("/", ".")
        with self.b.at(name), self.b.scope(scope) if scope else nullcontext():
            try:
                found: Any = handler(call, *operands)
            except EmuronError as error:
                if str(error).startswith((op, f"{self.b.name}:")) or " at '" in str(error):
                    raise
                raise UnsupportedOpError(f"{op} at {name!r}: {error}") from error
            except (TypeError, IndexError, ValueError) as error:
                raise ModelFileError(
                    f"{op} at {name!r}: its {len(operands)} inputs or its attributes are not those "
                    f"of this operator ({error})"
                ) from error
        return found if isinstance(found, list) else [found]

    def _read(self, variable: Variable) -> Value:
        return self.parameter(self.b, variable)

    def _invoke(self, name: str, arguments: tuple[Operand, ...]) -> list[Operand]:
        """Return the results of a function of the library."""
        function = self.functions.get(name)
        if function is None:
            raise ModelFileError(f"{self.b.name}: the function {name!r} is not in the library")
        if len(self.calls) >= MOST_CALLS:
            raise ModelFileError(
                f"{self.b.name}: functions call each other more than {MOST_CALLS} deep"
            )
        signature = function.get("signature", {})
        names = [a.get("name", "") for a in signature.get("input", [])]
        if len(names) != len(arguments):
            raise ModelFileError(
                f"{self.b.name}: the function {name!r} takes {len(names)} arguments, "
                f"{len(arguments)} are given"
            )
        given = {n: [x] for n, x in zip(names, arguments, strict=True)}
        body = Body(name, _by_name(function.get("node", [])), given)
        returned = mapping(function.get("ret", []))
        self.calls.append(name)
        try:
            outputs = [a.get("name", "") for a in signature.get("output", [])]
            return [self._operand(body, str(returned.get(o, o))) for o in outputs]
        finally:
            self.calls.pop()


def _by_name(nodes: list[Message]) -> dict[str, Message]:
    return {n.get("name", ""): n for n in nodes}


def _inputs(node: Message) -> list[str]:
    """Return the data inputs of a node; control inputs begin with ^."""
    return [i for i in node.get("input", []) if not i.startswith("^")]

"""Writes nodes of an exported program as operators of a graph; constants are computed first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

# The handlers register themselves when their modules are imported.
from emuron.compiler.frontends import (
    torch_complex,
    torch_control,
    torch_functions,
    torch_kernels,
    torch_math,
    torch_moves,
    torch_places,
    torch_quantized,
    torch_recurrent,
    torch_reductions,
    torch_sums,
    torch_windows,
)
from emuron.compiler.frontends.torch_call import (
    COMPLEX_TABLE,
    TABLE,
    Call,
    Complex,
    Handler,
    narrowed,
)
from emuron.compiler.frontends.torch_node import (
    base_of,
    has_equal_halves,
    is_getitem,
    is_ignored,
    is_pure,
    key_of,
    name_of,
    scope_of,
    source_of,
)
from emuron.compiler.frontends.torch_tensors import to_numpy, type_of
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.ops.creation import MOST_CONSTANT_ELEMENTS
from emuron.errors import EmuronError, UnsupportedOpError

MODULES = (
    torch_complex,
    torch_control,
    torch_functions,
    torch_kernels,
    torch_math,
    torch_moves,
    torch_places,
    torch_quantized,
    torch_recurrent,
    torch_reductions,
    torch_sums,
    torch_windows,
)
"""Where the handlers of the table stand."""


_VIEWS = frozenset({"unsqueeze", "squeeze", "expand", "view", "permute", "alias", "clone"})
"""Operators applied in the graph to a constant of many users, so that they share its data."""

_NO_EFFECT_HERE = ("device", "layout", "pin_memory", "memory_format")
_MOST_FOLDED_ELEMENTS = 1 << 27
_MOST_LISTED_OPS = 5


class NodeWriter:
    """The values and constants of the nodes of one graph of PyTorch, and the builder they go to.

    `owner` is the GraphModule that holds the graphs of its control flow.
    """

    def __init__(self, torch: Any, owner: Any, name: str) -> None:
        self.torch = torch
        self.owner = owner
        self.b = GraphBuilder(name)
        self.values: dict[Any, Any] = {}
        self.tensors: dict[Any, Any] = {}
        self.known: dict[Value, Any] = {}
        self.weights: set[Value] = set()

    def write(self, nodes: list[Any]) -> None:
        """Write every node that is needed; placeholders have their values already."""
        calls = [n for n in nodes if n.op == "call_function" and not is_ignored(n)]
        for node in nodes:
            if node.op == "get_attr":
                self.values[node] = getattr(self.owner, node.target)
        for node in calls:
            self._fold(node)
        self._refuse_unknown(nodes)
        needed = self._needed_constants(nodes)
        for node in calls:
            self._call(node, needed)

    def _refuse_unknown(self, nodes: list[Any]) -> None:
        unknown: dict[str, str] = {}
        for node in nodes:
            self._refuse_unknown_shape(node)
            if node.op != "call_function" or is_ignored(node) or is_getitem(node):
                continue
            if node not in self.tensors and self._handler(node) is None:
                unknown.setdefault(name_of(node), source_of(node))
        if not unknown:
            return
        shown = [f"{name} at {at or 'an unknown line'}" for name, at in unknown.items()]
        more = len(shown) - _MOST_LISTED_OPS
        listed = "; ".join(shown[:_MOST_LISTED_OPS]) + (f"; and {more} more" if more > 0 else "")
        raise UnsupportedOpError(
            f"{self.b.name} uses operators that the PyTorch frontend does not know: {listed}. "
            "Write them with other operators"
        )

    def _refuse_unknown_shape(self, node: Any) -> None:
        shape = getattr(node.meta.get("val"), "shape", ())
        if not all(isinstance(n, int) for n in shape):
            raise UnsupportedOpError(
                f"{name_of(node)} at {source_of(node) or node.name}: the shape of its result, "
                f"{list(map(str, shape))}, depends on the values of a tensor, and must be known "
                "when the model is compiled; use torch.where in place of boolean masks"
            )

    def _held_as(self, name: str, tensor: Any, type: TensorType) -> Value | Complex:
        """Return a weight, buffer or constant, both parts of complex numbers (None: no data)."""
        if tensor is None or not tensor.is_complex():
            return self._parameter(name, tensor, type)
        parts = self.torch.view_as_real(tensor)
        real, imag = (
            self._parameter(f"{name}.{i}", parts[..., k], type)
            for k, i in enumerate(("real", "imag"))
        )
        return Complex(real, imag)

    def _parameter(self, name: str, tensor: Any, type: TensorType) -> Value:
        has_data = tensor is not None and not tensor.is_meta
        loader = partial(to_numpy, self.torch, tensor) if has_data else None
        value = self.b.parameter(name, type, loader)
        self.weights.add(value)
        return value

    # Constants: what depends on no input and no weight is computed here, by PyTorch.

    def _fold(self, node: Any) -> None:
        inputs = node.all_input_nodes
        if not all(n in self.tensors for n in inputs) or not is_pure(self.torch, node):
            return
        found = node.meta.get("val")
        if not isinstance(found, self.torch.Tensor) or found.numel() > _MOST_FOLDED_ELEMENTS:
            return
        held = [self.tensors[n] for n in inputs]
        on_meta = any(t.is_meta for t in held)

        def operand(n: Any) -> Any:
            return self.tensors[n].to("meta") if on_meta else self.tensors[n]

        map_arg = self.torch.fx.node.map_arg
        args, kwargs = map_arg(node.args, operand), dict(map_arg(node.kwargs, operand))
        if kwargs.get("device") is not None:
            kwargs["device"] = "meta" if on_meta else "cpu"
        with self.torch.no_grad():
            self.tensors[node] = node.target(*args, **kwargs)

    def _needed_constants(self, nodes: list[Any]) -> set[Any]:
        """Return the constant nodes that the graph itself must hold."""
        needed: set[Any] = set()
        for node in reversed(nodes):
            users = [u for u in node.users if not is_ignored(u)]
            if node in self.tensors and any(
                u not in self.tensors or (u in needed and self._stays(u)) for u in users
            ):
                needed.add(node)
        return needed

    def _stays(self, node: Any) -> bool:
        """Tell whether a constant node is written as an operator on another constant."""
        return base_of(node) in _VIEWS and self._uniform(node) is None

    def _uniform(self, node: Any) -> float | None:
        """Return the number that a constant is everywhere, or None."""
        tensor = self.tensors[node]
        if tensor.is_meta or not tensor.numel() or tensor.is_complex():
            return None
        first = tensor.reshape(-1)[0]
        return first.item() if bool((tensor == first).all()) else None

    def _constant(self, node: Any) -> Value | Complex:
        """Return the value that holds a constant's data, its equal halves once."""
        tensor, type = self.tensors[node], type_of(node.meta["val"])
        number = self._uniform(node)
        if number is not None:
            return self.b.full(number, type.shape, type.dtype)
        where = ".".join(part for part in (scope_of(node), "constant", node.name) if part)
        if not has_equal_halves(node):
            return self._held_as(where, tensor, type)
        half = type.with_shape(*type.shape[:-1], type.shape[-1] // 2)
        held = self._parameter(where, tensor[..., : half.shape[-1]], half)
        return self.b.concat([held, held], len(type.shape) - 1)

    def _data(self, value: Value) -> np.ndarray | None:
        tensor = self.known.get(value)
        return None if tensor is None or tensor.is_meta else to_numpy(self.torch, tensor)

    # Nodes

    def _call(self, node: Any, needed: set[Any]) -> None:
        if node in self.tensors and node not in needed:
            return
        scope, source = scope_of(node), source_of(node)
        with ExitStack() as stack:
            if scope:
                stack.enter_context(self.b.scope(scope))
            stack.enter_context(self.b.at(source))
            if is_getitem(node):
                self.values[node] = self.values[node.args[0]][node.args[1]]
            elif node in self.tensors and not self._stays(node):
                self.values[node] = self._constant(node)
            else:
                self.values[node] = self._handled(node, source)
        if node in self.tensors and isinstance(self.values[node], Value):
            self.known[self.values[node]] = self.tensors[node]

    def _handler(self, node: Any) -> Handler | None:
        """Return what writes a node: a table's entry, or the kernel that a custom operator is."""
        if any(_is_complex(n) for n in (node, *node.all_input_nodes)):
            return COMPLEX_TABLE.get(key_of(node))
        known = TABLE.get(key_of(node))
        return known or torch_kernels.handler(self.torch, node.target)

    def _handled(self, node: Any, source: str) -> Any:
        found = node.meta["val"]
        where = f"{name_of(node)} at {source or node.name}"
        tensors = found if isinstance(found, list | tuple) else (found,)
        try:
            outs = tuple(type_of(t) for t in tensors)
            call = Call(self.b, outs, self._data, self.weights.__contains__, self._body)
            options = {k: v for k, v in node.kwargs.items() if k not in _NO_EFFECT_HERE}
            args, kwargs = self._argument(node.args), self._argument(options)
            write = self._handler(node)
            assert write is not None
            result = write(call, *args, **kwargs)
        except EmuronError as error:
            named = source and source in str(error)
            raise UnsupportedOpError(f"{name_of(node) if named else where}: {error}") from error
        made = (result,) if isinstance(result, Value | Complex) else tuple(result)
        for value, out in zip(made, outs, strict=True):
            if value.type != out:
                raise UnsupportedOpError(
                    f"{where}: PyTorch gives {out} where the frontend builds {value.type}"
                )
        return result if isinstance(found, list | tuple) else made[0]

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, self.torch.fx.Node):
            return self.values[argument]
        if isinstance(argument, list | tuple):
            return [self._argument(a) for a in argument]
        if isinstance(argument, dict):
            return {k: self._argument(a) for k, a in argument.items()}
        return narrowed(argument) if isinstance(argument, self.torch.dtype) else argument

    def value_of(self, leaf: Any) -> Value:
        """Return the value of an output's node; raise UnsupportedOpError for complex numbers."""
        found = self.values[leaf] if leaf in self.values else self._constant(leaf)
        if not isinstance(found, Value):
            raise UnsupportedOpError(
                f"{self.b.name} returns complex numbers; return torch.view_as_real of them"
            )
        return found

    # Graphs of control flow

    def _body(
        self, module: Any, inputs: Sequence[tuple[int, TensorType]], passed: int = 0
    ) -> Graph:
        """Return a module as a graph; see `Call.body`."""
        writer = BodyWriter(self.torch, module, f"{self.b.name}.body")
        nodes = list(module.graph.nodes)
        arguments = [n for n in nodes if n.op == "placeholder"]
        given = [writer.b.input(f"operand_{i}", type) for i, (_, type) in enumerate(inputs)]
        for (place, _), value in zip(inputs, given, strict=True):
            writer.values[arguments[place]] = value
        writer.write(nodes)
        leaves = nodes[-1].args[0]
        leaves = leaves if isinstance(leaves, list | tuple) else (leaves,)
        results = [writer.value_of(leaf) for leaf in leaves] + given[len(given) - passed :]
        for i, value in enumerate(results):
            writer.b.output(f"result_{i}", value)
        return writer.b.finish()


class BodyWriter(NodeWriter):
    """A NodeWriter of a graph within an operator, which has no weights of its own."""

    def _parameter(self, name: str, tensor: Any, type: TensorType) -> Value:
        if tensor is None or tensor.is_meta or type.elements > MOST_CONSTANT_ELEMENTS:
            raise UnsupportedOpError(
                f"{name} [{type}] is made within a branch or loop; make it outside of it"
            )
        return self.b.constant(to_numpy(self.torch, tensor).reshape(-1).tolist(), type)


def _is_complex(node: Any) -> bool:
    found = getattr(node.meta.get("val"), "dtype", None)
    return found is not None and found.is_complex

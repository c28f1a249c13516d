"""Walks an exported PyTorch program and writes the graph, ATen operator by ATen operator."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# The handlers register themselves when their modules are imported.
from emuron.compiler.frontends import (
    torch_functions,
    torch_math,
    torch_moves,
    torch_places,
    torch_quantized,
    torch_recurrent,
    torch_reductions,
    torch_sums,
    torch_windows,
)
from emuron.compiler.frontends.torch_call import TABLE, Call, narrowed
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import EmuronError, OutOfBoundsError, UnsupportedOpError, UsageError
from emuron.numerics.dtypes import DType, dtype

MODULES = (
    torch_functions,
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

IGNORED = frozenset({"_assert_tensor_metadata", "_assert_scalar", "_assert_async"})
"""ATen operators that check and compute nothing; `sym_constrain_*` too."""

_VIEWS = frozenset({"unsqueeze", "squeeze", "expand", "view", "permute", "alias", "clone"})
"""Operators applied in the graph to a constant of many users, so that they share its data."""

_POINTWISE = frozenset({"cos", "sin", "mul", "_to_copy", "alias", "clone"})
"""Operators that keep two equal halves of the last dimension equal, given one tensor operand."""

_NO_EFFECT_HERE = ("device", "layout", "pin_memory", "memory_format")
_MOST_FOLDED_ELEMENTS = 1 << 27
_MOST_LISTED_OPS = 5


class GraphImporter:
    """The state of one import: values and constants of the exported nodes."""

    def __init__(self, torch: Any, program: Any, name: str, *, with_data: bool) -> None:
        """Prepare to import `program`; without `with_data` weights and buffers have no loaders."""
        self.torch = torch
        self.program = program
        self.with_data = with_data
        self.b = GraphBuilder(name)
        self.values: dict[Any, Any] = {}
        self.tensors: dict[Any, Any] = {}
        self.known: dict[Value, Any] = {}
        self.weights: set[Value] = set()
        self.inputs: dict[str, Value] = {}

    def import_nodes(self, output_names: Sequence[str]) -> None:
        """Declare inputs, write every node that is needed and declare the outputs."""
        nodes = list(self.program.graph.nodes)
        specs = {s.arg.name: s for s in self.program.graph_signature.input_specs}
        for node in nodes:
            if node.op == "placeholder":
                self._placeholder(node, specs[node.name])
            elif node.op == "call_function" and not _is_ignored(node):
                self._fold(node)
        self._refuse_unknown(nodes)
        needed = self._needed_constants(nodes)
        for node in nodes:
            if node.op == "call_function" and not _is_ignored(node):
                self._call(node, needed)
            elif node.op == "output":
                self._outputs(node, output_names)

    def _refuse_unknown(self, nodes: list[Any]) -> None:
        unknown: dict[str, str] = {}
        for node in nodes:
            self._refuse_unknown_shape(node)
            if node.op != "call_function" or _is_ignored(node) or _is_getitem(node):
                continue
            if _key(node) not in TABLE and node not in self.tensors:
                unknown.setdefault(_name(node), source_of(node))
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
                f"{_name(node)} at {source_of(node) or node.name}: the shape of its result, "
                f"{list(map(str, shape))}, depends on the values of a tensor, and must be known "
                "when the model is compiled; use torch.where in place of boolean masks"
            )

    # Inputs and weights

    def _placeholder(self, node: Any, spec: Any) -> None:
        found = node.meta.get("val")
        if not isinstance(found, self.torch.Tensor):
            return
        kind = spec.kind.name
        if kind == "USER_INPUT":
            self.values[node] = self.inputs[node.name] = self.b.input(node.name, _type(found))
            return
        tensor = self._held(spec)
        if kind != "PARAMETER":
            self.tensors[node] = tensor
        data = tensor if self.with_data else None
        self.values[node] = self._parameter(spec.target, data, _type(found))

    def _held(self, spec: Any) -> Any:
        """Return the tensor of a parameter, buffer or constant; without data on the meta device."""
        for source in (self.program.state_dict, self.program.constants):
            if spec.target in source:
                return shape_alone_if_fake(self.torch, source[spec.target])
        raise UsageError(f"the exported program holds no tensor for {spec.target!r}")

    def _parameter(self, name: str, tensor: Any, type: TensorType) -> Value:
        has_data = tensor is not None and not tensor.is_meta
        loader = partial(to_numpy, self.torch, tensor) if has_data else None
        value = self.b.parameter(name, type, loader)
        self.weights.add(value)
        return value

    # Constants: what depends on no input and no weight is computed here, by PyTorch.

    def _fold(self, node: Any) -> None:
        inputs = node.all_input_nodes
        if not all(n in self.tensors for n in inputs) or not _is_pure(self.torch, node):
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
            users = [u for u in node.users if not _is_ignored(u)]
            if node in self.tensors and any(
                u not in self.tensors or (u in needed and self._stays(u)) for u in users
            ):
                needed.add(node)
        return needed

    def _stays(self, node: Any) -> bool:
        """Tell whether a constant node is written as an operator on another constant."""
        return _base(node) in _VIEWS and self._uniform(node) is None

    def _uniform(self, node: Any) -> float | None:
        """Return the number that a constant is everywhere, or None."""
        tensor = self.tensors[node]
        if tensor.is_meta or not tensor.numel() or tensor.is_complex():
            return None
        first = tensor.reshape(-1)[0]
        return first.item() if bool((tensor == first).all()) else None

    def _constant(self, node: Any) -> Value:
        """Return the value that holds a constant's data, its equal halves once."""
        tensor, type = self.tensors[node], _type(node.meta["val"])
        number = self._uniform(node)
        if number is not None:
            return self.b.full(number, type.shape, type.dtype)
        where = ".".join(part for part in (_scope(node), "constant", node.name) if part)
        if not _has_equal_halves(node):
            return self._parameter(where, tensor, type)
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
        scope, source = _scope(node), source_of(node)
        with ExitStack() as stack:
            if scope:
                stack.enter_context(self.b.scope(scope))
            stack.enter_context(self.b.at(source))
            if _is_getitem(node):
                self.values[node] = self.values[node.args[0]][node.args[1]]
            elif node in self.tensors and not self._stays(node):
                self.values[node] = self._constant(node)
            else:
                self.values[node] = self._handled(node, source)
        if node in self.tensors:
            self.known[self.values[node]] = self.tensors[node]

    def _handled(self, node: Any, source: str) -> Any:
        found = node.meta["val"]
        where = f"{_name(node)} at {source or node.name}"
        tensors = found if isinstance(found, list | tuple) else (found,)
        try:
            outs = tuple(_type(t) for t in tensors)
            call = Call(self.b, outs, self._data, self.weights.__contains__)
            options = {k: v for k, v in node.kwargs.items() if k not in _NO_EFFECT_HERE}
            args, kwargs = self._argument(node.args), self._argument(options)
            result = TABLE[_key(node)](call, *args, **kwargs)
        except EmuronError as error:
            named = source and source in str(error)
            raise UnsupportedOpError(f"{_name(node) if named else where}: {error}") from error
        made = (result,) if isinstance(result, Value) else tuple(result)
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

    def _outputs(self, node: Any, names: Sequence[str]) -> None:
        """Declare the outputs; an input that the module overwrites becomes an aliased output."""
        left = iter(names)
        specs = self.program.graph_signature.output_specs
        for spec, leaf in zip(specs, node.args[0], strict=True):
            if spec.kind.name == "USER_OUTPUT":
                label = next(left)
                if isinstance(leaf, self.torch.fx.Node):
                    self.b.output(label, self._output_value(leaf))
            elif spec.kind.name == "USER_INPUT_MUTATION":
                alias = self.inputs[spec.target]
                self.b.output(f"{spec.target}.updated", self.values[leaf], alias)
            else:
                raise UnsupportedOpError(
                    f"{self.b.name} writes to its buffer {spec.target!r}; a compiled program has "
                    "no state of its own: pass the tensor as an argument and return it"
                )

    def _output_value(self, leaf: Any) -> Value:
        found: Value = self.values[leaf] if leaf in self.values else self._constant(leaf)
        return found


def shape_alone_if_fake(torch: Any, tensor: Any) -> Any:
    """Return a tensor itself, or one on the meta device for what FakeTensorMode made."""
    if not isinstance(tensor, torch._subclasses.FakeTensor):
        return tensor
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def to_numpy(torch: Any, tensor: Any) -> np.ndarray:
    """Return a tensor's data, in the dtype that stands for its own on the chip; shared if equal."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.int64:
        return _narrow_integers(tensor.numpy())
    if tensor.dtype == torch.float64:
        return np.asarray(tensor.numpy(), dtype=np.float32)
    to = dtype(tensor.dtype)
    if to.np.kind == "V" or to.np.type.__module__ == "ml_dtypes":
        bits = {1: torch.uint8, 2: torch.int16}[to.itemsize]
        return np.asarray(tensor.view(bits).numpy().view(to.np))
    return np.asarray(tensor.numpy())


def _narrow_integers(array: np.ndarray) -> np.ndarray:
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise OutOfBoundsError("a constant holds integers beyond 32 bits, which the chip lacks")
    return array.astype(np.int32)


def _type(tensor: Any) -> TensorType:
    """Return the type that stands for a PyTorch tensor."""
    if not hasattr(tensor, "shape"):
        raise UnsupportedOpError(f"a result that is no tensor ({type(tensor).__name__})")
    to: DType = narrowed(tensor.dtype)
    return TensorType(tuple(tensor.shape), to)


def _has_equal_halves(node: Any) -> bool:
    """Tell whether the last dimension is some data twice, as the angles of rotary embeddings."""
    while _base(node) in _POINTWISE and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    found = node.meta.get("val")
    if _base(node) != "cat" or found is None or found.dtype.is_complex:
        return False
    parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else 0
    return dim in (-1, found.ndim - 1) and len(parts) == 2 and parts[0] is parts[1]


def _is_pure(torch: Any, node: Any) -> bool:
    """Tell whether a node of known operands may be computed now; quantised weights stay so."""
    if _name(node).startswith("quantized_decomposed"):
        return False
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded not in tags and not _base(node).startswith("empty")


def _is_ignored(node: Any) -> bool:
    return _base(node) in IGNORED or _base(node).startswith("sym_constrain_")


def _is_getitem(node: Any) -> bool:
    return getattr(node.target, "__name__", "") == "getitem"


def _name(node: Any) -> str:
    return str(node.target)


def _key(node: Any) -> str:
    """Return the name in the table: without the namespace aten, with any other."""
    return _name(node).removeprefix("aten.")


def _base(node: Any) -> str:
    return _key(node).partition(".")[0] if node.op == "call_function" else ""


def _scope(node: Any) -> str:
    """Return the module path, as `encoder.layer.3.attention`."""
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    return str(modules[-1][0]).partition("@")[0] if modules else ""


def source_of(node: Any) -> str:
    """Return `file:line` of the innermost frame outside torch that made a node, or ""."""
    found = ""
    for line in (node.meta.get("stack_trace") or "").splitlines():
        text = line.strip()
        if text.startswith('File "'):
            file, _, rest = text[6:].partition('", line ')
            if "/torch/nn/" not in file and "/torch/_" not in file:
                found = f"{Path(file)}:{rest.partition(',')[0]}"
    return found

"""Walks an ONNX graph, its functions and branches, and writes our graph node by node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

# The handlers register themselves when their modules are imported.
from emuron.compiler.frontends import (
    onnx_attention,
    onnx_casts,
    onnx_flow,
    onnx_indexed,
    onnx_math,
    onnx_moves,
    onnx_norms,
    onnx_quantized,
    onnx_recurrent,
    onnx_sums,
    onnx_windows,
)
from emuron.compiler.frontends.onnx_call import TABLE, Call, NotWholeError, UnknownDataError
from emuron.compiler.frontends.onnx_fold import fold, is_foldable
from emuron.compiler.frontends.onnx_frame import Frame, attributes_of
from emuron.compiler.frontends.onnx_functions import (
    Body,
    body_of,
    check_attributes,
    is_read_as_in,
    local_functions,
)
from emuron.compiler.frontends.onnx_names import described, scope_of
from emuron.compiler.frontends.onnx_operand import MOST_VALUE_BYTES, Operand, OperandStore
from emuron.compiler.frontends.onnx_read import (
    DAMAGE,
    FULL_OPSET,
    OnnxFile,
    opsets_of,
    plain_domain,
    stored,
)
from emuron.compiler.frontends.onnx_refused import refusal
from emuron.compiler.frontends.onnx_types import dtype_of
from emuron.compiler.graph import TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.errors import EmuronError, ModelFileError, UnsupportedOpError

MODULES = (
    onnx_attention,
    onnx_casts,
    onnx_flow,
    onnx_indexed,
    onnx_math,
    onnx_moves,
    onnx_norms,
    onnx_quantized,
    onnx_recurrent,
    onnx_sums,
    onnx_windows,
)
"""Where the handlers of the table stand."""

MOST_NODES = 20_000
"""Nodes of a model after functions are expanded and loops unrolled."""

MOST_DEPTH = 40
"""Functions and branches within each other."""


class GraphImporter:
    """The state of one import."""

    def __init__(self, file: OnnxFile, *, with_data: bool) -> None:
        """Prepare to import a model; without `with_data` parameters have no loaders."""
        self.file = file
        self.b = GraphBuilder(file.name)
        self.store = OperandStore(self.b, with_data=with_data)
        self.functions = local_functions(file.proto)
        self.held: dict[int, tuple[Any, dict[str, Operand]]] = {}
        self.nodes = 0
        self.depth = 0

    def import_graph(
        self, types: Mapping[str, TensorType], constants: Mapping[str, np.ndarray]
    ) -> None:
        """Declare the inputs of `types`, bind `constants`, write the nodes, declare the outputs."""
        graph = self.file.proto.graph
        frame = Frame(self.file.opsets)
        self._reserve_names(graph)
        self._initializers(graph, frame)
        for entry in graph.input:
            name = entry.name
            if name in constants:
                frame.names[name] = Operand.of_array(name, np.asarray(constants[name]))
            elif name not in frame.names:
                element = entry.type.tensor_type.elem_type
                value = self.b.input(name, types[name])
                frame.names[name] = Operand.of_value(name, value, element)
        self.walk(graph.node, frame)
        self._check_declared(graph, frame)
        for entry in graph.output:
            self.b.output(entry.name, self.store.value(self._found(entry.name, frame)))

    def _reserve_names(self, graph: Any) -> None:
        self.b.reserve(entry.name for entry in graph.input)
        self.b.reserve(tensor.name for tensor in graph.initializer)

    def _found(self, name: str, frame: Frame) -> Operand:
        found = frame.names.get(name)
        if found is None:
            raise ModelFileError(f"{self.file.name}: nothing computes the output {name!r}")
        return found

    def _initializers(self, graph: Any, frame: Frame) -> None:
        """Name the stored tensors of a graph or body; those of a body are read once."""
        if graph.sparse_initializer:
            raise UnsupportedOpError("sparse initializers are not read; store them densely")
        _, held = self.held.setdefault(id(graph), (graph, {}))
        for tensor in graph.initializer if not held else ():
            found = stored(tensor, self.file.folder)
            held[tensor.name] = Operand(
                tensor.name, found.element, found.shape, found.load, is_stored=True
            )
        frame.names.update(held)

    def _check_declared(self, graph: Any, frame: Frame) -> None:
        """Check that sizes and dtypes that the file declares are those of the graph."""
        for entry in (*graph.value_info, *graph.output):
            operand = frame.names.get(entry.name)
            declared = entry.type.tensor_type
            if operand is None or not declared.elem_type:
                continue
            what = f"tensor {entry.name!r}"
            expected = dtype_of(declared.elem_type, what)
            found = dtype_of(operand.element, what)
            sizes = [d.dim_value for d in declared.shape.dim]
            fits = not declared.HasField("shape") or (
                len(sizes) == len(operand.shape)
                and all(s in (0, n) for s, n in zip(sizes, operand.shape, strict=True))
            )
            if expected != found or not fits:
                raise ModelFileError(
                    f"{self.file.name} declares {what} as {expected}{sizes}, but its operators "
                    f"give {found}{list(operand.shape)}"
                )

    # Nodes

    def walk(self, nodes: Sequence[Any], frame: Frame) -> None:
        """Write the nodes of a graph, branch or body in their order."""
        for node in nodes:
            self.nodes += 1
            if self.nodes > MOST_NODES:
                raise UnsupportedOpError(
                    f"{self.file.name} has more than {MOST_NODES} nodes once its functions are "
                    "expanded and its loops unrolled"
                )
            self._node(node, frame)

    def _node(self, node: Any, frame: Frame) -> None:
        what = described(node)
        try:
            with self._placed(node, what):
                operands = [frame.find(name) if name else None for name in node.input]
                results = self._results(frame.resolved(node), frame, operands)
        except EmuronError as error:
            raise _located(error, what) from error
        except RecursionError as error:
            raise ModelFileError(f"{what}: the file is nested too deeply") from error
        except (*DAMAGE, MemoryError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise ModelFileError(f"{what} makes no sense: {reason}") from error
        for name, result in zip(node.output, results, strict=False):
            if name and result is not None:
                frame.names[name] = result

    @contextmanager
    def _placed(self, node: Any, what: str) -> Iterator[None]:
        """Mark what is written within as made by a node of the model's own graph."""
        with ExitStack() as stack:
            if self.depth == 0:
                scope = scope_of(node)
                if scope:
                    stack.enter_context(self.b.scope(scope))
                stack.enter_context(self.b.at(what))
            yield

    def _results(
        self, node: Any, frame: Frame, operands: list[Operand | None]
    ) -> list[Operand | None]:
        domain = plain_domain(node.domain)
        body = self.functions.get((domain, node.op_type))
        if body is not None:
            return self._expand(body, operands, node)
        kind = node.op_type if not domain else f"{domain}:{node.op_type}"
        opset = frame.opsets.get(domain, 1)
        if not domain and opset < FULL_OPSET and not is_read_as_in(kind, opset, FULL_OPSET):
            raise UnsupportedOpError(
                f"{kind} had another form in operator set {opset} than in {FULL_OPSET}; convert "
                "the model with onnx.version_converter.convert_version"
            )
        check_attributes(node, opset)
        known = self._folded(node, kind, operands)
        return known or self._written(node, kind, frame, operands)

    def _written(
        self, node: Any, kind: str, frame: Frame, operands: list[Operand | None]
    ) -> list[Operand | None]:
        """Write a node by its handler, else by the body that ONNX gives its operator."""
        body_with = partial(self.branch, frame)
        call = Call(self.store, kind, attributes_of(node), operands, tuple(node.output), body_with)
        try:
            if kind not in TABLE:
                raise NotWholeError(refusal(kind))
            return self._operands(call, TABLE[kind](call))
        except NotWholeError:
            body = body_of(node, frame.opsets, operands)
            if body is None:
                raise
            return self._expand(body, operands, node)

    def _folded(
        self, node: Any, kind: str, operands: list[Operand | None]
    ) -> list[Operand | None] | None:
        if not is_foldable(kind) or not operands:
            return None
        if any(o is not None and (o.source is None or o.is_weight) for o in operands):
            return None
        arrays = [None if o is None else o.data for o in operands]
        if any(a is None and o is not None for a, o in zip(arrays, operands, strict=True)):
            return None
        found = fold(node, kind, attributes_of(node), arrays)
        if found is None:
            return None
        return [Operand.of_array(n, a) for n, a in zip(node.output, found, strict=False)]

    def _operands(self, call: Call, made: Any) -> list[Operand | None]:
        results: list[Operand | None] = []
        for index, result in enumerate(made if isinstance(made, list | tuple) else (made,)):
            name = call.results[index] if index < len(call.results) else ""
            if isinstance(result, Value):
                if result.type.size_bytes > MOST_VALUE_BYTES:
                    raise UnsupportedOpError(f"its result {result.type} fits no device's memory")
                operand = Operand.of_value(name, result, call.elements.get(index))
                results.append(operand)
            elif isinstance(result, np.ndarray):
                results.append(Operand.of_array(name, result))
            else:
                results.append(result)
        return results

    # Bodies

    def _expand(
        self, body: Body, operands: Sequence[Operand | None], call: Any
    ) -> list[Operand | None]:
        """Write the nodes of a function in place of its call."""
        proto = body.proto
        frame = Frame(
            {**body.opsets, **opsets_of(proto.opset_import)},
            attributes={**body.defaults, **{entry.name: entry for entry in call.attribute}},
        )
        given = (*operands, *[None] * (len(proto.input) - len(operands)))
        frame.names.update(zip(proto.input, given, strict=False))
        with self.deeper():
            self.walk(proto.node, frame)
        return [frame.names.get(name) for name in proto.output]

    def branch(self, frame: Frame, graph: Any, bound: Sequence[Operand]) -> list[Operand]:
        """Write the nodes of a branch or body, whose inputs are `bound`; return its outputs."""
        inner = Frame(frame.opsets, frame, attributes=frame.attributes)
        if len(graph.input) != len(bound):
            raise ModelFileError(f"a body takes {len(graph.input)} operands, found {len(bound)}")
        self._initializers(graph, inner)
        for entry, operand in zip(graph.input, bound, strict=True):
            inner.names[entry.name] = operand
        with self.deeper():
            self.walk(graph.node, inner)
        found = [inner.find(entry.name) for entry in graph.output]
        if None in found:
            raise ModelFileError("a body gives an operand that the call left out")
        return [operand for operand in found if operand is not None]

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Count how deep bodies are nested; raise UnsupportedOpError if too deep."""
        if self.depth >= MOST_DEPTH:
            raise UnsupportedOpError(f"functions and branches are nested {MOST_DEPTH} deep")
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1


def _located(error: EmuronError, what: str) -> EmuronError:
    """Return the error with the node that it comes from, once."""
    text = str(error) if what in str(error) else f"{what}: {error}"
    if isinstance(error, UnknownDataError):
        return UnknownDataError(text, error.inputs)
    return ModelFileError(text) if isinstance(error, ModelFileError) else UnsupportedOpError(text)

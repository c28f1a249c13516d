"""TensorFlow SavedModels and frozen graphs, read without TensorFlow."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from emuron.compiler.frontends.known_values import narrow, narrowed
from emuron.compiler.frontends.protobuf_wire import Message, parse
from emuron.compiler.frontends.tensorflow_call import Variable, attributes_of
from emuron.compiler.frontends.tensorflow_checkpoint import Checkpoint, open_checkpoint
from emuron.compiler.frontends.tensorflow_import import Importer
from emuron.compiler.frontends.tensorflow_proto import GRAPH, SAVED_MODEL, mapping, np_dtype, sizes
from emuron.compiler.frontends.tensorflow_variables import checkpoint_keys, shared_name
from emuron.compiler.graph import Graph, TensorType, Value
from emuron.compiler.ops import GraphBuilder
from emuron.compiler.passes.recognize import recognize
from emuron.errors import ModelFileError, UnknownNameError, UnsupportedOpError, UsageError

_PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault")
_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
_INNER = ("__saved_model_init_op", "__saved_model_train_op")
_NO_OUTPUTS = ("Const", "NoOp", "Assert", "SaveV2", "RestoreV2", "MergeV2Checkpoints")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a signature: the node's output that it is, and its declared type."""

    reference: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a graph by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TensorFlowModel:
    """A SavedModel or a frozen graph; a task is a signature."""

    name: str
    path: Path
    graph_def: Message
    signatures: Mapping[str, Signature]
    keys: Mapping[str, str] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    with_data: bool = True

    @property
    def is_decoder(self) -> bool:
        """Whether it generates text natively: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The first signature, once."""
        return ((next(iter(self.signatures)), 1),)

    def graph(
        self, batch: int = 1, sequence: int = 128, task: str = "", shapes: Shapes | None = None
    ) -> Graph:
        """Build the graph of a signature.

        Where an input's size is unknown, the first is `batch`, the others are `sequence`, unless
        `shapes` gives the input's shape. Raises UnknownNameError for a signature or input that
        the model has not, UnsupportedOpError for an operator that is not known.
        """
        name = task or next(iter(self.signatures))
        if name not in self.signatures:
            raise UnknownNameError("signature", name, self.signatures)
        signature, given = self.signatures[name], dict(shapes or {})
        for unknown in given.keys() - signature.inputs.keys():
            raise UnknownNameError("input", unknown, signature.inputs)
        importer = Importer(self.name, self.graph_def, self._parameter)
        for label, tensor in signature.inputs.items():
            shape = given.get(label) or self._shape(label, tensor, batch, sequence)
            to = narrowed(np_dtype(tensor.dtype, f"input {label!r}"))
            importer.set_input(tensor.reference, importer.b.input(label, TensorType(shape, to)))
        for label, tensor in signature.outputs.items():
            importer.b.output(label, self._output(importer, label, tensor))
        return recognize(importer.b.finish())

    def _shape(self, label: str, tensor: Tensor, batch: int, sequence: int) -> tuple[int, ...]:
        if tensor.shape is None:
            raise UsageError(
                f"{self.name} does not say how many dimensions its input {label!r} has; give its "
                f"shape: graph(shapes={{{label!r}: (...)}})"
            )
        unknown = tuple(batch if i == 0 else sequence for i in range(len(tensor.shape)))
        return tuple(u if s < 0 else s for s, u in zip(tensor.shape, unknown, strict=True))

    def _output(self, importer: Importer, label: str, tensor: Tensor) -> Value:
        found = importer.result(tensor.reference)
        value = found if isinstance(found, Value) else importer.known.value(found, label)  # type: ignore[arg-type]
        expected = narrowed(np_dtype(tensor.dtype, label)) if tensor.dtype else value.type.dtype
        sizes_agree = tensor.shape is None or (
            len(tensor.shape) == value.type.rank
            and all(s in (-1, n) for s, n in zip(tensor.shape, value.shape, strict=True))
        )
        if value.type.dtype != expected or not sizes_agree:
            raise UnsupportedOpError(
                f"{self.name}: the output {label!r} is declared as {expected}"
                f"{list(tensor.shape or ())}, the front end builds {value.type}"
            )
        return value

    def _parameter(self, b: GraphBuilder, variable: Variable) -> Value:
        key = self.keys.get(variable.key, variable.key)
        if self.checkpoint is None:
            raise ModelFileError(
                f"{self.path}: the graph reads the variable {key!r}, but a frozen graph holds its "
                "weights itself; give the SavedModel folder"
            )
        stored = self.checkpoint.tensor(key)
        type = TensorType(stored.shape, narrowed(stored.np_dtype))
        name = key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
        read = partial(_read, stored.read, name) if self.with_data else None
        return b.parameter(name, type, read)


def _read(read: Any, name: str) -> Any:
    return narrow(read(), f"the variable {name!r}")


def load(path: str | Path, *, weights: bool = True) -> TensorFlowModel:
    """Open a SavedModel folder or a frozen graph (`.pb`); raise ModelFileError if it is neither.

    Without `weights` graphs are made of shapes alone.
    """
    file = Path(path)
    if file.name == "saved_model.pb":
        file = file.parent
    if file.is_dir():
        return _saved_model(file, weights)
    graph = parse(_mapped(file), GRAPH, str(file))
    if not graph.get("node"):
        raise ModelFileError(f"{file} holds no graph of TensorFlow")
    signatures = {"serving_default": _frozen_signature(file, graph)}
    return TensorFlowModel(file.stem, file, graph, signatures, with_data=weights)


def to_graph(path: str | Path, *, weights: bool = True, **options: Any) -> Graph:
    """Build the graph of a SavedModel or frozen graph; `options` are those of its `graph`."""
    return load(path, weights=weights).graph(**options)


def _mapped(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}") from error


def _saved_model(folder: Path, weights: bool) -> TensorFlowModel:
    path = folder / "saved_model.pb"
    metas = parse(_mapped(path), SAVED_MODEL, str(path)).get("meta_graph", [])
    meta = next((m for m in metas if "serve" in m.get("info", {}).get("tags", [])), None)
    if meta is None:
        raise ModelFileError(f"{path} holds no graph for serving ({len(metas)} graphs found)")
    graph = meta.get("graph", {})
    signatures = {
        name: _signature(found, name)
        for name, found in mapping(meta.get("signature", [])).items()
        if name not in _INNER and found.get("outputs")
    }
    if not signatures:
        raise ModelFileError(f"{path} has no signature; export the model with one")
    chosen = sorted(signatures, key=lambda n: (n not in ("serving_default", "serve"), n))
    prefix = folder / "variables" / "variables"
    has_variables = prefix.with_name("variables.index").is_file()
    nodes = graph.get("node", [])
    keys = {n.get("name", ""): shared_name(n) for n in nodes if n.get("op") in _VARIABLES}
    keys |= checkpoint_keys(graph, meta.get("saver", {}).get("restore_op", ""))
    return TensorFlowModel(
        folder.name,
        folder,
        graph,
        {name: signatures[name] for name in chosen},
        keys,
        open_checkpoint(prefix) if has_variables else None,
        weights,
    )


def _signature(message: Message, name: str) -> Signature:
    def tensors(kind: str) -> dict[str, Tensor]:
        found = mapping(message.get(kind, []))
        return {label: _tensor(info, f"{name}.{label}") for label, info in sorted(found.items())}

    return Signature(tensors("inputs"), tensors("outputs"))


def _tensor(info: Message, what: str) -> Tensor:
    shape = sizes(info.get("shape", {}), what) if "shape" in info else None
    return Tensor(info.get("name", ""), info.get("dtype", 0), shape)


def _frozen_signature(path: Path, graph: Message) -> Signature:
    """Return the placeholders and what nobody reads."""
    nodes = graph["node"]
    read = {i.lstrip("^").partition(":")[0] for n in nodes for i in n.get("input", [])}
    inputs, outputs = {}, {}
    for node in nodes:
        name, op = node.get("name", ""), node.get("op", "")
        if op in _PLACEHOLDERS:
            attributes = attributes_of(node)
            shape = attributes.get("shape", {}).get("shape")
            known = None if shape is None else sizes(shape, name)
            inputs[name] = Tensor(name, attributes.get("dtype", {}).get("type", 0), known)
        elif name not in read and op not in _NO_OUTPUTS:
            outputs[name] = Tensor(name, 0, None)
    if not outputs:
        raise ModelFileError(f"{path}: every node of the graph is read by another: no output")
    return Signature(inputs, outputs)

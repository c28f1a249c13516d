"""Artifacts: a compiled model as a folder that people can read and any machine can reload."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import emuron
from emuron.compiler.compile import CompiledModel
from emuron.compiler.frontends.weights import StoredTensor, read_header, read_json
from emuron.compiler.graph import Graph, Node, Parameter, TensorType, Value, to_text, verify
from emuron.compiler.ops import Autocast, find_op
from emuron.compiler.ops.kernel_call import KernelFunction
from emuron.compiler.pipeline import CompileOptions
from emuron.errors import EmuronError, ModelFileError, UsageError, WrongTargetError
from emuron.hardware.catalog import instance as find_instance
from emuron.numerics.dtypes import DType, dtype

FORMAT = 1
"""Version of the layout; another one is refused."""

MANIFEST, GRAPH, PARAMETERS = "manifest.json", "graph.json", "parameters.safetensors"
PROGRAM, GRAPH_TEXT = "program.txt", "graph.txt"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

_MOST_JSON_BYTES = 64 << 20
_ALIGNMENT_BYTES = 8  # a safetensors header is padded so that the data after it is aligned
_STORED_NAMES: Mapping[str, str] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}

_BYTES = "U8"  # how 8-bit floats are stored that have no name there


def is_artifact(path: str | Path) -> bool:
    """Tell whether a path is a folder written by `save`."""
    path = Path(path)
    return (path / MANIFEST).is_file() and (path / GRAPH).is_file()


def save(model: CompiledModel, path: str | Path, tokenizer: Path | None = None) -> Path:
    """Write a compiled model to a folder: manifest, graph, parameters and the program as text.

    The tokenizer of the folder `tokenizer` goes with it. The artifact appears whole or not at all;
    an earlier one is replaced, anything else at the path is refused with UsageError.
    """
    path = Path(path)
    if path.exists() and not is_artifact(path):
        raise UsageError(f"{path} exists and is no artifact of emuron. Choose another path.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        _write(model, made, tokenizer)
        made.chmod(0o755)
        _replace(made, path)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return path


def _replace(made: Path, path: Path) -> None:
    """Move `made` to `path`, with what was there before back in place if that fails."""
    if not path.exists():
        made.rename(path)
        return
    earlier = made.with_name(f"{made.name}.earlier")
    path.rename(earlier)
    try:
        made.rename(path)
    except OSError:
        earlier.rename(path)
        raise
    shutil.rmtree(earlier)


def _write(model: CompiledModel, folder: Path, tokenizer: Path | None) -> None:
    graph = json.dumps(_graph_record(model.graph), indent=1)
    (folder / GRAPH).write_text(graph, encoding="utf-8")
    (folder / GRAPH_TEXT).write_text(to_text(model.graph), encoding="utf-8")
    text = "\n".join(part.program.to_text() for part in model.executable.programs)
    (folder / PROGRAM).write_text(text, encoding="utf-8")
    with (folder / PARAMETERS).open("wb") as file:
        _write_parameters(model.graph.parameters, file)
    for name in TOKENIZER_FILES if tokenizer else ():
        if (found := (tokenizer or folder) / name).is_file():
            shutil.copyfile(found, folder / name)
    manifest = _manifest(model)
    manifest["files"] = {
        file.name: {"bytes": file.stat().st_size, "sha256": _hash(file)}
        for file in sorted(folder.iterdir())
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _manifest(model: CompiledModel) -> dict[str, Any]:
    graph, chip = model.graph, model.instance.chip
    outputs = zip(graph.output_names, graph.outputs, strict=True)
    return {
        "format": FORMAT,
        "emuron": emuron.__version__,
        "name": model.name,
        "target": {"instance": model.instance.name, "chip": chip.name, "core": chip.core.version},
        "options": {
            "batch": model.batch,
            "autocast": model.options.autocast.mode,
            "autocast_type": str(model.options.autocast.dtype),
            "strict": model.options.strict,
            "weights": model.options.weights,
            "tp": model.tp,
        },
        "inputs": {v.name: str(v.type) for v in graph.inputs},
        "outputs": {name: str(v.type) for name, v in outputs},
        "parameters": {"count": len(graph.parameters), "bytes": graph.parameter_bytes},
        "figures": model.summary(),
    }


def _write_parameters(parameters: tuple[Parameter, ...], file: BinaryIO) -> None:
    """Write a safetensors file, one parameter in memory at a time, in the dtypes of the source."""
    header: dict[str, Any] = {}
    end = 0
    for parameter in parameters:
        array = parameter.load()
        stored = str(array.dtype) if array.dtype == np.float64 else str(dtype(array.dtype))
        header[parameter.name] = {
            "dtype": _STORED_NAMES.get(stored, _BYTES),
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    file.write(len(text).to_bytes(8, "little") + text)
    for parameter in parameters:
        file.write(np.ascontiguousarray(parameter.load()).tobytes())


def load(path: str | Path, on: str | None = None) -> CompiledModel:
    """Reload an artifact; no framework is needed.

    Raises WrongTargetError if `on` names another instance than it was compiled for, and
    ModelFileError if a file is missing, changed or malformed.
    """
    path = Path(path)
    if not is_artifact(path):
        raise ModelFileError(f"{path} is no artifact of emuron: it has no {MANIFEST} and {GRAPH}.")
    manifest = _read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise ModelFileError(
            f"{path / MANIFEST} has format {manifest.get('format')!r}; emuron "
            f"{emuron.__version__} reads format {FORMAT}. Compile the model again."
        )
    asked = None if on is None else find_instance(on).name
    try:
        _check_target(path, str(manifest["target"]["instance"]), asked)
        _check_files(path, manifest["files"])
        return _model(path, manifest)
    except (WrongTargetError, ModelFileError):
        raise
    except (
        *(EmuronError, KeyError, TypeError, ValueError),
        *(IndexError, AttributeError, RecursionError, OverflowError),
    ) as error:
        why = str(error) if isinstance(error, EmuronError) else f"{type(error).__name__}: {error}"
        raise ModelFileError(
            f"{path} is malformed: {why.rstrip('.')}. Compile the model again."
        ) from error


def _check_target(path: Path, target: str, asked: str | None) -> None:
    if asked is not None and asked != target:
        raise WrongTargetError(
            f"{path} was compiled for {target}, not for {asked}. Compile the model for it: "
            f"emuron compile MODEL --on {asked} -o {path}"
        )


def _check_files(path: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for name in (GRAPH, PARAMETERS):
        expected = files[name]
        try:
            size = (path / name).stat().st_size
        except OSError as error:
            raise ModelFileError(f"{path / name} cannot be read: {error.strerror}.") from error
        if size != expected["bytes"]:
            raise ModelFileError(
                f"{path / name} has {size} bytes where {MANIFEST} says {expected['bytes']}; "
                "the copy is not whole. Copy it again, or compile the model again."
            )
        if _hash(path / name) != expected["sha256"]:
            raise ModelFileError(
                f"{path / name} was changed after it was compiled: its SHA-256 is not the one in "
                f"{MANIFEST}. Compile the model again."
            )


def _model(path: Path, manifest: Mapping[str, Any]) -> CompiledModel:
    options = manifest["options"]
    batch = options["batch"]
    if type(batch) is not int or batch < 1:
        raise ModelFileError(f"{path / MANIFEST}: the batch must be at least 1, found {batch!r}.")
    cast = Autocast(options["autocast"], dtype(options["autocast_type"]))
    stored = read_header(path / PARAMETERS)
    graph = _graph(_read_json(path / GRAPH), lambda value: _parameter(value, stored, path))
    return CompiledModel(
        graph,
        find_instance(manifest["target"]["instance"]),
        CompileOptions(cast, bool(options.get("strict", False)), str(options.get("weights", ""))),
        batch,
        name=str(manifest["name"]),
        tp=int(options.get("tp", 1)),
    )


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from error


def _read_json(path: Path) -> dict[str, Any]:
    if path.is_file() and path.stat().st_size > _MOST_JSON_BYTES:
        raise ModelFileError(f"{path} is larger than {_MOST_JSON_BYTES >> 20} MiB.")
    return read_json(path)


# The graph as JSON


def _graph_record(graph: Graph) -> dict[str, Any]:
    return {
        "name": graph.name,
        "inputs": [_value_record(v) for v in graph.inputs],
        "parameters": [_value_record(p.value) for p in graph.parameters],
        "nodes": [
            {
                "op": node.op.name,
                "attributes": {k: _plain(v) for k, v in node.op.attributes().items()},
                "inputs": [v.name for v in node.inputs],
                "outputs": [_value_record(v) for v in node.outputs],
                "name": node.name,
                "scope": node.scope,
                "source": node.source,
            }
            for node in graph.nodes
        ],
        "outputs": dict(zip(graph.output_names, (v.name for v in graph.outputs), strict=True)),
        "aliases": {str(o): i for o, i in graph.aliases.items()},
    }


def _value_record(value: Value) -> dict[str, Any]:
    return {"name": value.name, "shape": list(value.shape), "dtype": str(value.type.dtype)}


def _plain(value: object) -> object:
    """Return an attribute as JSON has it; raise UsageError for a kernel, which is Python."""
    if isinstance(value, DType):
        return {"dtype": str(value)}
    if isinstance(value, TensorType):
        return {"type": [list(value.shape), str(value.dtype)]}
    if isinstance(value, Graph):
        return {"graph": _graph_record(value)}
    if isinstance(value, KernelFunction):
        raise UsageError(
            f"{value} is a kernel written in Python, which an artifact cannot hold. Compile the "
            "model from its source each time it is run."
        )
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _attribute(value: Any) -> Any:
    if isinstance(value, dict):
        (kind, content), *_ = value.items()
        if kind == "graph":
            return _graph(content, _no_parameter)
        if kind == "type":
            return TensorType(tuple(content[0]), dtype(content[1]))
        return dtype(content)
    return tuple(_attribute(v) for v in value) if isinstance(value, list) else value


def _no_parameter(value: Value) -> Parameter:
    raise ModelFileError(f"{GRAPH}: the body of an operator has a parameter, {value.name!r}.")


def _graph(record: Mapping[str, Any], parameter: Callable[[Value], Parameter]) -> Graph:
    values: dict[str, Value] = {}

    def value(entry: Mapping[str, Any]) -> Value:
        made = Value(str(entry["name"]), TensorType(tuple(entry["shape"]), dtype(entry["dtype"])))
        values[made.name] = made
        return made

    inputs = tuple(value(entry) for entry in record["inputs"])
    parameters = tuple(parameter(value(entry)) for entry in record["parameters"])
    nodes = []
    for entry in record["nodes"]:
        attributes = {name: _attribute(v) for name, v in entry["attributes"].items()}
        operands = tuple(values[name] for name in entry["inputs"])
        outputs = tuple(value(v) for v in entry["outputs"])
        made = find_op(entry["op"])(**attributes)
        nodes.append(Node(made, operands, outputs, entry["name"], entry["scope"], entry["source"]))
    outputs_by_name = record["outputs"]
    graph = Graph(
        str(record["name"]),
        inputs,
        parameters,
        tuple(nodes),
        tuple(values[name] for name in outputs_by_name.values()),
        tuple(outputs_by_name),
        {int(o): int(i) for o, i in record["aliases"].items()},
    )
    verify(graph)
    return graph


def _parameter(value: Value, stored: Mapping[str, StoredTensor], path: Path) -> Parameter:
    found = stored.get(value.name)
    if found is None or found.shape != value.shape:
        what = "is missing" if found is None else f"has shape {list(found.shape)}"
        raise ModelFileError(
            f"{path / PARAMETERS}: {value.name!r} {what}, {GRAPH} expects {value.type}."
        )
    kind = value.type.dtype
    as_bytes = kind.itemsize == 1 and str(kind) not in _STORED_NAMES
    return Parameter(value, _Bits(found, kind) if as_bytes else found.read)


@dataclass(frozen=True, slots=True, eq=False)
class _Bits:
    """Reads a tensor as numbers of an 8-bit dtype, if it is stored as their bytes."""

    stored: StoredTensor
    kind: DType

    def __call__(self) -> np.ndarray:
        array = self.stored.read()
        return array.view(self.kind.np) if array.dtype == np.uint8 else array

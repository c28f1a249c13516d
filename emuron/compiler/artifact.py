"""Artifacts: a compiled model as a folder that people can read and any machine can reload."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import emuron
from emuron.compiler.compile import CompiledModel
from emuron.compiler.frontends.weights import open_weights
from emuron.compiler.graph import Graph, Node, Parameter, TensorType, Value, verify
from emuron.compiler.ops import Autocast, find_op
from emuron.compiler.pipeline import CompileOptions
from emuron.errors import EmuronError, ModelFileError, UsageError, WrongTargetError
from emuron.hardware.catalog import instance as find_instance
from emuron.numerics.dtypes import DType, dtype

FORMAT = 1
_MANIFEST, _GRAPH, _WEIGHTS, _PROGRAM = (
    "manifest.json",
    "graph.json",
    "model.safetensors",
    "program.txt",
)
_MOST_JSON_BYTES = 64 << 20


def is_artifact(path: Path) -> bool:
    """Tell whether a path is a folder written by `save`."""
    return (path / _MANIFEST).is_file() and (path / _GRAPH).is_file()


def save(model: CompiledModel, path: str | Path) -> Path:
    """Write a compiled model to a folder: manifest, graph, weights and the program as text.

    The folder appears whole or not at all; an earlier artifact is replaced, anything else at the
    path is refused.
    """
    path = Path(path)
    if path.exists() and not is_artifact(path):
        raise UsageError(f"{path} exists and is no artifact of emuron; choose another path.")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        _write(model, made)
        made.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(made, path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return path


def _write(model: CompiledModel, folder: Path) -> None:
    graph = json.dumps(_graph_record(model.graph), indent=1)
    (folder / _GRAPH).write_text(graph, encoding="utf-8")
    weights = {p.name: np.ascontiguousarray(p.load()) for p in model.graph.parameters}
    save_file(weights, folder / _WEIGHTS)
    text = model.executable.program.to_text()
    (folder / _PROGRAM).write_text(text, encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "emuron": emuron.__version__,
        "target": model.instance.name,
        "chip": model.instance.chip.name,
        "core": model.instance.chip.core.version,
        "batch": model.batch,
        "autocast": model.options.autocast.mode,
        "autocast_type": str(model.options.autocast.dtype),
        "inputs": {v.name: str(v.type) for v in model.graph.inputs},
        "outputs": {
            n: str(v.type)
            for n, v in zip(model.graph.output_names, model.graph.outputs, strict=True)
        },
        "figures": model.summary(),
        "sha256": {_GRAPH: _hash(folder / _GRAPH), _WEIGHTS: _hash(folder / _WEIGHTS)},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def load(path: str | Path, on: str | None = None) -> CompiledModel:
    """Reload an artifact; no framework is needed.

    Raises WrongTargetError if `on` names another instance than it was compiled for, and
    ModelFileError if a file is missing, changed or malformed.
    """
    path = Path(path)
    if not is_artifact(path):
        raise ModelFileError(
            f"{path} is no artifact of emuron: {_MANIFEST} or {_GRAPH} is missing."
        )
    manifest = _read_json(path / _MANIFEST)
    if manifest.get("format") != FORMAT:
        raise ModelFileError(
            f"{path / _MANIFEST} has format {manifest.get('format')!r}; this emuron reads "
            f"{FORMAT}. Compile the model again."
        )
    target = str(manifest.get("target"))
    if on is not None and find_instance(on).name != target:
        raise WrongTargetError(
            f"{path} was compiled for {target}, not for {on}. "
            f"Compile the model again with --on {on}."
        )
    for name, expected in dict(manifest.get("sha256", {})).items():
        if name not in (_GRAPH, _WEIGHTS) or _hash(path / name) != expected:
            raise ModelFileError(f"{path / name} is not the file that {_MANIFEST} describes.")
    try:
        graph = _graph(_read_json(path / _GRAPH), path)
        cast = Autocast(manifest["autocast"], dtype(manifest["autocast_type"]))
        batch = int(manifest["batch"])
    except EmuronError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelFileError(f"{path} is malformed: {type(error).__name__}: {error}.") from error
    return CompiledModel(graph, find_instance(target), CompileOptions(cast), batch)


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from error


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise ModelFileError(f"{path} is larger than {_MOST_JSON_BYTES >> 20} MiB.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ModelFileError(f"{path} holds no JSON object.")
    return found


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
    if isinstance(value, DType):
        return {"dtype": str(value)}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _attribute(value: Any) -> Any:
    if isinstance(value, dict):
        return dtype(value["dtype"])
    return tuple(_attribute(v) for v in value) if isinstance(value, list) else value


def _graph(record: Mapping[str, Any], path: Path) -> Graph:
    weights = open_weights(path)
    values: dict[str, Value] = {}

    def value(entry: Mapping[str, Any]) -> Value:
        made = Value(str(entry["name"]), TensorType(tuple(entry["shape"]), dtype(entry["dtype"])))
        values[made.name] = made
        return made

    inputs = tuple(value(entry) for entry in record["inputs"])
    parameters = tuple(
        Parameter(made, weights.loader(made.name, made.type))
        for made in (value(entry) for entry in record["parameters"])
    )
    nodes = []
    for entry in record["nodes"]:
        cls = find_op(entry["op"])
        known = {f.name for f in dataclasses.fields(cls)}
        attributes = {k: _attribute(v) for k, v in entry["attributes"].items() if k in known}
        operands = tuple(values[name] for name in entry["inputs"])
        outputs = tuple(value(v) for v in entry["outputs"])
        nodes.append(
            Node(
                cls(**attributes), operands, outputs, entry["name"], entry["scope"], entry["source"]
            )
        )
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

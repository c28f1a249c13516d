"""The shapes of an ONNX model's inputs, its dynamic dimensions bound to sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from emuron.compiler.frontends.onnx_read import OnnxFile
from emuron.compiler.frontends.onnx_types import type_of
from emuron.compiler.graph import TensorType
from emuron.errors import UnsupportedOpError, UsageError

_BATCH = re.compile(r"batch|^n$|^b$|^bs$", re.IGNORECASE)
_SEQUENCE = re.compile(r"seq|len|token|^s$|^t$|time", re.IGNORECASE)
_BATCH_PLACE, _SEQUENCE_PLACE = 0, 1


def input_types(
    file: OnnxFile,
    batch: int | None,
    sequence: int | None,
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    constants: Mapping[str, np.ndarray],
) -> dict[str, TensorType]:
    """Return the types of the inputs that are neither `constants` nor have a stored default."""
    graph = file.proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    entries = [e for e in graph.input if e.name not in stored and e.name not in constants]
    _check_names(file, entries, shapes, constants)
    options = {"batch": batch, "sequence": sequence}
    found = {e.name: _type(file, e, options, shapes.get(e.name), sizes) for e in entries}
    _check_batch(file, batch, found)
    return found


def _check_names(
    file: OnnxFile,
    entries: list[Any],
    shapes: Mapping[str, Any],
    constants: Mapping[str, np.ndarray],
) -> None:
    names = [e.name for e in entries]
    known = {e.name for e in file.proto.graph.input}
    unknown = [n for n in (*shapes, *constants) if n not in known]
    if unknown:
        raise UsageError(
            f"{file.name} has no input {', '.join(map(repr, unknown))}; its inputs are "
            f"{', '.join(map(repr, names)) or 'none'}"
        )


def _type(
    file: OnnxFile,
    entry: Any,
    options: Mapping[str, int | None],
    shape: tuple[int, ...] | None,
    sizes: Mapping[str, int],
) -> TensorType:
    what = f"input {entry.name!r} of {file.name}"
    kind = entry.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedOpError(
            f"{what} is a {(kind or 'thing').removesuffix('_type')}, no tensor"
        )
    tensor = entry.type.tensor_type
    if shape is None and not tensor.HasField("shape"):
        raise UsageError(f"{what} declares no shape; give one: shapes={{{entry.name!r}: (...)}}")
    dims = list(tensor.shape.dim)
    if shape is None:
        shape = tuple(_size(d, place, options, sizes) for place, d in enumerate(dims))
    elif tensor.HasField("shape") and not _fits(shape, dims):
        declared = [d.dim_param or d.dim_value for d in dims]
        raise UsageError(f"{what} takes {declared}, the shape {list(shape)} was given")
    return type_of(tensor.elem_type, tuple(shape), what)


def _fits(shape: tuple[int, ...], dims: list[Any]) -> bool:
    return len(shape) == len(dims) and all(
        not d.HasField("dim_value") or d.dim_value == n for n, d in zip(shape, dims, strict=True)
    )


def _size(dim: Any, place: int, options: Mapping[str, int | None], sizes: Mapping[str, int]) -> int:
    """Return the size of a dimension, a dynamic one as the options bind it."""
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    name = dim.dim_param
    if name in sizes:
        return sizes[name]
    option = _option(name, place)
    return (options[option] if option else None) or 1


def _option(name: str, place: int) -> str | None:
    """Return which option binds a dimension: by its name, else by its place."""
    if _BATCH.search(name) or (place == _BATCH_PLACE and not _SEQUENCE.search(name)):
        return "batch"
    if _SEQUENCE.search(name) or (place == _SEQUENCE_PLACE and not name):
        return "sequence"
    return None


def _check_batch(file: OnnxFile, batch: int | None, types: Mapping[str, TensorType]) -> None:
    fixed = {t.shape[0] for t in types.values() if t.rank}
    if batch not in (None, 1) and fixed and batch not in fixed:
        raise UsageError(
            f"{file.name} is fixed at a batch of {min(fixed)}, {batch} was asked for; export it "
            "with a dynamic batch dimension"
        )

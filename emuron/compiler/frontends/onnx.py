"""ONNX models, operator sets 13 and newer; needs the onnx package and no framework."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emuron.compiler.frontends.onnx_import import GraphImporter
from emuron.compiler.frontends.onnx_inputs import input_types
from emuron.compiler.frontends.onnx_read import DAMAGE, read_model
from emuron.compiler.graph import Graph
from emuron.compiler.passes.recognize import recognize
from emuron.errors import ModelFileError


def to_graph(
    model: str | Path | bytes | Any,
    *,
    batch: int | None = None,
    sequence: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    sizes: Mapping[str, int] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    name: str | None = None,
    weights: bool = True,
) -> Graph:
    """Build the graph of an ONNX model: a path, the bytes of a file, or a ModelProto.

    Inputs have the shapes that the file gives them. Dynamic dimensions are bound, in this order,
    by `shapes` (of whole inputs, by name), by `sizes` (of dimensions, by the name in the file), by
    `batch` and `sequence` for what is called so or stands in their place, else to 1. `constants`
    are inputs whose numbers are known now, such as the shape that a Reshape takes. Weights stay in
    the file, memory-mapped where they are external data, and are read when the graph runs; with
    `weights=False` it is made of shapes alone. 64-bit numbers are narrowed to 32 bits.

    Raises ModelFileError for a file that is damaged or no ONNX model, UnsupportedOpError for an
    operator or form that is not compiled (UnknownDataError if a `constants` entry would help),
    with the node's name, and UsageError for shapes that the model does not take.
    """
    file = read_model(model, name)
    known = dict(constants or {})
    types = input_types(file, batch, sequence, shapes or {}, sizes or {}, known)
    importer = GraphImporter(file, with_data=weights)
    try:
        importer.import_graph(types, known)
        graph = importer.b.finish()
    except DAMAGE as error:
        raise ModelFileError(f"{file.name} makes no sense: {error}") from error
    return recognize(graph)

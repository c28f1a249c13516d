"""Small ONNX models, made node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper

from emuron.compiler.evaluate import Evaluator
from emuron.compiler.graph import Graph

OPSET = 21
FLOAT = T.FLOAT


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def value(name: str, shape: Any, element: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, element, shape)


def tensor(name: str, array: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    weights: list[Any] | None = None,
    opset: int = OPSET,
    **fields: Any,
) -> Any:
    graph = helper.make_graph(nodes, "small", inputs, outputs, weights or [])
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=imports, **fields)


def run(graph: Graph, *inputs: Any) -> list[np.ndarray]:
    named = {v.name: np.asarray(a) for v, a in zip(graph.inputs, inputs, strict=True)}
    return list(Evaluator(graph).run(named).values())


X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5

"""How nodes of an ONNX file are named in messages, and the layer that each belongs to."""

from __future__ import annotations

import re
from typing import Any

_TORCH_SCOPES = "pkg.torch.onnx.name_scopes"
_MOST_SHOWN = 80


def described(node: Any) -> str:
    """Return the operator of a node and its name, or what it computes if it has none."""
    if node.name:
        return f"{node.op_type} node {node.name[:_MOST_SHOWN]!r}"
    results = ", ".join(repr(name) for name in node.output if name)
    return f"{node.op_type} node that gives {results[:_MOST_SHOWN] or 'nothing'}"


def scope_of(node: Any) -> str:
    """Return the layer of a node, as `encoder.layer.3.attention`, "" if the file does not tell.

    PyTorch's exporter writes the modules as metadata; others, and its own earlier one, spell the
    path in the node's name: `/encoder/layer.3/attention/MatMul`.
    """
    for entry in node.metadata_props:
        if entry.key == _TORCH_SCOPES:
            scopes = re.findall(r"'([^']*)'", entry.value)
            return scopes[-2] if len(scopes) > 1 else ""
    parts = [part for part in node.name.split("/")[:-1] if part]
    return ".".join(parts)

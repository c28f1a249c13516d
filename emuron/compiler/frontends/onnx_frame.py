"""What the nodes of an ONNX graph, branch or function body can see: tensors and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emuron.compiler.frontends.onnx_operand import Operand
from emuron.errors import ModelFileError, missing_extra

try:
    from onnx import NodeProto
    from onnx.helper import get_attribute_value
except ImportError as error:
    raise missing_extra(error, "Reading an ONNX model") or error from error


@dataclass(slots=True, eq=False)
class Frame:
    """The names in one graph, branch or body, and the attributes that its function was given."""

    opsets: Mapping[str, int]
    outer: Frame | None = None
    names: dict[str, Operand | None] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def find(self, name: str) -> Operand | None:
        """Return the tensor called `name`, of this frame or one around it.

        None if a call left it out. Raises ModelFileError if there is none such.
        """
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names:
                return frame.names[name]
            frame = frame.outer
        raise ModelFileError(
            f"it reads {name!r}, which nothing before it computes: nodes must stand in the order "
            "of their data, so that the graph has a cycle or lacks an input"
        )

    def resolved(self, node: Any) -> Any:
        """Return a node with the function's attributes in place of references to them."""
        if not any(entry.ref_attr_name for entry in node.attribute):
            return node
        found = NodeProto()
        found.CopyFrom(node)
        del found.attribute[:]
        for entry in node.attribute:
            given = self.attributes.get(entry.ref_attr_name) if entry.ref_attr_name else entry
            if given is not None:
                copy = found.attribute.add()
                copy.CopyFrom(given)
                copy.name = entry.name
        return found


def attributes_of(node: Any) -> dict[str, Any]:
    """Return the attributes of a resolved node as Python's values, strings decoded."""
    found = {}
    for entry in node.attribute:
        value = get_attribute_value(entry)
        found[entry.name] = value.decode() if isinstance(value, bytes) else value
    return found

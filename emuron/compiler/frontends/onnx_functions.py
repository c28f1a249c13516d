"""The bodies of operators that are functions: those of the file, and those of ONNX itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from emuron.compiler.frontends.onnx_operand import Operand
from emuron.compiler.frontends.onnx_read import opsets_of, plain_domain
from emuron.errors import ModelFileError, missing_extra

try:
    import onnx
    from onnx.helper import make_tensor_type_proto
except ImportError as error:
    raise missing_extra(error, "Reading an ONNX model") or error from error


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A function's nodes, the operator sets they are written in and its attributes' defaults."""

    proto: Any
    opsets: Mapping[str, int]
    defaults: Mapping[str, Any] = field(default_factory=dict)


def local_functions(model: Any) -> dict[tuple[str, str], Body]:
    """Return the functions that a model brings along, by domain and name."""
    opsets = opsets_of(model.opset_import)
    return {
        (plain_domain(f.domain), f.name): Body(
            f,
            {**opsets, **opsets_of(f.opset_import)},
            {a.name: a for a in f.attribute_proto},
        )
        for f in model.functions
    }


def body_of(
    node: Any, opsets: Mapping[str, int], operands: Sequence[Operand | None]
) -> Body | None:
    """Return the body that ONNX defines an operator by, None if it is a primitive or unknown.

    Some bodies depend on the attributes and on the types of the operands.
    """
    domain = plain_domain(node.domain)
    opset = opsets.get(domain, 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    content = _content(schema, opset, node, operands)
    if not content:
        return None
    proto = onnx.FunctionProto()
    proto.ParseFromString(content)
    defaults = {
        name: a.default_value for name, a in schema.attributes.items() if a.default_value.type
    }
    return Body(proto, {**opsets, **opsets_of(proto.opset_import)}, defaults)


@cache
def is_read_as_in(kind: str, opset: int, newer: int) -> bool:
    """Whether what an operator set writes means the same in a newer one.

    So it does if the newer form has all its operands and attributes, with the same defaults.
    """
    try:
        old, new = (onnx.defs.get_schema(kind, version, "") for version in (opset, newer))
    except onnx.defs.SchemaError:
        return False
    defaults = {n: a.default_value.SerializeToString() for n, a in new.attributes.items()}
    return not new.deprecated and (
        len(old.inputs) <= len(new.inputs)
        and len(old.outputs) <= len(new.outputs)
        and all(
            defaults.get(n) == a.default_value.SerializeToString()
            for n, a in old.attributes.items()
        )
    )


def check_attributes(node: Any, opset: int) -> None:
    """Raise ModelFileError for an attribute of another type than the operator's definition says."""
    expected = _attribute_types(node.op_type, opset, plain_domain(node.domain))
    for entry in node.attribute:
        wanted = expected.get(entry.name, entry.type)
        if entry.type != wanted:
            raise ModelFileError(
                f"its attribute {entry.name!r} is of type {_type_name(entry.type)}, and must be "
                f"{_type_name(wanted)}"
            )


def _type_name(number: int) -> str:
    return str(onnx.AttributeProto.AttributeType.Name(number))


@cache
def _attribute_types(kind: str, opset: int, domain: str) -> Mapping[str, int]:
    try:
        schema = onnx.defs.get_schema(kind, opset, domain)
    except onnx.defs.SchemaError:
        return {}
    return {name: int(a.type.value) for name, a in schema.attributes.items()}


def _content(
    schema: Any, opset: int, node: Any, operands: Sequence[Operand | None]
) -> bytes | None:
    version = max((v for v in schema.function_opset_versions if v <= opset), default=None)
    if version is not None:
        found: bytes = schema.get_function_with_opset_version(version)
        return found
    versions = schema.context_dependent_function_opset_versions
    version = max((v for v in versions if v <= opset), default=None)
    if version is None:
        return None
    types = [
        make_tensor_type_proto(o.element, o.shape) if o is not None else onnx.TypeProto()
        for o in operands
    ]
    built: bytes = schema.get_context_dependent_function_with_opset_version(
        version, node.SerializeToString(), [t.SerializeToString() for t in types]
    )
    return built

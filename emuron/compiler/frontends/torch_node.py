"""What a node of an exported program is, by its target and its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

IGNORED = frozenset({"_assert_tensor_metadata", "_assert_scalar", "_assert_async"})
"""ATen operators that check and compute nothing; `sym_constrain_*` too."""

_POINTWISE = frozenset({"cos", "sin", "mul", "_to_copy", "alias", "clone"})
"""Operators that keep two equal halves of the last dimension equal, given one tensor operand."""


def has_equal_halves(node: Any) -> bool:
    """Tell whether the last dimension is some data twice, as the angles of rotary embeddings."""
    while base_of(node) in _POINTWISE and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    found = node.meta.get("val")
    if base_of(node) != "cat" or found is None or found.dtype.is_complex:
        return False
    parts, dim = node.args[0], node.args[1] if len(node.args) > 1 else 0
    return dim in (-1, found.ndim - 1) and len(parts) == 2 and parts[0] is parts[1]


def is_pure(torch: Any, node: Any) -> bool:
    """Tell whether a node of known operands may be computed now; quantised weights stay so."""
    if name_of(node).startswith("quantized_decomposed"):
        return False
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded not in tags and not base_of(node).startswith("empty")


def is_ignored(node: Any) -> bool:
    """Tell whether a node checks and computes nothing."""
    return base_of(node) in IGNORED or base_of(node).startswith("sym_constrain_")


def is_getitem(node: Any) -> bool:
    """Tell whether a node takes one of another's several results."""
    return getattr(node.target, "__name__", "") == "getitem"


def name_of(node: Any) -> str:
    """Return the operator's full name."""
    return str(node.target)


def key_of(node: Any) -> str:
    """Return the name in the table: without the namespace aten, with any other."""
    return name_of(node).removeprefix("aten.")


def base_of(node: Any) -> str:
    """Return the operator's name without namespace and overload, "" for other nodes."""
    return key_of(node).partition(".")[0] if node.op == "call_function" else ""


def scope_of(node: Any) -> str:
    """Return the module path, as `encoder.layer.3.attention`."""
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    return str(modules[-1][0]).partition("@")[0] if modules else ""


def source_of(node: Any) -> str:
    """Return `file:line` of the innermost frame outside torch that made a node, or ""."""
    found = ""
    for line in (node.meta.get("stack_trace") or "").splitlines():
        text = line.strip()
        if text.startswith('File "'):
            file, _, rest = text[6:].partition('", line ')
            if "/torch/nn/" not in file and "/torch/_" not in file:
                found = f"{Path(file)}:{rest.partition(',')[0]}"
    return found

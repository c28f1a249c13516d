"""Which key of the checkpoint holds each variable of a SavedModel.

Keys follow the objects of the Python program, not the graph's names; what ties the two is the
function that restores the variables, so that is what is read.
"""

from __future__ import annotations

from collections.abc import Iterable

from emuron.compiler.frontends.protobuf_wire import Message
from emuron.compiler.frontends.tensorflow_call import attributes_of, text_of
from emuron.compiler.frontends.tensorflow_proto import tensor

_MOST_STEPS = 16
_PASSED_THROUGH = ("Identity", "Cast")


def checkpoint_keys(graph: Message, restore_op: str) -> dict[str, str]:
    """Return the key of each variable's node that `restore_op` of the graph restores."""
    nodes = {n.get("name", ""): n for n in graph.get("node", [])}
    found = _assigned(nodes)
    call = nodes.get(restore_op.partition(":")[0], {})
    name = attributes_of(call).get("f", {}).get("func", {}).get("name", "")
    functions = graph.get("library", {}).get("function", [])
    for function in functions:
        signature = function.get("signature", {})
        if signature.get("name") != name:
            continue
        arguments = [a.get("name", "") for a in signature.get("input", [])]
        handles = dict(zip(arguments, _data_inputs(call), strict=False))
        inner = _assigned({n.get("name", ""): n for n in function.get("node", [])})
        found.update((handles[a], key) for a, key in inner.items() if a in handles)
    return found


def _assigned(nodes: dict[str, Message]) -> dict[str, str]:
    """Return, by variable, the key whose data an assignment puts into it."""
    found = {}
    for node in nodes.values():
        inputs = _data_inputs(node)
        if node.get("op") in ("AssignVariableOp", "Assign") and len(inputs) == 2:
            key = _restored(nodes, node["input"][1])
            if key:
                found[inputs[0]] = key
    return found


def _restored(nodes: dict[str, Message], reference: str) -> str:
    """Return the key from which a tensor is restored, "" if it is not."""
    for _ in range(_MOST_STEPS):
        name, *rest = reference.split(":")
        node = nodes.get(name, {})
        inputs = node.get("input", [])
        if node.get("op") in _PASSED_THROUGH and inputs:
            reference = inputs[0]
            continue
        if node.get("op") != "RestoreV2" or len(inputs) < 2:
            return ""
        place = int(rest[-1]) if rest and rest[-1].isdigit() else 0
        names = nodes.get(inputs[1].partition(":")[0], {})
        message = attributes_of(names).get("value", {}).get("tensor", {})
        keys = tensor(message, names.get("name", "")).reshape(-1) if message else ()
        return bytes(keys[place]).decode("utf-8", "replace") if place < len(keys) else ""
    return ""


def _data_inputs(node: Message) -> list[str]:
    inputs: Iterable[str] = node.get("input", [])
    return [i.partition(":")[0] for i in inputs if not i.startswith("^")]


def shared_name(node: Message) -> str:
    """Return the name under which a variable's node is shared, or its own."""
    shared = text_of(attributes_of(node).get("shared_name", {}), "s")
    return shared or str(node.get("name", ""))

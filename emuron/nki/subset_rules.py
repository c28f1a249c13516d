"""What the compilers of NKI 0.2 to 0.6 refuse in a kernel's Python, as a table, found in its AST.

Sources: the language guide (values, containers, classes), the release notes of 0.3 (what is not
supported) and the migration guides from 0.1 and to 0.3.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

_MOST_UNSIGNED, _LEAST_SIGNED = 2**32 - 1, -(2**31)  # integers have 32 bits
_CLASS_BASES = frozenset({"NKIObject", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"})


@dataclass(frozen=True, slots=True)
class Rule:
    """A construct that versions `first` to `last` refuse (None: all later ones), and the way out.

    `why` says what becomes of it, where that is not simply an error of the compiler.
    """

    construct: str
    way_out: str
    first: str = "0.2"
    last: str | None = "0.6"
    why: str = "is refused by the compiler"


_SIMULATED = "works in simulation only; the hardware has no such instruction"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "is": Rule("`is` with anything but None", "Compare with == or !=.", "0.3"),
        "generator": Rule("a generator or coroutine", "Build a list, or write the loop out."),
        "keyword only": Rule(
            "the separator * in a kernel's signature",
            "Make the parameters ordinary; they can be given by name all the same.",
            "0.3",
        ),
        "list argument": Rule("a list as a kernel's argument", "Pass a tuple.", "0.3"),
        "no arguments": Rule("a kernel without arguments", "Pass at least one.", last="0.2"),
        "class": Rule(
            "a class that does not derive from NKIObject alone",
            "Derive it from nl.NKIObject (enumerations from Enum), with no other base.",
        ),
        "dict key": Rule("a dict key that is no string", "Use strings, such as str(i)."),
        "set": Rule("a set", "Use a list or a dict with string keys."),
        "value": Rule(
            "a value that is no None, bool, 32-bit int or float, string or tensor",
            "Compute it outside of the kernel, in a type that the compiler has.",
        ),
        "global": Rule(
            "`global`",
            "Pass the value in, and return what changes.",
            last=None,
            why="makes the kernel depend on more than its arguments, by which it is cached",
        ),
        "divide": Rule(
            "nl.divide", "Use nl.multiply(x, nl.reciprocal(y)).", "0.3", None, _SIMULATED
        ),
        "mod": Rule(
            "nl.mod or nl.fmod",
            "Work the remainder out with nl.multiply and conversions, or on the host.",
            "0.3",
            None,
            _SIMULATED,
        ),
        "power": Rule(
            "nl.power with a number as exponent",
            "Make the exponent a tile, say by nl.full.",
            "0.3",
            None,
            _SIMULATED,
        ),
        "matmul": Rule(
            "nl.matmul without transpose_x=True",
            "Arrange x transposed and give transpose_x=True.",
            "0.3",
            None,
            _SIMULATED,
        ),
        "legacy": Rule(
            "a name of the first NKI (neuronxcc.nki)",
            "Replace index tensors and masks by slices with min() or by .ap, block dimensions by "
            "lists of tiles, loop_reduce and `+=` by accumulation in PSUM or nisa.tensor_tensor.",
            last=None,
            why="does not exist in `nki`",
        ),
        "mask": Rule(
            "mask=",
            "Slice the operands to the valid part, say with min().",
            last=None,
            why="does not exist in `nki`",
        ),
    }
)

_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "divide": "divide",
        "fmod": "mod",
        "mod": "mod",
        **dict.fromkeys(
            ("arange", "mgrid", "par_dim", "loop_reduce", "atomic_rmw", "static_cast", "spmd_dim"),
            "legacy",
        ),
    }
)
"""Functions of `nl` whose mention in a call is a finding."""

_LANGUAGE = frozenset({"nl", "nisa", "language", "isa"})


def found(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (key of a rule, line) of each construct of a function's tree, in no order."""
    for node in ast.walk(tree):
        check = _CHECKS.get(type(node))
        key = None if check is None else check(node)
        if key is not None:
            yield key, getattr(node, "lineno", 1)


def found_in_signature(tree: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, int]]:
    """Yield what is refused in the signature of a kernel that is launched."""
    if tree.args.kwonlyargs:
        yield "keyword only", tree.args.kwonlyargs[0].lineno
    for default in tree.args.defaults:
        if isinstance(default, ast.List):
            yield "list argument", default.lineno


def derives_properly(kind: type) -> bool:
    """Return whether a class may be used in a kernel: an NKIObject or an enumeration."""
    if any(base.__name__ in _CLASS_BASES - {"NKIObject"} for base in kind.__mro__):
        return True
    return len(kind.__bases__) == 1 and any(base.__name__ == "NKIObject" for base in kind.__mro__)


def _comparison(node: Any) -> str | None:
    sides = [node.left, *node.comparators]
    identity = any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
    with_none = any(isinstance(side, ast.Constant) and side.value is None for side in sides)
    return "is" if identity and not with_none else None


def _dict(node: Any) -> str | None:
    keys = [key for key in node.keys if isinstance(key, ast.Constant)]
    return "dict key" if any(not isinstance(key.value, str) for key in keys) else None


def _constant(node: Any) -> str | None:
    value = node.value
    if isinstance(value, bytes | complex):
        return "value"
    if isinstance(value, int) and not _LEAST_SIGNED <= value <= _MOST_UNSIGNED:
        return "value"
    return None


def _class(node: Any) -> str | None:
    names = [
        base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        for base in node.bases
    ]
    return None if len(names) == 1 and names[0] in _CLASS_BASES else "class"


def _call(node: Any) -> str | None:
    function = node.func
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return None
    if function.value.id not in _LANGUAGE:
        return None
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    if "mask" in named:
        return "mask"
    if function.attr == "power":
        exponent = node.args[1] if len(node.args) > 1 else named.get("y")
        return "power" if isinstance(exponent, ast.Constant) else None
    if function.attr == "matmul":
        turned = node.args[2] if len(node.args) > 2 else named.get("transpose_x")
        given = isinstance(turned, ast.Constant) and turned.value is True
        return None if given else "matmul"
    return _NAMES.get(function.attr)


def _always(key: str) -> Callable[[Any], str | None]:
    return lambda node: key


_CHECKS: Mapping[type, Callable[[Any], str | None]] = MappingProxyType(
    {
        ast.Compare: _comparison,
        ast.Dict: _dict,
        ast.Constant: _constant,
        ast.ClassDef: _class,
        ast.Call: _call,
        ast.Set: _always("set"),
        ast.SetComp: _always("set"),
        ast.Global: _always("global"),
        **dict.fromkeys(
            (ast.Yield, ast.YieldFrom, ast.GeneratorExp, ast.Await, ast.AsyncFunctionDef),
            _always("generator"),
        ),
    }
)

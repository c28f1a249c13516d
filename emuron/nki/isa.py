"""`nki.isa`: one function for each registered instruction, in NKI's argument order, and the enums.

The functions are made from the instruction classes, so that a signature stands in one place; a
type checker reads `isa.pyi`, which is generated. Each takes `name=` (a label) beside the
instruction's operands and attributes and returns an `NkiInstruction`. Forms of earlier NKI
versions are accepted with a DeprecationWarning (`earlier_arguments`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pkgutil import iter_modules
from types import SimpleNamespace
from typing import Any

from emuron import isa as _instruction_set
from emuron.errors import UsageError
from emuron.isa.instruction import REGISTRY, Instruction
from emuron.isa.meetings import Meeting
from emuron.isa.tensor import AccessPattern
from emuron.nki import enums
from emuron.nki.earlier_arguments import ADAPTED, RENAMED, accept_earlier, earlier_keywords, renamed
from emuron.nki.enums import (
    NamedMember,
    dge_mode,
    dma_engine,
    engine,
    matmul_perf_mode,
    nc_version,
    oob_mode,
    reduce_cmd,
)
from emuron.nki.operators import operator_name
from emuron.nki.recorder import current, recorder
from emuron.nki.registers import VirtualRegister as VirtualRegister
from emuron.nki.registers import register_alloc as register_alloc
from emuron.nki.registers import register_load as register_load
from emuron.nki.registers import register_move as register_move
from emuron.nki.registers import register_store as register_store
from emuron.nki.scheduling import NkiInstruction, label
from emuron.nki.target import current_core

_OPERATORS = frozenset({"op", "op0", "op1", "reduce_op", "cmp_op", "comp_op0", "comp_op1"})
_PLAIN = frozenset(
    f"{kind}{optional}" for kind in ("str", "bool", "int") for optional in ("", " | None")
)


def get_nc_version() -> nc_version:
    """Return the generation of the NeuronCore that the kernel runs on."""
    return nc_version(current_core().nc_version or 0)


def get_nc_sub_version() -> int:
    """Return the revision within the generation, always 0."""
    return 0


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, list | tuple) else value


def _number(value: Any) -> Any:
    """Return a scalar operand as a tensor, a float or None."""
    if value is None or isinstance(value, AccessPattern):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"A scalar operand is {value!r}; give a number or a [P, 1] tile in SBUF."
        ) from None


def _attribute(field: Field[Any]) -> str:
    """Return the expression that brings an attribute into the form that programs store."""
    name, kind = field.name, str(field.type)
    if name in _OPERATORS:
        return f"({name} if isinstance({name}, str) else _operator_name({name}))"
    if name in enums.OF_ATTRIBUTE:
        return f"({name} if isinstance({name}, str) else _{name}.of({name}))"
    if kind in ("float", "float | None"):
        return f"({name} if {name} is None or {name}.__class__ is float else _number({name}))"
    if kind not in _PLAIN:
        default = "None" if field.default is MISSING else f"_default_{name}"
        return f"({name} if {name} is {default} else _hashable({name}))"
    return name


def _operand(name: str, kind: str) -> str:
    plain = f"{name} is None or {name}.__class__ is float"
    return f"({name} if {plain} else _number({name}))" if kind == "Scalar" else name


def _layout(operand: str, kind: str) -> str:
    """Return the expression of what an operand adds to the key of a form."""
    if kind in ("In", "Out", "InOut"):
        return f"{operand}.layout"
    return f"({operand}.layout if isinstance({operand}, _View) else {operand})"


_SCOPE: dict[str, Any] = {
    "_current": current.get,
    "_recorder": recorder,
    "_hashable": _hashable,
    "_number": _number,
    "_operator_name": operator_name,
    "_handle": NkiInstruction,
    "_new": object.__new__,
    "_View": AccessPattern,
    "_label": label,
    **{f"_{name}": member for name, member in enums.OF_ATTRIBUTE.items()},
}


def _parameters(cls: type[Instruction], scope: dict[str, Any]) -> list[str]:
    """Return the parameters of an instruction's function; their defaults go into `scope`."""
    parameters = []
    for field in fields(cls):
        if field.default is MISSING:
            parameters.append(field.name)
        else:
            member = enums.OF_ATTRIBUTE.get(field.name)
            scope[f"_default_{field.name}"] = member.of(field.default) if member else field.default
            parameters.append(f"{field.name}=_default_{field.name}")
    return [*parameters, "name=None"]


def _issuer(cls: type[Instruction]) -> Callable[..., NkiInstruction]:
    """Return the function that issues `cls`, with the signature of its fields."""
    scope: dict[str, Any] = {**_SCOPE, "_cls": cls}
    parameters = _parameters(cls, scope)
    rename = ""
    earlier = earlier_keywords(cls.mnemonic)
    if earlier is not None:
        parameters.append("**_earlier")
        given = ", ".join(f"{field.name!r}: {field.name}" for field in fields(cls))
        rename = f"    if _earlier:\n        return {cls.mnemonic}(**_now({{{given}}}, _earlier))\n"
        scope["_now"] = earlier
    source = (
        f"def {cls.mnemonic}({', '.join(parameters)}):\n{rename}"
        "    try:\n        r = _current()\n"
        "    except LookupError:\n        r = _recorder()\n"
        f"{_issue(cls)}"
        "    if name is not None:\n        _label(name, row)\n"
        "    made = _new(_handle)\n    made.row = row\n    return made\n"
    )
    # A template over our own field names, as dataclasses does; the file name marks its frames.
    exec(compile(source, f"{__file__} ({cls.mnemonic})", "exec"), scope)
    made: Callable[..., NkiInstruction] = scope[cls.mnemonic]
    made.__doc__ = cls.__doc__
    made.__module__ = __name__
    return accept_earlier(made) if cls.mnemonic in ADAPTED else made


def _issue(cls: type[Instruction]) -> str:
    """Return the lines of an issuer that add `row` to the program."""
    by_name = {field.name: field for field in fields(cls)}
    operands = "".join(f"{_operand(name, kind)}, " for name, kind in cls.operands)
    attributes = "".join(f"{_attribute(by_name[name])}, " for name in cls.attributes)
    if issubclass(cls, Meeting):
        return f"    row = r.meet(_cls, ({operands}), ({attributes}))\n"
    # Calls alike have one form: the shortest way for what kernels do most.
    layouts = [_layout(name, kind) for name, kind in cls.operands]
    call = f"r.calls[{', '.join(['_cls', *layouts, *cls.attributes])}]"
    return (
        f"    try:\n        form = {call}\n"
        "    except (KeyError, AttributeError, TypeError):\n"
        "        form = None\n"
        "    if form is None:\n"  # what it refuses is not shown as an error within another
        f"        form = r.program.table.form(_cls, ({operands}), ({attributes}))\n"
        f"        try:\n            {call} = form\n"
        "        except TypeError:\n            pass\n"  # lists and the like
        f"    row = r.put(form, ({''.join(f'{name}, ' for name, _ in cls.operands)}))\n"
    )


for _module in iter_modules(_instruction_set.__path__):
    import_module(f"{_instruction_set.__name__}.{_module.name}")  # registers its instructions
globals().update({name: _issuer(cls) for name, cls in REGISTRY.items() if cls.exposed})
globals().update({old: renamed(old, globals()[new]) for old, new in RENAMED.items()})

_ENUMS: tuple[type[NamedMember], ...] = (
    engine,
    reduce_cmd,
    dge_mode,
    oob_mode,
    matmul_perf_mode,
    dma_engine,
)
constants = SimpleNamespace(**{e.__name__: e for e in _ENUMS}, nc_version=nc_version)
tensor_engine, vector_engine = engine.tensor, engine.vector
scalar_engine, gpsimd_engine = engine.scalar, engine.gpsimd
unknown_engine = engine.unknown


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"nki.isa has no instruction '{name}'. "
        f"Known: {', '.join(sorted(n for n, cls in REGISTRY.items() if cls.exposed))}."
    )

"""`nki.isa`: one function for each registered instruction, in NKI's argument order.

The functions are made from the instruction classes, so that a signature stands in one place. Each
takes `name=` (a label) beside the instruction's own operands and attributes and returns None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from emuron import isa as _instruction_set
from emuron.isa.instruction import REGISTRY, Instruction
from emuron.nki.recorder import recorder


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, list | tuple) else value


def _issuer(cls: type[Instruction]) -> Callable[..., None]:
    """Return the function that issues `cls`, with the signature of its fields."""
    defaults: dict[str, Any] = {}
    parameters = []
    for field in fields(cls):
        if field.default is MISSING:
            parameters.append(field.name)
        else:
            defaults[f"_{field.name}"] = field.default
            parameters.append(f"{field.name}=_{field.name}")
    listed = {f.name for f in fields(cls) if "tuple" in str(f.type)}
    operands = "".join(f"{name}, " for name, _ in cls.operands)
    attributes = "".join(
        f"_hashable({name}), " if name in listed else f"{name}, " for name in cls.attributes
    )
    source = (
        f"def {cls.mnemonic}({', '.join(parameters)}, name=None):\n"
        f"    _recorder().issue(_cls, ({operands}), ({attributes}))\n"
    )
    scope = {"_cls": cls, "_recorder": recorder, "_hashable": _hashable, **defaults}
    exec(source, scope)  # a template over our own field names, as dataclasses does
    made: Callable[..., None] = scope[cls.mnemonic]
    made.__doc__ = cls.__doc__
    made.__module__ = __name__
    return made


for _module in iter_modules(_instruction_set.__path__):
    import_module(f"{_instruction_set.__name__}.{_module.name}")  # registers its instructions
globals().update({name: _issuer(cls) for name, cls in REGISTRY.items()})


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"nki.isa has no instruction '{name}'. Known: {', '.join(sorted(REGISTRY))}."
    )

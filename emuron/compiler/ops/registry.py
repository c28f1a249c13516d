"""The list of canonical operators, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from emuron.compiler.graph import Op
from emuron.errors import UnknownNameError

_REGISTRY: dict[str, type[Op]] = {}
"""Filled while the modules of this package are imported, and never after."""

OPS: Mapping[str, type[Op]] = MappingProxyType(_REGISTRY)
"""Every canonical operator by name."""

OpClass = TypeVar("OpClass", bound=type[Op])


def op(name: str) -> Callable[[OpClass], OpClass]:
    """Register the decorated frozen dataclass as the canonical operator `name`."""

    def register(cls: OpClass) -> OpClass:
        if name in _REGISTRY:
            raise AssertionError(f"operator {name!r} is defined twice")
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return register


def find_op(name: str) -> type[Op]:
    """Return the operator called `name`; raise UnknownNameError otherwise."""
    if name not in OPS:
        raise UnknownNameError("operator", name, OPS)
    return OPS[name]

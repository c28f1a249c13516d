"""Classes of kernels: `nki.language.NKIObject`."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any


def _plain(name: str, value: object) -> bool:
    """Return whether a class attribute can be a field: a value, neither code nor mutable."""
    return (
        not name.startswith("__") and not hasattr(value, "__get__") and value.__hash__ is not None
    )


class NKIObject:
    """Base of a kernel's own classes; its keywords become attributes.

    A subclass with annotations and no initialiser of its own takes them in order; missing ones are
    the class's value or None. `__post_init__` comes last. The plain attributes of a class without
    annotations count as annotated, for `@dataclass` too.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not inspect.get_annotations(cls):
            cls.__annotations__ = {
                name: Any for name, value in vars(cls).items() if _plain(name, value)
            }

    def __init__(self, *values: Any, **named: Any) -> None:
        if isinstance(self, Enum):  # whose values are no attributes
            return
        classes = reversed(type(self).__mro__)
        names = [name for kind in classes for name in inspect.get_annotations(kind)]
        if len(values) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, not {len(values)}")
        for name in names:
            setattr(self, name, getattr(type(self), name, None))
        for name, value in {**dict(zip(names, values, strict=False)), **named}.items():
            setattr(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Do nothing; a class may derive attributes from those given."""

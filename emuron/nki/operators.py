"""Operators of `nki.language`: tokens for instructions that also compute when called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emuron.errors import UsageError
from emuron.nki.earlier_forms import form_of


class Operator(str):
    """A name that instructions take as `op=`, and a function on tiles: `op=nl.add`, `nl.add(x, y)`.

    Equal to its name as a string, so that programs hold plain strings. Operators without a
    function are tokens only.
    """

    __name__: str
    _compute: Callable[..., Any] | None

    def __new__(cls, name: str, compute: Callable[..., Any] | None = None) -> Operator:
        """Make an operator from the name that instructions know and its function."""
        self = super().__new__(cls, name)
        self._compute = compute
        self.__name__ = name if compute is None else compute.__name__
        self.__doc__ = "An operator of instructions." if compute is None else compute.__doc__
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Pickle as the name, which means the same to every instruction."""
        return str, (str(self),)

    @form_of("maths")
    def __call__(self, *tiles: Any, **options: Any) -> Any:
        """Return a new tile with the operator's results."""
        if self._compute is None:
            raise TypeError(f"nl.{self.__name__} is an operator of instructions, not a function")
        return self._compute(*tiles, **options)


_NUMPY_NAMES = {"max": "maximum", "min": "minimum", "sum": "add", "prod": "multiply"}


def operator_name(value: Any) -> Any:
    """Return an operator as its name; NumPy's functions stand for the operators they compute."""
    if value is None or isinstance(value, str):
        return value
    name = getattr(value, "__name__", None)
    if name is None:
        raise UsageError(f"An operator is {value!r}; give one of nki.language, such as nl.add.")
    return _NUMPY_NAMES.get(name, name)

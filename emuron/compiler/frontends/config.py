"""Typed access to the fields of a model's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emuron.errors import ModelFileError

MOST_SIZE = 1 << 31
"""No dimension of a tensor that we index with 32 bits is longer."""


@dataclass(frozen=True, slots=True)
class ConfigReader:
    """Reads fields of a config and complains with the file's name; `where` is that name."""

    fields: Mapping[str, Any]
    where: str

    def size(self, *names: str, default: int | None = None) -> int:
        """Return the first of `names` that is present, a positive integer."""
        value = self._find(names, default)
        if type(value) is not int or not 0 < value < MOST_SIZE:
            raise self._wrong(names[0], value, f"a whole number in 1..{MOST_SIZE - 1}")
        return value

    def sizes(self, name: str) -> tuple[int, ...]:
        """Return a list of positive integers, one or more."""
        value = self._find((name,), None)
        whole = isinstance(value, list | tuple) and all(type(v) is int and v > 0 for v in value)
        if not whole or not value:
            raise self._wrong(name, value, "a list of whole numbers above 0")
        return tuple(value)

    def number(self, *names: str, default: float | None = None) -> float:
        """Return the first of `names` that is present, a number."""
        value = self._find(names, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(names[0], value, "a number")
        return float(value)

    def text(self, *names: str, default: str | None = None) -> str:
        """Return the first of `names` that is present, a string."""
        value = self._find(names, default)
        if not isinstance(value, str):
            raise self._wrong(names[0], value, "a string")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value."""
        value = self._find((name,), default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def group(self, *names: str) -> ConfigReader:
        """Return the first of `names` that is present as a reader of its own, else an empty one."""
        for name in names:
            value = self.fields.get(name)
            if isinstance(value, Mapping):
                return ConfigReader(value, f"{self.where}, {name}")
            if value is not None:
                raise self._wrong(name, value, "an object")
        return ConfigReader({}, self.where)

    def _find(self, names: tuple[str, ...], default: Any) -> Any:
        for name in names:
            if self.fields.get(name) is not None:
                return self.fields[name]
        if default is None:
            raise ModelFileError(f"{self.where}: the field {names[0]!r} is missing")
        return default

    def _wrong(self, name: str, value: Any, expected: str) -> ModelFileError:
        return ModelFileError(f"{self.where}: {name!r} must be {expected}, found {value!r}")

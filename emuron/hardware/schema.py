"""Reading of the hardware data files: inheritance, sources, and checked dataclasses.

A data file is TOML. Besides its figures it may carry `inherits` (another file of the folder),
`[sources]` (dotted path, or a pattern such as "timing.*", to where the figure is stated) and
`[alternatives]` (dotted path to the values that other sources state). Every leaf needs a source.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

from emuron.errors import UsageError

T = TypeVar("T")
Table = Mapping[str, Any]

# Keys that name things rather than state a figure.
NAMING_KEYS = frozenset({"name", "version", "aliases", "core", "chip", "kind", "region", "source"})
STATUS_WORDS = ("measured:", "assumed:", "fitted:")


@dataclass(frozen=True, slots=True)
class Alternative:
    """A value that another source states for the figure at `path`."""

    path: str
    value: float | str
    source: str


@dataclass(frozen=True, slots=True)
class Document:
    """One data file with what it inherits: nested values, a source a leaf, alternatives."""

    name: str
    values: Table
    sources: Mapping[str, str]
    alternatives: tuple[Alternative, ...]


def read_toml(folder: Traversable, name: str) -> dict[str, Any]:
    """Return the parsed file `name`.toml of `folder`; raise UsageError if it is not valid TOML."""
    try:
        return tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"hardware data file {name}.toml does not exist in {folder}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"hardware data file {name}.toml is not valid TOML: {error}") from None


def load_document(folder: Traversable, name: str, citations: Table) -> Document:
    """Return the file `name`.toml merged over what it inherits, each leaf with its source.

    Raises UsageError for a leaf without a source, a source of an unknown kind (neither one of
    `citations` nor `measured: assumed: fitted:`), or a source or alternative for no leaf.
    """
    table = read_toml(folder, name)
    patterns: dict[str, str] = table.pop("sources", {})
    alternatives: dict[str, list[dict[str, Any]]] = table.pop("alternatives", {})
    parent = table.pop("inherits", None)
    own = dict(_leaves(table))
    inherited = load_document(folder, parent, citations) if parent else Document(name, {}, {}, ())
    sources = dict(inherited.sources)
    for path in {**inherited.sources, **own}:
        source = own.get(path)
        source = source_of(path, patterns) if source is None else source
        if source is None and path in own:
            raise UsageError(
                f"hardware data file {name}.toml: {path} has no source; "
                f"add it to [sources], or a pattern that covers it"
            )
        sources[path] = sources[path] if source is None else source
    notes = tuple(
        Alternative(path, item["value"], item["source"])
        for path, items in alternatives.items()
        for item in items
    )
    _check_references(name, patterns, notes, sources, citations)
    restated = {*own, *alternatives}
    kept = tuple(note for note in inherited.alternatives if note.path not in restated)
    return Document(name, _merge(inherited.values, table), sources, kept + notes)


def source_of(path: str, patterns: Mapping[str, str]) -> str | None:
    """Return the source of `path`: its own entry, else that of the longest matching pattern."""
    if path in patterns:
        return patterns[path]
    matching = [pattern for pattern in patterns if _fits(path, pattern)]
    return patterns[max(matching, key=len)] if matching else None


def _fits(path: str, pattern: str) -> bool:
    fixed = pattern.partition("*")[0]  # told apart first: matching patterns is slow
    return path == pattern or (path.startswith(fixed) and fnmatchcase(path, pattern))


def build(cls: type[T], table: Table, where: str, **given: object) -> T:
    """Return the dataclass `cls` filled from `table`; `given` are fields that no file states.

    Raises UsageError, naming `where`, for an unknown key, a missing key or a wrong type.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if "source" not in fields:  # stated beside the figures, kept by load_document
        table = {key: value for key, value in table.items() if key != "source"}
    unknown = set(table) - (set(fields) - set(given))
    if unknown:
        known = ", ".join(sorted(set(fields) - set(given)))
        raise UsageError(f"{where}: unknown key {sorted(unknown)[0]!r}; known keys are {known}")
    filled: dict[str, object] = dict(given)
    for name, field in fields.items():
        if name in table:
            filled[name] = _value(hints[name], table[name], f"{where}.{name}")
        elif name not in given and _is_required(field):
            raise UsageError(f"{where}: missing key {name!r}")
    return cls(**filled)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, where: str) -> object:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        return _value(hint, value, where)
    if origin is tuple:
        return _tuple(typing.get_args(hint)[0], value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}: expected a table, found {value!r}")
        return build(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise UsageError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _tuple(item: Any, value: Any, where: str) -> tuple[object, ...]:
    if isinstance(value, list):
        return tuple(_value(item, entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected a list or a table, found {value!r}")
    if typing.get_origin(item) is tuple:  # a table of figures: (key, value) pairs
        second = typing.get_args(item)[1]
        return tuple((key, _value(second, v, f"{where}.{key}")) for key, v in value.items())
    return tuple(build(item, {"name": key, **v}, f"{where}.{key}") for key, v in value.items())


def _leaves(
    table: Table, prefix: str = "", source: str | None = None
) -> Iterator[tuple[str, str | None]]:
    """Yield each leaf path with the source that its own table states inline, if any."""
    inline = table.get("source", source)
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.", inline)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for i, entry in enumerate(value):
                yield from _leaves(entry, f"{path}[{i}].", inline)
        elif key not in NAMING_KEYS:
            yield path, inline


def _merge(below: Table, above: Table) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _check_references(
    name: str,
    patterns: Mapping[str, str],
    alternatives: tuple[Alternative, ...],
    leaves: Mapping[str, str],
    citations: Table,
) -> None:
    for pattern in patterns:
        if not any(_fits(path, pattern) for path in leaves):
            raise UsageError(f"hardware data file {name}.toml: [sources] {pattern!r} fits no key")
    for note in alternatives:
        if note.path not in leaves:
            raise UsageError(
                f"hardware data file {name}.toml: [alternatives] {note.path!r} fits no key"
            )
    stated = [*patterns.values(), *(note.source for note in alternatives), *leaves.values()]
    for source in stated:
        words = source.split()
        if not words or (words[0] not in STATUS_WORDS and words[0] not in citations):
            raise UsageError(
                f"hardware data file {name}.toml: source {source!r} starts with neither a "
                f"citation of citations.toml nor one of {' '.join(STATUS_WORDS)}"
            )

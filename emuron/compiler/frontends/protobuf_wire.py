"""Protocol buffers read from their wire format by small schemas, without generated code.

Source: protobuf.dev, "Encoding". Sizes are checked before anything is read, so that a damaged or
hostile file costs bounded time and memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from emuron.errors import ModelFileError

MOST_FIELDS = 3_000_000
"""Fields of one file that are read: the graph of a BERT-large has some hundred thousand."""

MOST_DEPTH = 48
"""Messages within messages: those of TensorFlow nest less than 20 deep."""

Kind = Literal["int", "bool", "float", "double", "bytes", "string", "ints", "floats", "doubles"]
"""How a field is read; the plurals are packed or repeated numbers, which become an array."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10
_ARRAYS = ("ints", "floats", "doubles")
_LOW_BITS, _MORE = 0x7F, 0x80

Message = dict[str, Any]
"""A message's fields by name; a field that is absent from the file is absent here."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a schema: its name, how it is read, and whether it may come many times."""

    name: str
    kind: Kind | Schema
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields of a message by number; other fields of the file are skipped."""

    fields: dict[int, Field] = field(default_factory=dict)


def schema(**fields: tuple[int, Kind | Schema] | tuple[int, Kind | Schema, bool]) -> Schema:
    """Return a schema from `name=(number, kind)` or `name=(number, kind, True)` if repeated."""
    return Schema({spec[0]: Field(name, *spec[1:]) for name, spec in fields.items()})


def parse(data: memoryview, of: Schema, where: str) -> Message:
    """Return the message in `data`; raise ModelFileError, naming `where`, if it is malformed."""
    return _Parser(where).message(data, of, 0)


def read_varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
    """Return the number of variable length that begins at `at`, and where it ends."""
    value = 0
    for place, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & _LOW_BITS) << (7 * place)
        if not byte & _MORE:
            return value, at + place + 1
    raise ModelFileError(f"{where}: a number does not end; the file is damaged or of another kind")


class _Parser:
    def __init__(self, where: str) -> None:
        self.where = where
        self.left = MOST_FIELDS

    def fail(self, why: str) -> ModelFileError:
        return ModelFileError(f"{self.where}: {why}; the file is damaged or of another kind")

    def message(self, data: memoryview, of: Schema, depth: int) -> Message:
        if depth > MOST_DEPTH:
            raise self.fail(f"messages nest more than {MOST_DEPTH} deep")
        found: Message = {}
        for number, wire, value in self.tags(data):
            known = of.fields.get(number)
            if known is None:
                continue
            read = self.value(known, wire, value, depth)
            if known.repeated or known.kind in _ARRAYS:
                found.setdefault(known.name, []).append(read)
            else:
                found[known.name] = read
        arrays = {f.name for f in of.fields.values() if f.kind in _ARRAYS}
        for name in arrays & found.keys():
            found[name] = np.concatenate(found[name])
        return found

    def tags(self, data: memoryview) -> Iterator[tuple[int, int, Any]]:
        """Yield each field's number, wire type and undecoded value."""
        at, end = 0, len(data)
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise ModelFileError(
                    f"{self.where}: has more than {MOST_FIELDS} fields, the most that are read"
                )
            tag, at = read_varint(data, at, self.where)
            wire = tag & 7
            value: Any
            if wire == _VARINT:
                value, at = read_varint(data, at, self.where)
            else:
                size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
                if wire == _BYTES:
                    size, at = read_varint(data, at, self.where)
                if size is None:
                    raise self.fail(f"has a field of wire type {wire}")
                if size > end - at:
                    raise self.fail(f"a field of {size} bytes exceeds the {end - at} that are left")
                value, at = data[at : at + size], at + size
            yield tag >> 3, wire, value

    def value(self, known: Field, wire: int, value: Any, depth: int) -> Any:
        kind = known.kind
        if isinstance(kind, Schema):
            return self.message(self.bytes(known, value), kind, depth + 1)
        if kind == "bytes":
            return self.bytes(known, value)
        if kind == "string":
            return str(self.bytes(known, value), "utf-8", "replace")
        if kind in ("int", "bool"):
            if wire != _VARINT:
                raise self.fail(f"the field {known.name!r} is no whole number")
            return bool(value) if kind == "bool" else _signed(value)
        return self.numbers(known, wire, value)

    def bytes(self, known: Field, value: Any) -> memoryview:
        if not isinstance(value, memoryview):
            raise self.fail(f"the field {known.name!r} is a number where bytes are expected")
        return value

    def numbers(self, known: Field, wire: int, value: Any) -> Any:
        """Return a float, or an array of numbers, packed or single."""
        kind = known.kind
        if kind == "ints":
            one = wire == _VARINT
            return np.array([_signed(value)], np.int64) if one else self.varints(value)
        size, code, to = (4, "<f", "<f4") if kind in ("float", "floats") else (8, "<d", "<f8")
        if wire == _VARINT or len(value) % size:
            raise self.fail(f"the field {known.name!r} does not hold whole numbers of {size} bytes")
        if kind in ("float", "double"):
            if len(value) != size:
                raise self.fail(f"the field {known.name!r} has {len(value)} bytes, not {size}")
            return struct.unpack(code, value)[0]
        return np.frombuffer(value, to)

    def varints(self, data: memoryview) -> np.ndarray:
        """Return packed varints, all at once."""
        raw = np.frombuffer(data, np.uint8)
        if not raw.size:
            return np.zeros(0, np.int64)
        last = raw < _MORE
        ends = np.flatnonzero(last)
        if not last[-1] or np.diff(ends, prepend=-1).max() > _VARINT_BYTES:
            raise self.fail("a number does not end")
        first = np.concatenate([[0], ends[:-1] + 1])
        place = np.arange(raw.size) - np.repeat(first, ends - first + 1)
        parts = (raw & _LOW_BITS).astype(np.uint64) << (place * 7).astype(np.uint64)
        return np.bitwise_or.reduceat(parts, first).view(np.int64)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def bytes_of(message: Mapping[str, Any], name: str) -> memoryview:
    """Return a bytes field, empty if absent."""
    found: memoryview = message.get(name, memoryview(b""))
    return found

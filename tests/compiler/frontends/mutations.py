"""Damage to model files: of bytes, of JSON, of protocol buffers and of zip archives."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

_EXTREMES = (-1, 0, 1, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
_MOST_ELEMENTS_MOVED = 64


def mutate_bytes(random: Random, content: bytes) -> bytes:
    """Return a file with a few of its bytes changed, moved, doubled or lost."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        length = random.choice((1, 2, 8, 64))
        kind = random.randrange(6)
        if kind == 0:
            data[at : at + 1] = bytes([random.randrange(256)])
        elif kind == 1:
            data[at : at + length] = random.randbytes(length)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[max(0, at - length) : at]
        elif kind == 4:
            data[at : at + length] = random.choice((b"\xff", b"\x00", b"\x7f")) * length
        else:
            del data[at:]
    return bytes(data)


def mutate_json(random: Random, content: bytes) -> bytes:
    """Return JSON of which one value is another one, of any kind."""
    parsed = json.loads(content)
    places = list(_places(parsed))
    if not places:
        return mutate_bytes(random, content)
    container, key = random.choice(places)
    other_container, other_key = random.choice(places)
    nested: Any = 1
    for _ in range(200):
        nested = [nested]
    container[key] = random.choice(
        (
            *_EXTREMES,
            *(None, True, 1.5, "", "x", [], {}, [-1], nested, "9" * 30, "../../x", float("nan")),
            other_container[other_key],
        )
    )
    try:
        return json.dumps(parsed).encode()
    except ValueError:  # the value holds itself
        return mutate_bytes(random, content)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def mutate_onnx(random: Random, content: bytes) -> bytes:
    """Return a model of which one field of the protocol buffer is changed."""
    from onnx import ModelProto

    model = ModelProto()
    model.ParseFromString(content)
    message = model
    while random.random() < 0.9:
        inner = [m for field, v in message.ListFields() for m in _messages(field, v)]
        if not inner:
            break
        message = random.choice(inner)
    fields = message.ListFields()
    if not fields:
        return mutate_bytes(random, content)
    field, value = random.choice(fields)
    names = [n for node in model.graph.node for n in (*node.input, *node.output, node.op_type)]
    if _is_repeated(value):
        _mutate_repeated(random, field, getattr(message, field.name), names)
    elif field.message_type is not None:
        message.ClearField(field.name)
    else:
        _set(random, message, field, names)
    return model.SerializeToString()


def _is_repeated(value: Any) -> bool:
    return hasattr(value, "extend") and not isinstance(value, bytes | str)


def _messages(field: Any, value: Any) -> list[Any]:
    if field.message_type is None:
        return []
    return list(value) if _is_repeated(value) else [value]


def _mutate_repeated(random: Random, field: Any, values: Any, names: list[str]) -> None:
    place = random.randrange(len(values))
    kind = random.randrange(3)
    if kind == 0:
        del values[place]
    elif field.message_type is not None:
        values.add().CopyFrom(values[place])
        if kind == 1 and len(values) < _MOST_ELEMENTS_MOVED:
            moved = [type(v).FromString(v.SerializeToString()) for v in values]
            random.shuffle(moved)
            del values[:]
            values.extend(moved)
    elif kind == 1:
        values.append(values[place])
    else:
        with suppress(ValueError):  # the field is narrower than 64 bits
            values[place] = _other(random, values[place], names)


def _set(random: Random, message: Any, field: Any, names: list[str]) -> None:
    if field.enum_type is not None:
        setattr(message, field.name, random.choice(field.enum_type.values).number)
        return
    try:
        setattr(message, field.name, _other(random, getattr(message, field.name), names))
    except ValueError:  # the field is narrower than 64 bits
        setattr(message, field.name, random.randrange(40))


def _other(random: Random, value: Any, names: list[str]) -> Any:
    if isinstance(value, str):
        return random.choice((*names, "", "x" * 1000, "../../x"))
    if isinstance(value, bytes):
        return mutate_bytes(random, value)
    if isinstance(value, float):
        return random.choice((0.0, -1.0, 1e38, float("inf"), float("nan")))
    return random.choice((*_EXTREMES, random.randrange(40)))


def mutate_zip(random: Random, content: bytes) -> bytes:
    """Return an archive of which one member is damaged, its checksum made to fit."""
    if random.random() < 0.2:
        return mutate_bytes(random, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(sorted(members))
    if random.random() < 0.1:
        del members[name]
    elif name.endswith(".json") and random.random() < 0.8:
        members[name] = mutate_json(random, members[name])
    else:
        members[name] = mutate_bytes(random, members[name])
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return written.getvalue()


def mutations_of(name: str) -> tuple[Mutation, ...]:
    """Return what may be done to a file of this name."""
    if name.endswith(".onnx"):
        return mutate_onnx, mutate_onnx, mutate_bytes
    if name.endswith(".json"):
        return mutate_json, mutate_json, mutate_bytes
    return (mutate_zip,) if name.endswith(".pt2") else (mutate_bytes,)

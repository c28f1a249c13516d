"""The messages of TensorFlow's files that are read, and the tensors in them.

Source: the .proto files of tensorflow/core/framework and tensorflow/core/protobuf (field numbers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from emuron.compiler.frontends.protobuf_wire import Message, Schema, bytes_of, schema
from emuron.errors import ModelFileError, UnsupportedOpError

DTYPES: Mapping[int, np.dtype[Any]] = MappingProxyType(
    {
        1: np.dtype(np.float32),
        2: np.dtype(np.float64),
        3: np.dtype(np.int32),
        4: np.dtype(np.uint8),
        5: np.dtype(np.int16),
        6: np.dtype(np.int8),
        9: np.dtype(np.int64),
        10: np.dtype(np.bool_),
        14: np.dtype(ml_dtypes.bfloat16),
        17: np.dtype(np.uint16),
        19: np.dtype(np.float16),
        22: np.dtype(np.uint32),
        23: np.dtype(np.uint64),
        24: np.dtype(ml_dtypes.float8_e5m2),
        25: np.dtype(ml_dtypes.float8_e4m3fn),
    }
)
"""NumPy dtypes of the numbers of DataType that have one here."""

STRING = 7
_OTHER_NAMES = {7: "string", 8: "complex64", 18: "complex128", 20: "resource", 21: "variant"}
_MOST_TENSOR_BYTES = 1 << 34

SHAPE = schema(dim=(2, schema(size=(1, "int")), True), unknown_rank=(3, "bool"))
TENSOR = schema(
    dtype=(1, "int"),
    shape=(2, SHAPE),
    content=(4, "bytes"),
    floats=(5, "floats"),
    doubles=(6, "doubles"),
    ints=(7, "ints"),
    strings=(8, "bytes", True),
    longs=(10, "ints"),
    bools=(11, "ints"),
    halves=(13, "ints"),
    unsigned=(16, "ints"),
    unsigned_longs=(17, "ints"),
)
_FUNCTION_NAME = schema(name=(1, "string"))
_LIST = schema(
    s=(2, "bytes", True),
    i=(3, "ints"),
    f=(4, "floats"),
    b=(5, "ints"),
    type=(6, "ints"),
    shape=(7, SHAPE, True),
    func=(9, _FUNCTION_NAME, True),
)
_ATTRIBUTE = schema(
    list=(1, _LIST),
    s=(2, "bytes"),
    i=(3, "int"),
    f=(4, "float"),
    b=(5, "bool"),
    type=(6, "int"),
    shape=(7, SHAPE),
    tensor=(8, TENSOR),
    placeholder=(9, "string"),
    func=(10, _FUNCTION_NAME),
)


def _map(value: Schema | Any) -> Schema:
    return schema(key=(1, "string"), value=(2, value))


NODE = schema(
    name=(1, "string"),
    op=(2, "string"),
    input=(3, "string", True),
    attr=(5, _map(_ATTRIBUTE), True),
)
_ARGUMENT = schema(name=(1, "string"), type=(3, "int"))
FUNCTION = schema(
    signature=(
        1,
        schema(name=(1, "string"), input=(2, _ARGUMENT, True), output=(3, _ARGUMENT, True)),
    ),
    node=(3, NODE, True),
    ret=(4, _map("string"), True),
)
GRAPH = schema(node=(1, NODE, True), library=(2, schema(function=(1, FUNCTION, True))))
_TENSOR_INFO = schema(name=(1, "string"), dtype=(2, "int"), shape=(3, SHAPE))
SIGNATURE = schema(inputs=(1, _map(_TENSOR_INFO), True), outputs=(2, _map(_TENSOR_INFO), True))
SAVED_MODEL = schema(
    meta_graph=(
        2,
        schema(
            info=(1, schema(tags=(4, "string", True))),
            graph=(2, GRAPH),
            saver=(3, schema(restore_op=(3, "string"))),
            signature=(5, _map(SIGNATURE), True),
        ),
        True,
    )
)


def mapping(entries: list[Message]) -> dict[str, Any]:
    """Return a map field as a dict."""
    return {e.get("key", ""): e.get("value", {}) for e in entries}


def np_dtype(number: int, what: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a DataType; raise UnsupportedOpError for those without numbers."""
    found = DTYPES.get(number)
    if found is None:
        name = _OTHER_NAMES.get(number, f"number {number}")
        raise UnsupportedOpError(f"{what} has the dtype {name}, which has no place on the chip")
    return found


def sizes(shape: Message, what: str) -> tuple[int, ...] | None:
    """Return the sizes of a shape, -1 where unknown; None if even the rank is unknown."""
    if shape.get("unknown_rank"):
        return None
    found = tuple(dim.get("size", 0) for dim in shape.get("dim", ()))
    if any(size < -1 for size in found):
        raise ModelFileError(f"{what} has a negative size in its shape {list(found)}")
    return found


def tensor(message: Message, what: str) -> np.ndarray:
    """Return a constant's data; raise ModelFileError if there is more or less than its shape says.

    Strings come as an array of objects that hold bytes.
    """
    shape = sizes(message.get("shape", {}), what) or ()
    number = message.get("dtype", 0)
    if -1 in shape:
        raise ModelFileError(f"{what} is a constant of an unknown shape {list(shape)}")
    count = math.prod(shape)
    if number == STRING:
        return _strings(message, shape, count, what)
    to = np_dtype(number, what)
    if count * to.itemsize > _MOST_TENSOR_BYTES:
        raise ModelFileError(f"{what} claims {count * to.itemsize} bytes of constant data")
    content = bytes_of(message, "content")
    if len(content):
        if len(content) != count * to.itemsize:
            raise ModelFileError(
                f"{what}: {to}{list(shape)} needs {count * to.itemsize} bytes, the file holds "
                f"{len(content)}"
            )
        return np.frombuffer(content, to).reshape(shape)
    return _spread(_typed(message, to), shape, count, what)


def _typed(message: Message, to: np.dtype[Any]) -> np.ndarray:
    """Return the numbers of the field that holds a dtype's data; halves are held by their bits."""
    names = ("floats", "doubles", "ints", "longs", "bools", "unsigned", "unsigned_longs")
    halves = message.get("halves")
    if halves is not None:
        return np.asarray(halves).astype(np.uint16).view(to)
    held = next((message[name] for name in names if name in message), np.zeros(0, to))
    return np.asarray(held).astype(to)


def _spread(held: np.ndarray, shape: tuple[int, ...], count: int, what: str) -> np.ndarray:
    """Return `count` elements, the last one repeated, as TensorProto shortens them."""
    if held.size > count:
        raise ModelFileError(f"{what}: {held.size} numbers do not fit into {list(shape)}")
    if held.size == count:
        return held.reshape(shape)
    if held.size <= 1:
        return np.broadcast_to(held[0] if held.size else np.zeros((), held.dtype), shape)
    return np.concatenate([held, np.full(count - held.size, held[-1])]).reshape(shape)


def _strings(message: Message, shape: tuple[int, ...], count: int, what: str) -> np.ndarray:
    held = [bytes(s) for s in message.get("strings", ())]
    if len(held) != count:
        raise ModelFileError(f"{what}: {len(held)} strings do not fill {list(shape)}")
    found = np.empty(count, object)
    found[:] = held
    return found.reshape(shape)

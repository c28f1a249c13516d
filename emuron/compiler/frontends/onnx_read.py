"""Reads ONNX files: the proto, and its tensors from the file or memory-mapped beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from emuron.compiler.frontends.onnx_types import element_name, storage_of
from emuron.compiler.frontends.weights import Loader
from emuron.errors import ModelFileError, UnsupportedOpError, UsageError, missing_extra

try:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import ModelProto, TensorProto
    from onnx.numpy_helper import to_array
except ImportError as error:
    raise missing_extra(error, "Reading an ONNX model") or error from error

FULL_OPSET = 13
"""From here on all forms are read; of older sets only operators that have not changed since."""

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What NumPy and the onnx package raise on contents that make no sense."""

_MOST_FILE_BYTES = 1 << 31
"""Protocol buffers end at 2 GiB; larger models keep their weights in files of their own."""

_TYPED_FIELDS: Mapping[int, str] = MappingProxyType(
    {
        TensorProto.FLOAT: "float_data",
        TensorProto.DOUBLE: "double_data",
        TensorProto.INT64: "int64_data",
        TensorProto.UINT32: "uint64_data",
        TensorProto.UINT64: "uint64_data",
    }
)
"""Where a tensor without raw bytes has its numbers; `int32_data` for all others."""

_BITS_OF_PACKED = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1), 4),
    **dict.fromkeys((TensorProto.INT2, TensorProto.UINT2), 2),
}


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """A model as the file has it; `folder` is where its external data may lie."""

    proto: Any
    name: str
    folder: Path | None = None

    @property
    def opsets(self) -> dict[str, int]:
        """Version of each operator set, by domain."""
        return opsets_of(self.proto.opset_import)


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file: its element type and shape, and what reads it later."""

    element: int
    shape: tuple[int, ...]
    load: Loader

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_model(source: Any, name: str | None = None) -> OnnxFile:
    """Return a model from a path, its bytes, a ModelProto, or as it was read before.

    Raises ModelFileError for what is no ONNX model, UnsupportedOpError for too old an operator
    set.
    """
    if isinstance(source, OnnxFile):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        proto = _parsed(_content(path), str(path))
        file = OnnxFile(proto, name or path.stem, path.resolve().parent)
    elif isinstance(source, bytes):
        file = OnnxFile(_parsed(source, "the ONNX model"), name or "model")
    elif isinstance(source, ModelProto):
        file = OnnxFile(source, name or source.graph.name or "model")
    else:
        raise UsageError(
            f"expected the path of an ONNX file, its bytes or a ModelProto, found "
            f"{type(source).__name__}"
        )
    _check(file)
    return file


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size >= _MOST_FILE_BYTES:
            raise ModelFileError(
                f"{path} has {size} bytes; a protocol buffer ends at {_MOST_FILE_BYTES}. Save the "
                "weights as external data: onnx.save(model, path, save_as_external_data=True)"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _parsed(content: bytes, what: str) -> Any:
    try:
        return onnx.load_model_from_string(content)
    except (DecodeError, *DAMAGE) as error:
        raise ModelFileError(
            f"{what} is no ONNX model, or is cut off: its protocol buffer of {len(content)} bytes "
            "does not parse"
        ) from error


def _check(file: OnnxFile) -> None:
    if not file.proto.graph.output:
        raise ModelFileError(f"{file.name}: the file holds no graph with outputs")
    try:
        opset = file.opsets.get("", FULL_OPSET)
    except DAMAGE as error:
        raise ModelFileError(f"{file.name}: its operator sets do not parse ({error})") from error
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise UnsupportedOpError(
            f"{file.name} uses operator set {opset}; {FULL_OPSET} to {newest} are read. Convert "
            "it with onnx.version_converter.convert_version"
        )


def opsets_of(imports: Any) -> dict[str, int]:
    """Return the version of each operator set of a model or function, by domain."""
    return {plain_domain(entry.domain): entry.version for entry in imports}


def plain_domain(domain: str) -> str:
    """Return a domain, the default one as ""."""
    return "" if domain == "ai.onnx" else domain


def stored(tensor: Any, folder: Path | None = None) -> Stored:
    """Check that a tensor's data is as long as its shape says and return how to read it.

    Raises ModelFileError for data that is missing or of another length, or lies outside the
    model's folder.
    """
    what = f"tensor {tensor.name!r}"
    shape = tuple(tensor.dims)
    if any(size < 0 for size in shape):
        raise ModelFileError(f"{what} has the shape {list(shape)}, which is none")
    element = tensor.data_type
    if element in (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        raise UnsupportedOpError(
            f"{what} is of type {element_name(element)}; only numbers are read"
        )
    needed = _stored_bytes(element, math.prod(shape), what)
    if tensor.data_location == TensorProto.EXTERNAL:
        return _external(tensor, shape, needed, folder, what)
    if tensor.HasField("raw_data"):
        found, unit = len(tensor.raw_data), "bytes"
    else:
        found, unit = len(getattr(tensor, _TYPED_FIELDS.get(element, "int32_data"))), "numbers"
        needed = needed if element in _BITS_OF_PACKED else math.prod(shape)
    if found != needed:
        raise ModelFileError(
            f"{what} of shape {list(shape)} and type {element_name(element)} needs {needed} "
            f"{unit}, but the file holds {found}; it is damaged or cut off"
        )
    return Stored(element, shape, partial(_inline, tensor))


def _inline(tensor: Any) -> np.ndarray:
    try:
        return np.asarray(to_array(tensor))
    except DAMAGE as error:
        raise ModelFileError(f"tensor {tensor.name!r} cannot be read: {error}") from error


def _stored_bytes(element: int, elements: int, what: str) -> int:
    if element in _BITS_OF_PACKED:
        return -(-elements * _BITS_OF_PACKED[element] // 8)
    try:
        return elements * storage_of(element).itemsize
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"{what} is of no known type ({element_name(element)})") from error


def _external(
    tensor: Any, shape: tuple[int, ...], needed: int, folder: Path | None, what: str
) -> Stored:
    fields = {entry.key: entry.value for entry in tensor.external_data}
    path = _inside(folder, fields.get("location", ""), what)
    try:
        offset, length = int(fields.get("offset", 0)), int(fields.get("length", needed))
        size = path.stat().st_size
    except ValueError as error:
        raise ModelFileError(f"{what}: offset and length of its data must be numbers") from error
    except OSError as error:
        raise ModelFileError(f"{what}: {path.name} cannot be read: {error.strerror}") from error
    if length != needed or not 0 <= offset <= size - needed:
        raise ModelFileError(
            f"{what} of shape {list(shape)} needs {needed} bytes, but {path.name} of {size} bytes "
            f"holds {length} at {offset}"
        )
    return Stored(tensor.data_type, shape, partial(_mapped, path, tensor.data_type, shape, offset))


def _inside(folder: Path | None, location: str, what: str) -> Path:
    """Return the file of external data, which must lie in the model's folder."""
    if folder is None:
        raise ModelFileError(f"{what} lies in {location!r}; give the path of the model to read it")
    if not location or "\0" in location:
        raise ModelFileError(f"{what} names no file for its data")
    path = (folder / location).resolve()
    if not path.is_relative_to(folder):
        raise ModelFileError(
            f"{what} points outside the model's folder: {location!r}; its data must lie within"
        )
    if not path.is_file():
        raise ModelFileError(f"{what}: its data file {location!r} is not beside the model")
    return path


def _mapped(path: Path, element: int, shape: tuple[int, ...], offset: int) -> np.ndarray:
    elements = math.prod(shape)
    if not elements:
        return np.zeros(shape, storage_of(element))
    if element not in _BITS_OF_PACKED:
        return np.memmap(path, storage_of(element), "r", offset, shape or (1,)).reshape(shape)
    count = _stored_bytes(element, elements, path.name)
    packed = np.memmap(path, np.uint8, "r", offset, (count,))
    tensor = TensorProto(data_type=element, dims=shape, raw_data=packed.tobytes())
    return np.asarray(to_array(tensor))

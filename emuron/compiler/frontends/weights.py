"""Where a model's weights come from: safetensors files, a seed, or nowhere (shapes alone)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from emuron.compiler.graph import TensorType
from emuron.errors import ModelFileError
from emuron.numerics.dtypes import DType, dtype

MOST_HEADER_BYTES = 100_000_000
"""Limit of a safetensors header, from the format's reference implementation."""

_LENGTH_BYTES = 8
_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": "bfloat16",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U64": "uint64",
        "U32": "uint32",
        "U16": "uint16",
        "U8": "uint8",
        "BOOL": "bool",
    }
)
_RANDOM_SCALE = 0.02
"""Standard deviation of random matrices: `initializer_range` of the BERT and Llama configs."""

Loader = Callable[[], np.ndarray]


class Weights(Protocol):
    """A source of named weights."""

    def has(self, name: str) -> bool:
        """Whether the source holds (or can make) the weight."""

    def loader(self, name: str, type: TensorType) -> Loader | None:
        """Return what reads the weight later, None for shapes alone; shapes are checked now."""


@dataclass(frozen=True, slots=True)
class NoWeights:
    """Shapes alone: graphs that can be timed but not run."""

    def has(self, name: str) -> bool:
        """Whether the weight exists: always."""
        return True

    def loader(self, name: str, type: TensorType) -> Loader | None:
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Weights drawn from a seed and each name: normal matrices, unit scales, zero biases."""

    seed: int

    def has(self, name: str) -> bool:
        """Whether the weight exists: always."""
        return True

    def loader(self, name: str, type: TensorType) -> Loader | None:
        """Return what draws the weight."""
        return partial(_draw, self.seed, name, type)


def _draw(seed: int, name: str, type: TensorType) -> np.ndarray:
    if name.endswith((".bias", ".running_mean")):
        return np.zeros(type.shape, np.float32)
    if type.rank == 1:
        return np.ones(type.shape, np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return rng.standard_normal(type.shape, np.float32) * np.float32(_RANDOM_SCALE)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies in a file; offsets are bytes from its start."""

    path: Path
    np_dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    def read(self) -> np.ndarray:
        """Return the tensor as a read-only memory map of the file."""
        if 0 in self.shape:
            return np.zeros(self.shape, self.np_dtype)
        return np.memmap(self.path, self.np_dtype, "r", self.start, self.shape or (1,)).reshape(
            self.shape
        )


@dataclass(frozen=True, slots=True)
class FileWeights:
    """The tensors of one or several safetensors files, memory-mapped when read."""

    folder: Path
    tensors: Mapping[str, StoredTensor]

    def has(self, name: str) -> bool:
        """Whether a file holds the weight."""
        return name in self.tensors

    def loader(self, name: str, type: TensorType) -> Loader | None:
        """Return what maps the weight; raise ModelFileError if it is missing or misshapen."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ModelFileError(
                f"{self.folder}: the weight {name!r} that config.json calls for is in no "
                f"safetensors file ({len(self.tensors)} tensors found)"
            )
        if tensor.shape != type.shape:
            raise ModelFileError(
                f"{tensor.path}: tensor {name!r} has shape {list(tensor.shape)}, but config.json "
                f"makes it {list(type.shape)}; the files do not belong together"
            )
        return tensor.read


def open_weights(folder: Path) -> FileWeights:
    """Find and check the safetensors files of a folder; raise ModelFileError naming the fault.

    Pickled weights (`pytorch_model.bin`) are never opened: unpickling runs code from the file.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():
        return FileWeights(folder, read_header(single))
    if index.is_file():
        return FileWeights(folder, _read_index(folder, index))
    pickled = sorted(p.name for p in folder.glob("*.bin"))
    if pickled:
        raise ModelFileError(
            f"{folder} holds its weights as pickle ({pickled[0]}), which can run any code when "
            "opened and is not read. Save them as safetensors: "
            "model.save_pretrained(folder, safe_serialization=True)"
        )
    raise ModelFileError(f"{folder} holds neither model.safetensors nor an index of shards")


def _read_index(folder: Path, index: Path) -> dict[str, StoredTensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelFileError(f"{index}: 'weight_map' must map tensor names to files")
    headers: dict[str, dict[str, StoredTensor]] = {}
    tensors: dict[str, StoredTensor] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise ModelFileError(f"{index}: tensor {name!r} points outside the folder: {file!r}")
        if file not in headers:
            if not (folder / file).is_file():
                raise ModelFileError(f"{index}: the shard {file!r} is missing from {folder}")
            headers[file] = read_header(folder / file)
        if name not in headers[file]:
            raise ModelFileError(f"{folder / file}: has no tensor {name!r}, which the index names")
        tensors[name] = headers[file][name]
    return tensors


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Read and check the header of a safetensors file; no tensor data is touched."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
            raise ModelFileError(
                f"{path}: not a whole safetensors file: the header claims {length} bytes, the file "
                f"has {size}; download it again"
            )
        if length > MOST_HEADER_BYTES:
            raise ModelFileError(
                f"{path}: header of {length} bytes exceeds the format's {MOST_HEADER_BYTES}"
            )
        header = _parse_object(file.read(length), path)
    base = _LENGTH_BYTES + length
    entries = {k: v for k, v in header.items() if k != "__metadata__"}
    tensors = {name: _entry(path, name, entry, base, size) for name, entry in entries.items()}
    _refuse_overlaps(path, tensors)
    return tensors


def _entry(path: Path, name: str, entry: Any, base: int, size: int) -> StoredTensor:
    def fail(why: str) -> ModelFileError:
        return ModelFileError(f"{path}: tensor {name!r} {why}; the file is damaged")

    if not isinstance(entry, dict):
        raise fail("has no description")
    stored: Any = entry.get("dtype")
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    if not isinstance(stored, str) or stored not in _DTYPES:
        raise ModelFileError(
            f"{path}: tensor {name!r} has dtype {stored!r}; known: {', '.join(_DTYPES)}"
        )
    if not _is_sizes(shape):
        raise fail(f"has shape {shape!r}, which is not a list of sizes")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise fail(f"has data_offsets {offsets!r}, which are not a start and an end")
    np_dtype = _np_dtype(_DTYPES[stored])
    needed = np_dtype.itemsize
    for extent in shape:
        needed *= extent
    start, end = offsets
    if end - start != needed:
        raise fail(f"({stored} {shape}) needs {needed} bytes, its offsets span {end - start}")
    if base + end > size:
        raise fail(f"ends at byte {base + end}, the file at {size}")
    return StoredTensor(path, np_dtype, tuple(shape), base + start)


def _np_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(np.float64) if name == "float64" else dtype(name).np


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and v >= 0 for v in value)


def _refuse_overlaps(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    end, last = 0, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        count = tensor.np_dtype.itemsize
        for extent in tensor.shape:
            count *= extent
        if count and tensor.start < end:
            raise ModelFileError(f"{path}: tensors {last!r} and {name!r} overlap; it is damaged")
        if count:
            end, last = tensor.start + count, name


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise ModelFileError if the file is missing or malformed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    return _parse_object(content, path)


def _parse_object(content: bytes, path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(content, object_pairs_hook=partial(_unique_pairs, path))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: its JSON does not parse ({error})") from error
    if not isinstance(parsed, dict):
        raise ModelFileError(f"{path}: its JSON must be an object, found {type(parsed).__name__}")
    return parsed


def _unique_pairs(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ModelFileError(f"{path}: its JSON names one key twice")
    return found


def stored_dtype(weights: Weights, name: str, default: DType) -> DType:
    """Return the dtype in which a file stores `name`, or `default` where no file does."""
    if not isinstance(weights, FileWeights) or name not in weights.tensors:
        return default
    found = weights.tensors[name].np_dtype
    return default if found == np.float64 else dtype(found)

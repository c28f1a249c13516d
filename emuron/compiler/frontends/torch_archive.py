"""Programs that `torch.export.save` wrote (`.pt2`), read without unpickling anything.

The archive is a zip file of JSON and raw tensors, stored uncompressed. Tensors that it holds as
pickles, objects and symbolic shapes (whose text PyTorch evaluates as Python) are refused.
"""

from __future__ import annotations

import json
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emuron.compiler.frontends.torch import program_to_graph, silence
from emuron.compiler.graph import Graph
from emuron.errors import ModelFileError, UnknownNameError, UnsupportedOpError, missing_extra

try:
    import torch
    from torch._export.serde import schema, serialize
except ImportError as error:
    raise missing_extra(error, "Reading a .pt2 file") or error from error

SCHEMA_VERSION = 8
"""Major version of the JSON schema of torch.export that this reader follows."""

MOST_JSON_BYTES = 1 << 30
_LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a zip entry's local header: the lengths of its name and of its extra field."""

_CODE = ("as_expr", "as_custom_obj", "as_operator", "guards_code")
"""Keys of the JSON that name objects, or hold text that PyTorch would evaluate."""


@dataclass(frozen=True, slots=True, eq=False)
class TorchProgram:
    """An exported program in a file; its shapes are fixed."""

    name: str
    path: Path
    with_data: bool = True

    @property
    def is_decoder(self) -> bool:
        """Whether it is a decoder of the native reader: never."""
        return False

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The file's one program."""
        return (("main", 1),)

    def graph(self, batch: int = 1, sequence: int = 128, task: str = "") -> Graph:
        """Build the graph, of the shapes that it was exported for.

        Raises ModelFileError for a damaged or foreign file.
        """
        if task not in ("", "main"):
            raise UnknownNameError(f"task of {self.name}", task, ("main",))
        archive = _Archive.open(self.path)
        program = _deserialized(archive)
        return program_to_graph(program, self.name, weights=self.with_data)


def load(path: str | Path, *, weights: bool = True) -> TorchProgram:
    """Open a `.pt2` file; without `weights` its graph is made of shapes alone."""
    return TorchProgram(Path(path).stem, Path(path), weights)


@dataclass(frozen=True, slots=True, eq=False)
class _Archive:
    """The entries of one archive by their names inside its one folder."""

    path: Path
    entries: Mapping[str, zipfile.ZipInfo]

    @classmethod
    def open(cls, path: Path) -> _Archive:
        try:
            with zipfile.ZipFile(path) as file:
                infos = file.infolist()
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise ModelFileError(f"{path} is no archive of torch.export: {error}") from error
        entries = {info.filename.partition("/")[2]: info for info in infos}
        if "archive_format" not in entries or "models/model.json" not in entries:
            raise ModelFileError(
                f"{path} holds no program of torch.export (no models/model.json); save one with "
                "torch.export.save(torch.export.export(module, inputs), path)"
            )
        return cls(path, entries)

    def json(self, name: str) -> Any:
        info = self._entry(name)
        if info.file_size > MOST_JSON_BYTES:
            raise ModelFileError(f"{self.path}: {name} of {info.file_size} bytes is too large")
        try:
            return json.loads(bytes(self._bytes(info)))
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{self.path}: {name} is no JSON ({error})") from error

    def tensor(self, name: str, dtype: Any) -> Any:
        """Return an entry as a flat tensor in the file's memory map."""
        held = self._bytes(self._entry(name))
        if held.size % dtype.itemsize:
            raise ModelFileError(f"{self.path}: {name} does not hold whole numbers of {dtype}")
        if not held.size:
            return torch.empty(0, dtype=dtype)
        with warnings.catch_warnings():
            # PyTorch warns that the map is read-only; nothing writes to weights.
            warnings.simplefilter("ignore")
            return torch.from_numpy(held).view(dtype)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self.entries:
            raise ModelFileError(f"{self.path}: the entry {name} is missing")
        return self.entries[name]

    def _bytes(self, info: zipfile.ZipInfo) -> np.ndarray:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ModelFileError(
                f"{self.path}: {info.filename} is compressed, which is not written"
            )
        whole = np.memmap(self.path, np.uint8, "r")
        header = whole[info.header_offset : info.header_offset + 30]
        if header.size < 30:
            raise ModelFileError(f"{self.path}: {info.filename} lies beyond the end of the file")
        start = info.header_offset + 30 + sum(_LOCAL_HEADER.unpack(header.tobytes()))
        if start + info.file_size > whole.size:
            raise ModelFileError(f"{self.path}: {info.filename} lies beyond the end of the file")
        return whole[start : start + info.file_size]


def _deserialized(archive: _Archive) -> Any:
    described = archive.json("models/model.json")
    _check(archive.path, described)
    described["guards_code"] = []
    described["range_constraints"] = {}
    weights = _tensors(archive, "weights")
    constants = _tensors(archive, "constants")
    try:
        with silence():
            program = serialize._dict_to_dataclass(schema.ExportedProgram, described)
            made = serialize.ExportedProgramDeserializer(None)
            return made.deserialize(program, weights, constants, b"")
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise ModelFileError(
            f"{archive.path}: this PyTorch ({torch.__version__}) cannot read the program: "
            f"{type(error).__name__}: {first}"
        ) from error


def _check(path: Path, described: Any) -> None:
    """Refuse another schema, and what stands for code or objects."""
    version = described.get("schema_version", {}) if isinstance(described, dict) else {}
    major = version.get("major") if isinstance(version, dict) else None
    if major != SCHEMA_VERSION:
        raise ModelFileError(
            f"{path}: schema version {major} of torch.export is not read, only {SCHEMA_VERSION}; "
            "export the module again with a newer PyTorch"
        )
    left = [described["graph_module"]] if "graph_module" in described else []
    while left:
        part = left.pop()
        if isinstance(part, dict):
            for key in _CODE:
                if part.get(key) is not None:
                    raise UnsupportedOpError(
                        f"{path}: the program has symbolic shapes or objects ({key}); export it "
                        "for static shapes, without dynamic_shapes"
                    )
            left += part.values()
        elif isinstance(part, list):
            left += part


def _tensors(archive: _Archive, kind: str) -> dict[str, Any]:
    """Return the tensors of one kind by name, as their descriptions say."""
    described = archive.json(f"data/{kind}/model_{kind}_config.json")
    config = described.get("config") if isinstance(described, dict) else None
    if not isinstance(config, dict):
        raise ModelFileError(f"{archive.path}: the list of {kind} is damaged")
    return {name: _tensor(archive, kind, name, entry) for name, entry in config.items()}


def _tensor(archive: _Archive, kind: str, name: str, entry: Any) -> Any:
    where = f"{archive.path}: {name!r}"
    if not isinstance(entry, dict) or entry.get("use_pickle", True):
        raise ModelFileError(
            f"{where} is stored as a pickle, which can run any code when opened and is not read; "
            "make it a plain contiguous tensor before export"
        )
    meta: Any = entry.get("tensor_meta")
    path = entry.get("path_name")
    try:
        dtype = serialize.deserialize_scalar_type(meta["dtype"])
        sizes, strides = ([int(n["as_int"]) for n in meta[k]] for k in ("sizes", "strides"))
        offset = int(meta["storage_offset"]["as_int"])
        flat = archive.tensor(f"data/{kind}/{path}", dtype)
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if min([*sizes, *strides, offset], default=0) < 0 or (
            0 not in sizes and last >= flat.numel()
        ):
            raise ValueError(f"sizes {sizes} reach beyond its {flat.numel()} elements")
        tensor = torch.as_strided(flat, sizes, strides, offset)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"{where} is described wrongly: {error}") from error
    return torch.nn.Parameter(tensor, False) if entry.get("is_param") else tensor
